//! What an image's config says besides its layers.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

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
    /// If a part is empty or has a space, or there are more than two.
    pub fn set_user(&mut self, user: &str) -> Result<()> {
        let is_odd = |c: char| c.is_whitespace() || c.is_control();
        let has_parts = user.split(':').count() <= 2 && !user.split(':').any(str::is_empty);
        if !has_parts || user.contains(is_odd) {
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

    /// Adds a port that the program listens on: `80`, which is `80/tcp`, `53/udp`,
    /// or each of a range such as `8000-8010`, as `EXPOSE` of a Dockerfile does: no
    /// runtime knows a range in a config.
    ///
    /// # Errors
    ///
    /// If it is not a port.
    pub fn add_exposed_port(&mut self, port: &str) -> Result<()> {
        let lower = port.to_ascii_lowercase();
        let (ports, protocol) = parse_ports(&lower)
            .map_err(|problem| Error::invalid(format!("port {port:?}"), problem))?;
        let exposed = object_member(&mut self.config, "ExposedPorts");
        for port in ports {
            exposed.insert(format!("{port}/{protocol}"), Value::Object(Map::new()));
        }
        Ok(())
    }

    /// Adds a directory that holds data of its own.
    ///
    /// # Errors
    ///
    /// If it is not absolute, or has a colon: what of a host is mounted there, and
    /// how, is said when a container starts.
    pub fn add_volume(&mut self, path: &str) -> Result<()> {
        absolute("volume", path)?;
        if path.contains(':') {
            return Err(Error::invalid(
                format!("volume {path:?}"),
                "expected a path in the image alone, without a colon: what is mounted there is \
                 said when a container starts",
            ));
        }
        object_member(&mut self.config, "Volumes").insert(path.into(), Value::Object(Map::new()));
        Ok(())
    }

    /// Sets the signal that stops the program: `SIGTERM`, `TERM`, `15`,
    /// `SIGRTMIN+3`.
    ///
    /// # Errors
    ///
    /// If Linux has no such signal.
    pub fn set_stop_signal(&mut self, signal: &str) -> Result<()> {
        let is_number = signal.parse::<u8>().is_ok_and(|n| (1..=64).contains(&n));
        if !is_number && !is_signal(signal.strip_prefix("SIG").unwrap_or(signal)) {
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

/// The signals of Linux but for those in real time, without `SIG`, and the other
/// names of some. Source: signal(7).
const SIGNALS: [&str; 34] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
];

/// Returns whether there is a signal of this name, without `SIG`.
fn is_signal(name: &str) -> bool {
    // Container runtimes know 15 after the first and 14 before the last.
    let in_real_time = |start: &str, sign: char, most: u8| {
        let rest = name.strip_prefix(start)?;
        let distance = rest.strip_prefix(sign);
        let is_near = |text: &str| text.parse::<u8>().is_ok_and(|n| (1..=most).contains(&n));
        Some(rest.is_empty() || distance.is_some_and(is_near))
    };
    SIGNALS.contains(&name)
        || in_real_time("RTMIN", '+', 15) == Some(true)
        || in_real_time("RTMAX", '-', 14) == Some(true)
}

/// Says what is wrong with a port or a range of ports, if anything is.
pub(super) fn check_port(port: &str) -> Result<(), &'static str> {
    parse_ports(port).map(|_| ())
}

/// Returns the ports of a range, or the one that is no range, and the protocol.
fn parse_ports(port: &str) -> Result<(RangeInclusive<u16>, &str), &'static str> {
    let (range, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let number = |text: &str| {
        text.parse::<u16>()
            .ok()
            .filter(|n| *n > 0 && text.bytes().all(|c| c.is_ascii_digit()))
    };
    let ports = number(first).zip(number(last)).filter(|(a, b)| a <= b);
    match ports {
        Some((first, last)) if matches!(protocol, "tcp" | "udp" | "sctp") => {
            Ok((first..=last, protocol))
        }
        _ => {
            Err("expected PORT[/tcp|/udp|/sctp] with a port from 1 to 65535, such as 80 or 53/udp")
        }
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
        for port in ["80", "53/UDP", "8000-8002", "9000-9001/udp"] {
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
                "ExposedPorts": {
                    "80/tcp": {}, "53/udp": {},
                    "8000/tcp": {}, "8001/tcp": {}, "8002/tcp": {},
                    "9000/udp": {}, "9001/udp": {},
                },
                "Volumes": {"/data": {}},
                "StopSignal": "SIGRTMIN+3",
            })
        );
    }

    #[test]
    fn signals_have_names_and_numbers() {
        for signal in [
            "SIGTERM", "TERM", "15", "64", "SIGRTMIN", "RTMIN+15", "RTMAX-14",
        ] {
            let mut config = empty();
            config.set_stop_signal(signal).unwrap();
            assert_eq!(config.config["StopSignal"], json!(signal));
        }
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
        for signal in [
            "",
            "0",
            "65",
            "term",
            "SIG TERM",
            "-9",
            "BOGUS",
            "SIG",
            "SIGRTMIN+16",
            "RTMAX-15",
            "RTMAX+1",
        ] {
            assert!(config.set_stop_signal(signal).is_err(), "{signal}");
        }
        for user in ["a b", "a:b c", "a\n", "a:b:c"] {
            assert!(config.set_user(user).is_err(), "{user}");
        }
        for path in ["/a:/b", "/a:ro", "a"] {
            assert!(config.add_volume(path).is_err(), "{path}");
        }
        assert_eq!(config, empty());
    }
}
