//! What an image's config says besides its layers.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::oci::{Platform, Timestamp};

/// The parts of an image's config and manifest that the user decides.
///
/// [`ImageConfig::from_json`] reads one from a document; the methods change it
/// as the flags of the command line do.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageConfig {
    /// The platform of the programs in the image.
    pub platform: Platform,
    /// When the image was made; [`Timestamp::STORE`] if it is not said.
    pub created: Option<Timestamp>,
    /// Who made the image.
    pub author: Option<String>,
    /// The `config` object in the specification's spelling: `Entrypoint`,
    /// `Cmd`, `Env`, and whatever else was given, such as `Healthcheck`.
    pub config: Map<String, Value>,
    /// Members of the config document that have no field here; those that
    /// have one, and those about layers, are ignored.
    pub other: Map<String, Value>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
}

impl ImageConfig {
    /// Makes a config that says nothing.
    pub fn new(platform: Platform) -> Self {
        Self {
            platform,
            created: None,
            author: None,
            config: Map::new(),
            other: Map::new(),
            annotations: BTreeMap::new(),
        }
    }

    /// Sets the program that always runs; the old `Cmd`, which was meant for
    /// the old entrypoint, goes, as in docker.
    pub fn set_entrypoint(&mut self, arguments: &[String]) {
        self.config.remove("Cmd");
        self.config.insert("Entrypoint".into(), arguments.into());
    }

    /// Sets the arguments of the entrypoint, or the program if there is none.
    pub fn set_cmd(&mut self, arguments: &[String]) {
        self.config.insert("Cmd".into(), arguments.into());
    }

    /// Sets an environment variable, `NAME=VALUE`; one of the same name keeps
    /// its place.
    ///
    /// # Errors
    ///
    /// If there is no `=`, no name before it, or a NUL.
    pub fn set_env(&mut self, assignment: &str) -> Result<()> {
        let name = env_name(assignment).map_err(|problem| {
            Error::invalid(format!("environment variable {assignment:?}"), problem)
        })?;
        let env = array_member(&mut self.config, "Env");
        let old = env
            .iter_mut()
            .find(|old| old.as_str().and_then(|old| env_name(old).ok()) == Some(name));
        match old {
            Some(old) => *old = assignment.into(),
            None => env.push(assignment.into()),
        }
        Ok(())
    }

    /// Sets the directory in which the program starts.
    ///
    /// # Errors
    ///
    /// If it is not absolute: runtimes refuse such an image.
    pub fn set_working_dir(&mut self, path: &str) -> Result<()> {
        absolute("working directory", path)?;
        self.config.insert("WorkingDir".into(), path.into());
        Ok(())
    }

    /// Sets the user, `USER[:GROUP]` by name or number.
    ///
    /// # Errors
    ///
    /// If a part is empty or there are more than two.
    pub fn set_user(&mut self, user: &str) -> Result<()> {
        if user.split(':').count() > 2 || user.split(':').any(str::is_empty) {
            return Err(Error::invalid(
                format!("user {user:?}"),
                "expected USER[:GROUP], such as 1000:100 or nobody",
            ));
        }
        self.config.insert("User".into(), user.into());
        Ok(())
    }

    /// Sets a label, `KEY=VALUE`.
    ///
    /// # Errors
    ///
    /// If there is no `=` or no key before it.
    pub fn set_label(&mut self, assignment: &str) -> Result<()> {
        let (key, value) = split_assignment("label", assignment)?;
        object_member(&mut self.config, "Labels").insert(key.into(), value.into());
        Ok(())
    }

    /// Adds a port that the program listens on: `80`, which is `80/tcp`,
    /// `53/udp`, or a range such as `8000-8010`.
    ///
    /// # Errors
    ///
    /// If it is not a port.
    pub fn add_exposed_port(&mut self, port: &str) -> Result<()> {
        let refuse = |problem| Error::invalid(format!("port {port:?}"), problem);
        check_port(port).map_err(refuse)?;
        let full = if port.contains('/') {
            port.to_owned()
        } else {
            format!("{port}/tcp")
        };
        object_member(&mut self.config, "ExposedPorts").insert(full, Value::Object(Map::new()));
        Ok(())
    }

