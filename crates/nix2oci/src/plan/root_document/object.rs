//! JSON objects whose members are known, and errors that name the key.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use serde_json::{Map, Value};

use crate::error::{Error, Location, Result};
use crate::plan::root_tree::check_path;

/// An object that is read member by member.
pub(super) struct Object<'a> {
    document: &'a str,
    /// Where in the document, empty for all of it.
    key: String,
    members: Map<String, Value>,
}

impl<'a> Object<'a> {
    /// Takes an object that has no other members than these.
    pub(super) fn new(
        document: &'a str,
        key: String,
        value: Value,
        known: &[&str],
    ) -> Result<Self> {
        let Value::Object(members) = value else {
            return Err(expected(document, &key, "an object", &value));
        };
        let object = Self {
            document,
            key,
            members,
        };
        let mut keys = object.members.keys();
        match keys.find(|key| !known.contains(&key.as_str())) {
            Some(unknown) => {
                let problem = format!("it is not a known key; known are {}", known.join(", "));
                Err(object.wrong(unknown, problem))
            }
            None => Ok(object),
        }
    }

    /// Returns an error about a member; about the object if `member` is empty.
    pub(super) fn wrong(&self, member: &str, problem: impl Into<String>) -> Error {
        wrong(self.document, &self.at(member), problem)
    }

    /// Returns the document's name and the key of a member.
    pub(super) fn location(&self, member: &str) -> (String, String) {
        (self.document.to_owned(), self.at(member))
    }

    fn at(&self, member: &str) -> String {
        match (self.key.as_str(), member) {
            ("", member) => member.to_owned(),
            (key, "") => key.to_owned(),
            (key, member) => format!("{key}.{member}"),
        }
    }

    fn expected(&self, member: &str, what: &str, found: &Value) -> Error {
        expected(self.document, &self.at(member), what, found)
    }

    /// Takes a member that is not null.
    pub(super) fn take(&mut self, member: &str) -> Option<Value> {
        self.members.remove(member).filter(|value| !value.is_null())
    }

