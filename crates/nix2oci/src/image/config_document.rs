//! Image configs as people and other tools write them.
//!
//! Two documents are read: the image config of the OCI specification and of
//! docker, `{"architecture": …, "os": …, "config": {…}}`, and the `config`
//! object alone, as dockerTools and nix2container take it. Keys are found in
//! any case, as Go's JSON decoder finds them: users of nix2container write
//! `entrypoint` and `workingDir`. What is not known is kept as it is.

use serde_json::{Map, Value};

use crate::error::{Error, Location, Result};
use crate::oci::{Platform, Timestamp};

use super::ImageConfig;
use super::config::{check_port, env_name};

/// Members of an image config document. `rootfs` and `history` tell of layers
/// that the new image does not have.
const DOCUMENT_KEYS: &[&str] = &[
    "architecture",
    "author",
    "config",
    "created",
    "history",
    "os",
    "os.features",
    "os.version",
    "rootfs",
    "variant",
];

/// What a member of `config` must hold.
#[derive(Clone, Copy)]
enum Form {
    Any,
    Boolean,
    /// A string.
    Text,
    /// Strings; docker also takes a single one.
    Words,
    /// `NAME=VALUE` strings.
    Env,
    /// An object of strings.
    Labels,
    /// An object whose keys are ports.
    Ports,
    /// An object whose keys matter and whose values are empty objects.
    Set,
}

/// Members of `config`: those of the OCI specification, and of docker's image
/// configs (moby 28, `api/types/container/config.go`).
const CONFIG_KEYS: &[(&str, Form)] = &[
    ("ArgsEscaped", Form::Boolean),
    ("AttachStderr", Form::Any),
    ("AttachStdin", Form::Any),
    ("AttachStdout", Form::Any),
    ("Cmd", Form::Words),
    ("Domainname", Form::Any),
    ("Entrypoint", Form::Words),
    ("Env", Form::Env),
    ("ExposedPorts", Form::Ports),
    ("Healthcheck", Form::Any),
    ("Hostname", Form::Any),
    ("Image", Form::Any),
    ("Labels", Form::Labels),
    ("MacAddress", Form::Any),
    ("NetworkDisabled", Form::Any),
    ("OnBuild", Form::Words),
    ("OpenStdin", Form::Any),
    ("Shell", Form::Words),
    ("StdinOnce", Form::Any),
    ("StopSignal", Form::Text),
    ("StopTimeout", Form::Any),
    ("Tty", Form::Any),
    ("User", Form::Text),
    ("Volumes", Form::Set),
    ("WorkingDir", Form::Text),
];

impl ImageConfig {
    /// Reads an image config document or a bare `config` object; `document`
    /// names it in errors. What it does not say is as in
    /// [`ImageConfig::new`], with this platform.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Document`](crate::ErrorKind::Document), with the key, if
    /// it is not JSON, a member that the specification knows holds something
    /// else, or members of the one document stand among those of the other.
    pub fn from_json(document: &str, json: &[u8], platform: Platform) -> Result<Self> {
        let reader = Reader { document };
        let value: Value =
            serde_json::from_slice(json).map_err(|e| Error::json_syntax(document, &e))?;
        let Value::Object(members) = value else {
            return Err(reader.expected("", "an object", &value));
        };
        let mut parsed = Self::new(platform);
        let find = |known: &dyn Fn(&str) -> Option<&'static str>| {
            members.keys().find(|key| known(key).is_some()).cloned()
        };
        let of_document = find(&document_key);
        let is_document = of_document.is_some();
        if let (Some(outer), Some(inner)) = (of_document, find(&config_key)) {
            let problem = format!("stands beside {outer}: there it is a member of config");
            return Err(reader.wrong(&inner, problem));
        }
        if is_document {
            reader.image_config(members, &mut parsed)?;
        } else {
            parsed.config = reader.run_config("", members)?;
        }
        Ok(parsed)
    }
}