    /// Adds a directory that holds data of its own.
    ///
    /// # Errors
    ///
    /// If it is not absolute.
    pub fn add_volume(&mut self, path: &str) -> Result<()> {
        absolute("volume", path)?;
        object_member(&mut self.config, "Volumes").insert(path.into(), Value::Object(Map::new()));
        Ok(())
    }

    /// Sets the signal that stops the program: `SIGTERM`, `TERM`, `15`,
    /// `SIGRTMIN+3`.
    ///
    /// # Errors
    ///
    /// If it does not look like a signal.
    pub fn set_stop_signal(&mut self, signal: &str) -> Result<()> {
        let is_number = signal.parse::<u8>().is_ok_and(|n| (1..=64).contains(&n));
        let is_name = signal.starts_with(|c: char| c.is_ascii_uppercase())
            && signal
                .bytes()
                .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'+' || c == b'-');
        if !is_number && !is_name {
            return Err(Error::invalid(
                format!("stop signal {signal:?}"),
                "expected a name such as SIGTERM or a number from 1 to 64",
            ));
        }
        self.config.insert("StopSignal".into(), signal.into());
        Ok(())
    }

    /// Sets an annotation of the manifest, `KEY=VALUE`.
    ///
    /// # Errors
    ///
    /// If there is no `=` or no key before it.
    pub fn set_annotation(&mut self, assignment: &str) -> Result<()> {
        let (key, value) = split_assignment("annotation", assignment)?;
        self.annotations.insert(key.into(), value.into());
        Ok(())
    }
}

/// Returns the name in `NAME=VALUE`, or what is wrong.
pub(super) fn env_name(assignment: &str) -> Result<&str, &'static str> {
    match assignment.split_once('=') {
        Some((name, _)) if !name.is_empty() && !assignment.contains('\0') => Ok(name),
        _ => Err("expected NAME=VALUE"),
    }
}

/// Says what is wrong with a port, if anything is.
pub(super) fn check_port(port: &str) -> Result<(), &'static str> {
    let (range, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let number = |text: &str| {
        text.parse::<u16>()
            .ok()
            .filter(|n| *n > 0 && text.bytes().all(|c| c.is_ascii_digit()))
    };
    let in_order = number(first).zip(number(last)).is_some_and(|(a, b)| a <= b);
    if in_order && matches!(protocol, "tcp" | "udp" | "sctp") {
        Ok(())
    } else {
        Err("expected PORT[/tcp|/udp|/sctp] with a port from 1 to 65535, such as 80 or 53/udp")
    }
}

fn absolute(what: &str, path: &str) -> Result<()> {
    if path.starts_with('/') {
        Ok(())
    } else {
        Err(Error::invalid(
            format!("{what} {path:?}"),
            "expected an absolute path",
        ))
    }
}

fn split_assignment<'a>(what: &str, assignment: &'a str) -> Result<(&'a str, &'a str)> {
    assignment
        .split_once('=')
        .filter(|(key, _)| !key.is_empty())
        .ok_or_else(|| Error::invalid(format!("{what} {assignment:?}"), "expected KEY=VALUE"))
}

/// Returns an array of the config; what is there and no array is replaced.
fn array_member<'a>(config: &'a mut Map<String, Value>, key: &str) -> &'a mut Vec<Value> {
    if !config.get(key).is_some_and(Value::is_array) {
        config.insert(key.into(), Value::Array(Vec::new()));
    }
    config
        .get_mut(key)
        .and_then(Value::as_array_mut)
        .expect("it is an array since the line above")
}