    pub(super) fn text(&mut self, member: &str) -> Result<Option<String>> {
        match self.take(member) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.expected(member, "a string", &other)),
        }
    }

    pub(super) fn required(&mut self, member: &str) -> Result<String> {
        let text = self.text(member)?;
        text.ok_or_else(|| self.wrong(member, "it is missing"))
    }

    pub(super) fn flag(&mut self, member: &str) -> Result<Option<bool>> {
        match self.take(member) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(self.expected(member, "true or false", &other)),
        }
    }

    /// Takes a number of a user or a group.
    pub(super) fn id(&mut self, member: &str) -> Result<Option<u32>> {
        let Some(value) = self.take(member) else {
            return Ok(None);
        };
        // The largest stands for "no user" in system calls.
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        match id.filter(|id| *id != u32::MAX) {
            Some(id) => Ok(Some(id)),
            None if value.is_number() => {
                Err(self.wrong(member, format!("{value} is not from 0 to 4294967294")))
            }
            None => Err(self.expected(member, "a number", &value)),
        }
    }

    /// Takes permission bits: octal digits in a string, since JSON has no octal
    /// numbers.
    pub(super) fn mode(&mut self, member: &str) -> Result<Option<u32>> {
        let expected = "octal digits in a string, such as \"0755\"";
        let text = match self.take(member) {
            None => return Ok(None),
            Some(Value::String(text)) => text,
            Some(other) => return Err(self.expected(member, expected, &other)),
        };
        let is_octal = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let mode = u32::from_str_radix(&text, 8).ok();
        match mode.filter(|mode| is_octal && *mode <= 0o7777) {
            Some(mode) => Ok(Some(mode)),
            None => Err(self.wrong(member, format!("{text:?} is no mode: expected {expected}"))),
        }
    }

    /// Takes an absolute path in the image; returns it without its first slash.
    pub(super) fn place(&mut self, member: &str) -> Result<Vec<u8>> {
        let text = self.required(member)?;
        self.parse_place(member, &text)
    }

    /// Reads an absolute path in the image, as [`place`](Self::place) does.
    pub(super) fn parse_place(&self, member: &str, text: &str) -> Result<Vec<u8>> {
        let Some(place) = text.strip_prefix('/') else {
            let problem = format!("{text:?} is no path in the image: expected one from / on");
            return Err(self.wrong(member, problem));
        };
        let place = place.strip_suffix('/').unwrap_or(place);
        if !place.is_empty()
            && let Err(problem) = check_path(place.as_bytes())
        {
            return Err(self.wrong(member, format!("{text:?}: {problem}")));
        }
        Ok(place.as_bytes().to_vec())
    }

    pub(super) fn texts(&mut self, member: &str) -> Result<Vec<String>> {
        let items = self.items(member)?;
        let texts = items.into_iter().map(|(key, item)| match item {
            Value::String(text) => Ok(text),
            other => Err(expected(self.document, &key, "a string", &other)),
        });
        texts.collect()
    }

    /// Takes an array of objects that have no other members than these.
    pub(super) fn objects(&mut self, member: &str, known: &[&str]) -> Result<Vec<Self>> {
        let items = self.items(member)?;
        items
            .into_iter()
            .map(|(key, item)| Self::new(self.document, key, item, known))
            .collect()
    }

    /// Takes an object that has no other members than these.
    pub(super) fn object(&mut self, member: &str, known: &[&str]) -> Result<Option<Self>> {
        let value = self.take(member);
        let object = value.map(|value| Self::new(self.document, self.at(member), value, known));
        object.transpose()
    }

    fn items(&mut self, member: &str) -> Result<Vec<(String, Value)>> {
        match self.take(member) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => {
                let at = self.at(member);
                let items = items.into_iter().enumerate();
                Ok(items
                    .map(|(n, item)| (format!("{at}[{n}]"), item))
                    .collect())
            }
            Some(other) => Err(self.expected(member, "an array", &other)),
        }
    }

    pub(super) fn bytes(&mut self, member: &str) -> Result<Option<Vec<u8>>> {
        let text = self.text(member)?;
        text.map(|text| self.decode(member, &text)).transpose()
    }

    fn decode(&self, member: &str, text: &str) -> Result<Vec<u8>> {
        let decoded = BASE64.decode(text.as_bytes());
        decoded.map_err(|e| self.wrong(member, format!("expected base 64: {e}")))
    }

    /// Takes extended attributes: strings, or objects with bytes in base 64.
    pub(super) fn xattrs(&mut self, member: &str) -> Result<BTreeMap<String, Vec<u8>>> {
        let names = match self.take(member) {
            None => return Ok(BTreeMap::new()),
            Some(Value::Object(names)) => names,
            Some(other) => return Err(self.expected(member, "an object", &other)),
        };
        let mut xattrs = BTreeMap::new();
        for (name, value) in names {
            let key = self.at(&format!("{member}.{name}"));
            let bytes = match value {
                Value::String(text) => text.into_bytes(),
                Value::Object(_) => {
                    let mut value = Self::new(self.document, key, value, &["base64"])?;
                    let bytes = value.bytes("base64")?;
                    bytes.ok_or_else(|| value.wrong("base64", "it is missing"))?
                }
                other => {
                    let what = "a string, or {\"base64\": …}";
                    return Err(expected(self.document, &key, what, &other));
                }
            };
            xattrs.insert(name, bytes);
        }
        Ok(xattrs)
    }
}

fn expected(document: &str, key: &str, expected: &str, found: &Value) -> Error {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    wrong(document, key, format!("expected {expected}, found {found}"))
}

fn wrong(document: &str, key: &str, problem: impl Into<String>) -> Error {
    let location = match key {
        "" => Location::Whole,
        key => Location::Key(key.to_owned()),
    };
    Error::document(document, location, problem)
}