/// Members that docker once wrote, and of which nothing is checked.
const OLD_CONFIG_KEYS: &[&str] = &[
    "CpuShares",
    "Cpuset",
    "Memory",
    "MemorySwap",
    "PortSpecs",
    "VolumesFrom",
];

/// Members of the document that docker and others write.
const OTHER_KEYS: &[&str] = &[
    "Size",
    "checksum",
    "comment",
    "container",
    "container_config",
    "docker_version",
    "id",
    "parent",
    "parent_id",
    "throwaway",
];

/// A member that nobody is known to read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownKey {
    /// The key.
    pub key: String,
    /// A known key that is spelled almost the same, perhaps what was meant.
    pub similar: Option<&'static str>,
}

impl ImageConfig {
    /// Returns the members that no specification and no docker knows, which are
    /// kept as they are. Keys with a dot or a dash are somebody's own and are
    /// not among them.
    pub fn unknown_keys(&self) -> Vec<UnknownKey> {
        let config = CONFIG_KEYS.iter().map(|(known, _)| *known);
        let of_config = unknown(&self.config, config.chain(OLD_CONFIG_KEYS.iter().copied()));
        let document = DOCUMENT_KEYS.iter().chain(OTHER_KEYS).copied();
        let of_document = unknown(&self.other, document);
        of_document.into_iter().chain(of_config).collect()
    }
}

fn unknown(
    members: &Map<String, Value>,
    known: impl Iterator<Item = &'static str> + Clone,
) -> Vec<UnknownKey> {
    members
        .keys()
        .filter(|key| !key.contains(['.', '-']) && spelled(key, known.clone()).is_none())
        .map(|key| UnknownKey {
            key: key.clone(),
            similar: known.clone().find(|known| is_similar(key, known)),
        })
        .collect()
}

/// Returns whether two keys differ by a typing mistake: one letter or a sign
/// too many, missing, wrong, or swapped with the next.
fn is_similar(typed: &str, known: &str) -> bool {
    let letters = |text: &str| -> Vec<char> {
        let letters = text.chars().filter(|c| c.is_alphanumeric());
        letters.map(|c| c.to_ascii_lowercase()).collect()
    };
    let (typed, known) = (letters(typed), letters(known));
    let same = typed.iter().zip(&known).take_while(|(a, b)| a == b).count();
    let (typed, known) = (&typed[same..], &known[same..]);
    match (typed, known) {
        ([], rest) | (rest, []) => rest.len() <= 1,
        ([a, b, typed @ ..], [c, d, known @ ..]) if (a, b) == (d, c) && typed == known => true,
        ([_, fewer @ ..], [_, less @ ..]) => fewer == less || fewer == known || typed == less,
    }
}

/// Checks values and names them in errors.
struct Reader<'a> {
    document: &'a str,
}