/// Returns an object of the config; what is there and no object is replaced.
fn object_member<'a>(config: &'a mut Map<String, Value>, key: &str) -> &'a mut Map<String, Value> {
    if !config.get(key).is_some_and(Value::is_object) {
        config.insert(key.into(), Value::Object(Map::new()));
    }
    config
        .get_mut(key)
        .and_then(Value::as_object_mut)
        .expect("it is an object since the line above")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::oci::parse_platform;

    use super::*;

    fn empty() -> ImageConfig {
        ImageConfig::new(parse_platform("linux/amd64").unwrap())
    }

    #[test]
    fn edits_write_the_specified_members() {
        let mut config = empty();
        config.set_cmd(&["old".into()]);
        config.set_entrypoint(&["/bin/app".into(), "-v".into()]);
        config.set_cmd(&["serve".into()]);
        config.set_working_dir("/srv").unwrap();
        config.set_user("1000:100").unwrap();
        config.set_label("a=b=c").unwrap();
        config.set_label("empty=").unwrap();
        for port in ["80", "53/udp", "8000-8010/tcp"] {
            config.add_exposed_port(port).unwrap();
        }
        config.add_volume("/data").unwrap();
        config.set_stop_signal("SIGRTMIN+3").unwrap();
        assert_eq!(
            Value::Object(config.config),
            json!({
                "Entrypoint": ["/bin/app", "-v"],
                "Cmd": ["serve"],
                "WorkingDir": "/srv",
                "User": "1000:100",
                "Labels": {"a": "b=c", "empty": ""},
                "ExposedPorts": {"80/tcp": {}, "53/udp": {}, "8000-8010/tcp": {}},
                "Volumes": {"/data": {}},
                "StopSignal": "SIGRTMIN+3",
            })
        );
    }

    #[test]
    fn a_new_entrypoint_takes_the_old_cmd_away() {
        let mut config = empty();
        config.set_cmd(&["for the old one".into()]);
        config.set_entrypoint(&["/bin/app".into()]);
        assert_eq!(
            Value::Object(config.config),
            json!({"Entrypoint": ["/bin/app"]})
        );
    }

    #[test]
    fn a_variable_of_the_same_name_keeps_its_place() {
        let mut config = empty();
        for assignment in ["A=1", "B=2", "AB=3", "A=4=5", "B="] {
            config.set_env(assignment).unwrap();
        }
        assert_eq!(config.config["Env"], json!(["A=4=5", "B=", "AB=3"]));
    }

    #[test]
    fn values_that_no_runtime_takes_are_refused_by_name() {
        let mut config = empty();
        for (failed, expected) in [
            (
                config.set_env("A"),
                r#"environment variable "A": expected NAME=VALUE"#,
            ),
            (
                config.set_env("=1"),
                r#"environment variable "=1": expected NAME=VALUE"#,
            ),
            (
                config.set_working_dir("srv"),
                r#"working directory "srv": expected an absolute path"#,
            ),
            (
                config.add_volume(""),
                r#"volume "": expected an absolute path"#,
            ),
            (config.set_label("x"), r#"label "x": expected KEY=VALUE"#),
            (
                config.set_annotation("=x"),
                r#"annotation "=x": expected KEY=VALUE"#,
            ),
            (
                config.set_user(":1"),
                r#"user ":1": expected USER[:GROUP], such as 1000:100 or nobody"#,
            ),
        ] {
            assert_eq!(failed.unwrap_err().to_string(), expected);
        }
        for port in [
            "", "0", "65536", "+80", "80/", "80/http", "90-80", "80-", "-80", "a",
        ] {
            assert!(config.add_exposed_port(port).is_err(), "{port}");
        }
        for signal in ["", "0", "65", "term", "SIG TERM", "-9"] {
            assert!(config.set_stop_signal(signal).is_err(), "{signal}");
        }
        assert_eq!(config, empty());
    }
}
