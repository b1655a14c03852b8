//! What changed of a config.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::diff::meaningful;

/// A field of the config that changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ConfigChange {
    /// The field as the config spells it, and for a variable, a label and the
    /// like its name: `Entrypoint`, `Env PATH`, `Labels maintainer`.
    /// `platform` is operating system, architecture and variant in one.
    pub field: String,
    /// What it was; none if it was not there or empty.
    pub from: Option<Value>,
    /// What it is; none if it is not there or empty.
    pub to: Option<Value>,
}

/// Compares two configs but for what tells of the layers, in the order of the
/// fields' names.
pub(super) fn config_changes(from: &Value, to: &Value) -> Vec<ConfigChange> {
    let (from, to) = (fields(from), fields(to));
    let names: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    names
        .into_iter()
        .filter(|name| from.get(*name) != to.get(*name))
        .map(|name| ConfigChange {
            field: name.clone(),
            from: from.get(name).cloned(),
            to: to.get(name).cloned(),
        })
        .collect()
}

/// Returns what a config says, field by field.
fn fields(config: &Value) -> BTreeMap<String, Value> {
    let mut fields = BTreeMap::new();
    let part = |name: &str| config.get(name).and_then(Value::as_str).unwrap_or_default();
    let platform = [part("os"), part("architecture"), part("variant")];
    let platform: Vec<_> = platform.into_iter().filter(|p| !p.is_empty()).collect();
    fields.insert("platform".to_owned(), Value::String(platform.join("/")));
    for (name, value) in config.as_object().into_iter().flatten() {
        match name.as_str() {
            "os" | "architecture" | "variant" | "rootfs" | "history" => {}
            "config" => inner_fields(value, &mut fields),
            _ => {
                fields.extend(meaningful(value).map(|value| (name.clone(), value.clone())));
            }
        }
    }
    fields
}

/// Adds the fields of the `config` object.
fn inner_fields(config: &Value, fields: &mut BTreeMap<String, Value>) {
    for (name, value) in config.as_object().into_iter().flatten() {
        match meaningful(value) {
            None => {}
            Some(Value::Array(items)) if name == "Env" => {
                for item in items {
                    let item = item.as_str().unwrap_or_default();
                    let (variable, value) = item.split_once('=').unwrap_or((item, ""));
                    fields.insert(format!("Env {variable}"), value.into());
                }
            }
            Some(Value::Object(members))
                if matches!(name.as_str(), "Labels" | "ExposedPorts" | "Volumes") =>
            {
                for (member, value) in members {
                    fields.insert(format!("{name} {member}"), value.clone());
                }
            }
            Some(value) => {
                fields.insert(name.clone(), value.clone());
            }
        }
    }
}
