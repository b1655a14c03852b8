//! What an image takes over from the config of its base.
//!
//! As a Dockerfile's `FROM` does it: the base's config is the beginning, and
//! what is said of the new image comes after it. Sources: the Dockerfile
//! reference, and for what it leaves open moby 28, `builder/dockerfile`, and
//! BuildKit 0.20, `frontend/dockerfile/dockerfile2llb/convert.go`.
//!
//! The base's document is somebody else's: a member that is not what the
//! specification says counts as one that is not there, and members that nobody
//! knows are kept.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::ImageConfig;
use super::config::env_name;

/// Members of `config` that are a set or a map: both images' entries are in it.
const JOINED: [&str; 3] = ["ExposedPorts", "Labels", "Volumes"];

/// Members of `config` that are for who builds on the base with a Dockerfile,
/// once.
const NOT_INHERITED: [&str; 1] = ["OnBuild"];

/// Members of the document that tell how docker made the base.
const OF_THE_BASE: [&str; 9] = [
    "Size",
    "checksum",
    "container",
    "container_config",
    "docker_version",
    "id",
    "parent",
    "parent_id",
    "throwaway",
];

/// Members of the document that have a field in [`ImageConfig`], or follow from
/// the layers.
const FIELDS: [&str; 10] = [
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

/// Returns what `own` says on top of what the document of a base says.
///
/// - `Env`: all variables; one of the same name keeps the base's first place
/// - `Labels`, `ExposedPorts`, `Volumes`: all of them
/// - `Entrypoint`: one of its own takes the base's `Cmd` away; an empty list
///   stands for none, and so does one of `Cmd`
/// - `OnBuild`: the base's is left out
/// - all else of `config`, and members that nobody knows: its own, else the
///   base's
/// - author, variant, `os.version` and `os.features`: its own, else the base's
pub(super) fn inherit(base: &Map<String, Value>, own: &ImageConfig) -> ImageConfig {
    let mut config = own.clone();
    let text = |key: &str| base.get(key).and_then(Value::as_str).map(str::to_owned);
    let text = |key: &str| text(key).filter(|text| !text.is_empty());
    config.author = own.author.clone().or_else(|| text("author"));
    let platform = &mut config.platform;
    if platform.variant().is_none() {
        platform.set_variant(text("variant"));
    }
    if platform.os_version().is_none() {
        platform.set_os_version(text("os.version"));
    }
    if platform.os_features().is_none() {
        let features = base.get("os.features").and_then(Value::as_array);
        let features: Option<Vec<String>> = features.map(|features| {
            let names = features.iter().filter_map(Value::as_str);
            names.map(str::to_owned).collect()
        });
        platform.set_os_features(features.filter(|features| !features.is_empty()));
    }
    config.other = base
        .iter()
        .filter(|(key, value)| {
            let is_left_out = [&FIELDS[..], &OF_THE_BASE]
                .iter()
                .any(|keys| keys.contains(&key.as_str()));
            !is_left_out && !value.is_null()
        })
        .map(|(key, value)| (key.clone(), value.clone()))
        .chain(own.other.clone())
        .collect();
    let empty = Map::new();
    let base = base.get("config").and_then(Value::as_object);
    config.config = run_config(base.unwrap_or(&empty), &own.config);
    config
}

/// Joins two `config` objects.
fn run_config(base: &Map<String, Value>, own: &Map<String, Value>) -> Map<String, Value> {
    let is_set = |key: &str| own.get(key).is_some_and(|value| !value.is_null());
    let is_reset = |key: &str| match key {
        "Cmd" => is_set("Entrypoint"),
        // Says how the base's command is quoted, on Windows.
        "ArgsEscaped" => is_set("Entrypoint") || is_set("Cmd"),
        _ => NOT_INHERITED.contains(&key),
    };
    let mut joined: Map<String, Value> = base
        .iter()
        .filter(|(key, value)| !value.is_null() && !is_reset(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    for (key, value) in own {
        let value = match (key.as_str(), joined.remove(key)) {
            ("Env", Some(Value::Array(base))) => env(base, value),
            (key, Some(Value::Object(mut base))) if JOINED.contains(&key) => {
                base.extend(value.as_object().cloned().unwrap_or_default());
                Value::Object(base)
            }
            _ => value.clone(),
        };
        let is_none = matches!(key.as_str(), "Entrypoint" | "Cmd")
            && value.as_array().is_some_and(Vec::is_empty);
        if !value.is_null() && !is_none {
            joined.insert(key.clone(), value);
        }
    }
    joined
}

/// Joins two lists of variables. Of a variable that the base has more than once
/// runtimes take the last, so its others go where it is given anew.
fn env(base: Vec<Value>, own: &Value) -> Value {
    let name = |value: &Value| {
        let name = value.as_str().and_then(|text| env_name(text).ok());
        name.map(str::to_owned)
    };
    let own = || own.as_array().into_iter().flatten();
    let anew: BTreeMap<String, &Value> = own().filter_map(|v| Some((name(v)?, v))).collect();
    let mut placed = BTreeSet::new();
    let mut joined = Vec::new();
    for value in base {
        match name(&value).and_then(|name| anew.get_key_value(&name)) {
            None => joined.push(value),
            Some((name, value)) if placed.insert(name) => joined.push((*value).clone()),
            Some(_) => {}
        }
    }
    let is_placed = |value: &&Value| name(value).is_some_and(|name| placed.contains(&name));
    joined.extend(own().filter(|value| !is_placed(value)).cloned());
    Value::Array(joined)
}

/// Returns the history of a base with this many layers, for the beginning of
/// another one.
///
/// It is as the base has it if that tells of as many layers as there are.
/// Docker refuses an image whose history tells of more, and who finds a layer
/// by its entry is misled by fewer; so an entry is made for each layer
/// otherwise.
pub(super) fn history(base: &Map<String, Value>, layers: usize) -> Vec<Value> {
    let told = base.get("history").and_then(Value::as_array);
    let told = told.cloned().unwrap_or_default();
    let is_empty = |entry: &Value| entry.get("empty_layer") == Some(&Value::Bool(true));
    let is_whole = told.iter().all(Value::is_object)
        && told.iter().filter(|entry| !is_empty(entry)).count() == layers;
    if is_whole {
        return told;
    }
    vec![json!({ "comment": "a layer of the base image" }); layers]
}

/// Returns the commands that the base has for who builds on it with a
/// Dockerfile.
pub(super) fn on_build(base: &Map<String, Value>) -> usize {
    let commands = base.get("config").and_then(|config| config.get("OnBuild"));
    commands.and_then(Value::as_array).map_or(0, Vec::len)
}

#[cfg(test)]
mod tests {
    use crate::oci::parse_platform;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn own(config: Value) -> ImageConfig {
        let mut own = ImageConfig::new(parse_platform("linux/amd64").unwrap());
        own.config = object(config);
        own
    }

    #[test]
    fn each_member_is_joined_as_from_does_it() {
        for (what, base, own_config, expected) in [
            (
                "nothing is said",
                json!({"Cmd": ["sh"], "Shell": ["/bin/ash", "-c"], "X": {"a": 1}}),
                json!({}),
                json!({"Cmd": ["sh"], "Shell": ["/bin/ash", "-c"], "X": {"a": 1}}),
            ),
            (
                "variables keep their place",
                json!({"Env": ["PATH=/bin", "A=1", "odd", 7, "A=2"]}),
                json!({"Env": ["A=3", "B=4", "PATH=/x"]}),
                json!({"Env": ["PATH=/x", "A=3", "odd", 7, "B=4"]}),
            ),
            (
                "null is nothing",
                json!({"Env": null, "Labels": null, "Volumes": null, "Cmd": null, "X": null}),
                json!({"Env": ["A=1"], "Labels": {"a": "b"}, "Volumes": {"/v": {}}}),
                json!({"Env": ["A=1"], "Labels": {"a": "b"}, "Volumes": {"/v": {}}}),
            ),
            (
                "what is no list or object is nothing",
                json!({"Env": "A=1", "Labels": ["a"]}),
                json!({"Env": ["B=1"], "Labels": {"a": "b"}}),
                json!({"Env": ["B=1"], "Labels": {"a": "b"}}),
            ),
            (
                "sets are joined",
                json!({"Labels": {"a": "1", "b": "1"}, "ExposedPorts": {"80/tcp": {}},
                       "Volumes": {"/a": {}}}),
                json!({"Labels": {"b": "2"}, "ExposedPorts": {"53/udp": {}},
                       "Volumes": {"/b": {}}}),
                json!({"Labels": {"a": "1", "b": "2"},
                       "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
                       "Volumes": {"/a": {}, "/b": {}}}),
            ),
            (
                "an entrypoint takes the command away",
                json!({"Entrypoint": ["/old"], "Cmd": ["sh"], "ArgsEscaped": true}),
                json!({"Entrypoint": ["/new"]}),
                json!({"Entrypoint": ["/new"]}),
            ),
            (
                "a command leaves the entrypoint",
                json!({"Entrypoint": ["/old"], "Cmd": ["sh"], "ArgsEscaped": true}),
                json!({"Cmd": ["serve"]}),
                json!({"Entrypoint": ["/old"], "Cmd": ["serve"]}),
            ),
            (
                "empty lists stand for none",
                json!({"Entrypoint": ["/old"], "Cmd": ["sh"]}),
                json!({"Entrypoint": []}),
                json!({}),
            ),
            (
                "so does an empty command alone",
                json!({"Entrypoint": ["/old"], "Cmd": ["sh"]}),
                json!({"Cmd": []}),
                json!({"Entrypoint": ["/old"]}),
            ),
            (
                "the rest is replaced",
                json!({"User": "a", "WorkingDir": "/a", "StopSignal": "SIGINT",
                       "Healthcheck": {"Test": ["CMD", "x"], "Retries": 3}, "Shell": ["/a"]}),
                json!({"User": "b", "WorkingDir": "/b", "StopSignal": "9",
                       "Healthcheck": {"Test": ["NONE"]}, "Shell": ["/b"]}),
                json!({"User": "b", "WorkingDir": "/b", "StopSignal": "9",
                       "Healthcheck": {"Test": ["NONE"]}, "Shell": ["/b"]}),
            ),
            (
                "instructions for Dockerfiles are left out",
                json!({"OnBuild": ["RUN make"], "User": "a"}),
                json!({}),
                json!({"User": "a"}),
            ),
            (
                "but not one's own",
                json!({"OnBuild": ["RUN make"]}),
                json!({"OnBuild": ["RUN ours"]}),
                json!({"OnBuild": ["RUN ours"]}),
            ),
        ] {
            let found = inherit(&object(json!({ "config": base })), &own(own_config));
            assert_eq!(Value::Object(found.config), expected, "{what}");
        }
    }

    #[test]
    fn a_base_without_a_config_object_says_nothing() {
        let own = own(json!({"User": "a"}));
        for base in [json!({}), json!({"config": null}), json!({"config": 7})] {
            assert_eq!(inherit(&object(base), &own), own);
        }
    }

    #[test]
    fn the_document_keeps_what_nobody_knows() {
        let base = object(json!({
            "author": "them", "created": "2020-01-01T00:00:00Z", "variant": "v3",
            "os": "linux", "architecture": "amd64", "os.version": "", "os.features": ["f", 1],
            "config": {}, "rootfs": {}, "history": [], "container": "abc",
            "container_config": {}, "docker_version": "20", "x": 1, "y": null, "z": 1,
        }));
        let mut own = own(json!({}));
        own.other.insert("z".into(), json!(2));
        let found = inherit(&base, &own);
        assert_eq!(Value::Object(found.other), json!({"x": 1, "z": 2}));
        assert_eq!(found.author.as_deref(), Some("them"));
        assert_eq!(found.created, None);
        assert_eq!(found.platform.variant().as_deref(), Some("v3"));
        assert_eq!(found.platform.os_version(), &None);
        assert_eq!(found.platform.os_features(), &Some(vec!["f".to_owned()]));
        own.author = Some("me".into());
        own.platform = parse_platform("linux/amd64/v2").unwrap();
        let found = inherit(&base, &own);
        assert_eq!(found.author.as_deref(), Some("me"));
        assert_eq!(found.platform.variant().as_deref(), Some("v2"));
    }

    #[test]
    fn history_tells_of_every_layer() {
        let layer = json!({"created_by": "ADD x"});
        let empty = json!({"created_by": "ENV x", "empty_layer": true});
        let told = json!({"history": [layer, empty, layer]});
        assert_eq!(
            history(&object(told.clone()), 2),
            [&layer, &empty, &layer].map(Clone::clone)
        );
        for (base, layers) in [
            (told, 3),
            (json!({}), 2),
            (json!({"history": null}), 0),
            (json!({"history": [1, 2]}), 2),
            (json!({"history": [layer, layer, layer]}), 2),
        ] {
            let made = history(&object(base), layers);
            assert_eq!(made.len(), layers);
            assert!(made.iter().all(|entry| entry.get("empty_layer").is_none()));
        }
    }
}