impl Reader<'_> {
    fn image_config(&self, members: Map<String, Value>, into: &mut ImageConfig) -> Result<()> {
        for (key, value) in self.unique("", members, document_key)? {
            if value.is_null() {
                continue;
            }
            match key.as_str() {
                "architecture" => {
                    let text = self.text(&key, &value)?;
                    into.platform.set_architecture(text.into());
                }
                "os" => {
                    into.platform.set_os(self.text(&key, &value)?.into());
                }
                "variant" => {
                    let text = self.text(&key, &value)?;
                    into.platform
                        .set_variant((!text.is_empty()).then(|| text.to_owned()));
                }
                "os.version" => {
                    let text = self.text(&key, &value)?.to_owned();
                    into.platform.set_os_version(Some(text));
                }
                "os.features" => {
                    let features = self.texts(&key, &value)?;
                    into.platform.set_os_features(Some(features));
                }
                "author" => into.author = Some(self.text(&key, &value)?.to_owned()),
                "created" => {
                    let text = self.text(&key, &value)?;
                    let created = text.parse::<Timestamp>();
                    into.created = Some(created.map_err(|e| self.wrong(&key, e.to_string()))?);
                }
                "config" => match value {
                    Value::Object(config) => into.config = self.run_config("config.", config)?,
                    other => return Err(self.expected(&key, "an object", &other)),
                },
                "rootfs" | "history" => {}
                _ => {
                    into.other.insert(key, value);
                }
            }
        }
        Ok(())
    }

    /// Checks the `config` object; `prefix` is its key and a dot.
    fn run_config(&self, prefix: &str, members: Map<String, Value>) -> Result<Map<String, Value>> {
        let mut config = Map::new();
        for (key, value) in self.unique(prefix, members, config_key)? {
            let form = CONFIG_KEYS
                .iter()
                .find(|(known, _)| *known == key)
                .map_or(Form::Any, |(_, form)| *form);
            let value = self.formed(&format!("{prefix}{key}"), form, value)?;
            // docker writes null for what is not set.
            if !value.is_null() {
                config.insert(key, value);
            }
        }
        Ok(config)
    }

    /// Returns the value as the specification writes it.
    fn formed(&self, key: &str, form: Form, value: Value) -> Result<Value> {
        match (form, value) {
            (Form::Any, value) | (_, value @ Value::Null) => Ok(value),
            (Form::Boolean, value) if value.is_boolean() => Ok(value),
            (Form::Boolean, value) => Err(self.expected(key, "true or false", &value)),
            (Form::Text, value) => self.text(key, &value).map(Value::from),
            // docker's `strslice` takes a lone string as a list of one.
            (Form::Words, Value::String(word)) => Ok(Value::from(vec![word])),
            (Form::Words, value) => self.texts(key, &value).map(Value::from),
            (Form::Env, value) => {
                let env = self.texts(key, &value)?;
                for (n, assignment) in env.iter().enumerate() {
                    env_name(assignment)
                        .map_err(|e| self.wrong(&format!("{key}[{n}]"), e.to_owned()))?;
                }
                Ok(Value::from(env))
            }
            (Form::Labels, value) => {
                for (label, value) in self.object(key, &value)? {
                    self.text(&format!("{key}.{label}"), value)?;
                }
                Ok(value)
            }
            (Form::Ports, value) => {
                for port in self.object(key, &value)?.keys() {
                    check_port(port)
                        .map_err(|e| self.wrong(&format!("{key}.{port}"), e.to_owned()))?;
                }
                self.set(key, &value)
            }
            (Form::Set, value) => self.set(key, &value),
        }
    }

    /// Returns an object of empty objects; null counts as empty.
    fn set(&self, key: &str, value: &Value) -> Result<Value> {
        let mut set = Map::new();
        for (member, value) in self.object(key, value)? {
            match value {
                Value::Object(_) => set.insert(member.clone(), value.clone()),
                Value::Null => set.insert(member.clone(), Value::Object(Map::new())),
                other => {
                    return Err(self.expected(&format!("{key}.{member}"), "{}", other));
                }
            };
        }
        Ok(Value::Object(set))
    }

    fn object<'a>(&self, key: &str, value: &'a Value) -> Result<&'a Map<String, Value>> {
        value
            .as_object()
            .ok_or_else(|| self.expected(key, "an object", value))
    }

    fn text<'a>(&self, key: &str, value: &'a Value) -> Result<&'a str> {
        value
            .as_str()
            .ok_or_else(|| self.expected(key, "a string", value))
    }

    fn texts(&self, key: &str, value: &Value) -> Result<Vec<String>> {
        let items = value
            .as_array()
            .ok_or_else(|| self.expected(key, "an array of strings", value))?;
        let text = |(n, item)| Ok(self.text(&format!("{key}[{n}]"), item)?.to_owned());
        items.iter().enumerate().map(text).collect()
    }

    /// Spells the keys; two that become one are an error, since nobody could
    /// say which counts.
    fn unique(
        &self,
        prefix: &str,
        members: Map<String, Value>,
        spell: impl Fn(&str) -> Option<&'static str>,
    ) -> Result<Map<String, Value>> {
        let mut unique = Map::new();
        for (key, value) in members {
            let spelling = spell(&key).map_or_else(|| key.clone(), str::to_owned);
            if unique.insert(spelling, value).is_some() {
                let problem = "is given twice, in upper and lower case".to_owned();
                return Err(self.wrong(&format!("{prefix}{key}"), problem));
            }
        }
        Ok(unique)
    }

    fn expected(&self, key: &str, expected: &str, found: &Value) -> Error {
        let found = match found {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        };
        self.wrong(key, format!("expected {expected}, found {found}"))
    }

    fn wrong(&self, key: &str, problem: String) -> Error {
        let location = match key {
            "" => Location::Whole,
            key => Location::Key(key.to_owned()),
        };
        Error::document(self.document, location, problem)
    }
}

/// Returns a key of the document as it is spelled, if it is one.
fn document_key(key: &str) -> Option<&'static str> {
    spelled(key, DOCUMENT_KEYS.iter().copied())
}

/// Returns a key of the `config` object as it is spelled, if it is one.
fn config_key(key: &str) -> Option<&'static str> {
    spelled(key, CONFIG_KEYS.iter().map(|(known, _)| *known))
}

fn spelled(key: &str, known: impl IntoIterator<Item = &'static str>) -> Option<&'static str> {
    known
        .into_iter()
        .find(|known| known.eq_ignore_ascii_case(key))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::oci::{display_platform, parse_platform};

    use super::*;

    fn read(value: &Value) -> Result<ImageConfig> {
        let amd64 = parse_platform("linux/amd64").unwrap();
        ImageConfig::from_json("config.json", value.to_string().as_bytes(), amd64)
    }

    #[test]
    fn an_oci_document_is_read() {
        let config = read(&json!({
            "architecture": "arm", "os": "linux", "variant": "v7",
            "os.version": "1", "os.features": ["f"],
            "created": "2026-11-20T12:00:00+02:00", "author": "somebody",
            "rootfs": {"type": "layers", "diff_ids": ["sha256:00"]}, "history": [{}],
            "moby.buildkit.buildinfo.v1": "kept",
            "config": {"Entrypoint": ["/bin/app"], "Env": ["A=1"], "Healthcheck": {"Test": ["NONE"]}},
        }))
        .unwrap();
        assert_eq!(display_platform(&config.platform), "linux/arm/v7");
        assert_eq!(config.platform.os_version(), &Some("1".to_owned()));
        assert_eq!(config.created.unwrap().to_string(), "2026-11-20T10:00:00Z");
        assert_eq!(config.author.as_deref(), Some("somebody"));
        assert_eq!(
            Value::Object(config.other),
            json!({"moby.buildkit.buildinfo.v1": "kept"})
        );
        assert_eq!(
            Value::Object(config.config),
            json!({"Entrypoint": ["/bin/app"], "Env": ["A=1"], "Healthcheck": {"Test": ["NONE"]}})
        );
    }

    #[test]
    fn a_bare_config_is_read_in_any_case() {
        let config = read(&json!({
            "entrypoint": "/bin/app", "CMD": null, "env": ["A=1"], "workingDir": "/srv",
            "exposedPorts": {"80": {}, "53/udp": null}, "volumes": {"/data": {}},
            "labels": {"a": "b"}, "onbuild": ["RUN x"], "argsEscaped": true,
            "shell": ["/bin/sh", "-c"], "stopSignal": "SIGINT", "x-own": {"kept": [1]},
        }))
        .unwrap();
        assert_eq!(display_platform(&config.platform), "linux/amd64");
        assert_eq!(
            Value::Object(config.config),
            json!({
                "Entrypoint": ["/bin/app"], "Env": ["A=1"], "WorkingDir": "/srv",
                "ExposedPorts": {"80": {}, "53/udp": {}}, "Volumes": {"/data": {}},
                "Labels": {"a": "b"}, "OnBuild": ["RUN x"], "ArgsEscaped": true,
                "Shell": ["/bin/sh", "-c"], "StopSignal": "SIGINT", "x-own": {"kept": [1]},
            })
        );
    }

    #[test]
    fn keys_that_nobody_reads_are_found() {
        let config = read(&json!({
            "author": "me", "docker_version": "1", "autor": "me", "moby.x": 1,
            "config": {
                "Entrypint": [], "Volums": {}, "Evn": [], "Cmdd": [], "working_dir": "/",
                "Healthcheck": {}, "MEMORY": 1, "x-own": 1, "Ports": 1,
            },
        }))
        .unwrap();
        let found = config.unknown_keys();
        let found: Vec<_> = found.iter().map(|f| (f.key.as_str(), f.similar)).collect();
        let expected = [
            ("autor", Some("author")),
            ("Cmdd", Some("Cmd")),
            ("Entrypint", Some("Entrypoint")),
            ("Evn", Some("Env")),
            ("Ports", None),
            ("Volums", Some("Volumes")),
            ("working_dir", Some("WorkingDir")),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn any_key_of_a_document_makes_it_one() {
        let config = read(&json!({"os": "linux", "author": "me"})).unwrap();
        assert_eq!(config.author.as_deref(), Some("me"));
        assert!(config.config.is_empty());
        let first = read(&json!({"Created": "1970-01-01T00:00:01Z"})).unwrap();
        assert_eq!(first.created, Some(Timestamp::STORE));
        assert_eq!(read(&json!({})).unwrap().created, None);
    }

    #[test]
    fn an_error_names_the_document_and_the_key() {
        for (value, expected) in [
            (json!([]), "expected an object, found an array"),
            (
                json!({"config": {"Env": ["A=1", "B=2", 3]}}),
                ", key config.Env[2]: expected a string, found a number",
            ),
            (json!({"Env": ["A"]}), ", key Env[0]: expected NAME=VALUE"),
            (
                json!({"env": {"A": "1"}}),
                ", key Env: expected an array of strings, found an object",
            ),
            (
                json!({"config": []}),
                ", key config: expected an object, found an array",
            ),
            (
                json!({"Cmd": [null]}),
                ", key Cmd[0]: expected a string, found null",
            ),
            (
                json!({"Labels": {"a": 1}}),
                ", key Labels.a: expected a string, found a number",
            ),
            (
                json!({"ExposedPorts": {"http": {}}}),
                ", key ExposedPorts.http: expected PORT",
            ),
            (
                json!({"Volumes": {"/a": 1}}),
                ", key Volumes./a: expected {}, found a number",
            ),
            (
                json!({"ArgsEscaped": 1}),
                ", key ArgsEscaped: expected true or false, found a number",
            ),
            (json!({"Env": [], "env": []}), ", key env: is given twice"),
            (
                json!({"author": "me", "Env": []}),
                ", key Env: stands beside author: there it is a member of config",
            ),
            (
                json!({"config": {}, "created": "yesterday"}),
                ", key created: \"yesterday\" is not a time",
            ),
            (
                json!({"config": {}, "os": 1}),
                ", key os: expected a string, found a number",
            ),
        ] {
            let message = read(&value).unwrap_err().to_string();
            let start = "config.json";
            assert!(
                message.starts_with(start) && message.contains(expected),
                "{message}"
            );
        }
        let amd64 = parse_platform("linux/amd64").unwrap();
        let error = ImageConfig::from_json("config.json", b"{\n\n oops", amd64).unwrap_err();
        let message = error.to_string();
        assert!(
            message.starts_with("config.json, line 3, column ") && message.contains(": not JSON: "),
            "{message}"
        );
    }
}
