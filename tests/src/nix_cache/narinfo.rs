//! The text of a narinfo.

use std::fmt;

use super::key::CacheKey;

/// A narinfo as text: its lines in their order, right or wrong.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NarInfoText(Vec<(String, String)>);

impl NarInfoText {
    /// Splits a text into lines of `Key: value`.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().map(|line| {
            let (key, value) = line.split_once(':').expect("a line has a key");
            (key.to_owned(), value.trim_start().to_owned())
        });
        Self(lines.collect())
    }

    /// Returns the first value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        let mut lines = self.0.iter();
        let line = lines.find(|(k, _)| k == key);
        line.map(|(_, value)| value.as_str())
    }

    /// Replaces the first value of a key, or appends a line.
    pub fn set(&mut self, key: &str, value: &str) {
        match self.0.iter_mut().find(|(k, _)| k == key) {
            Some(line) => value.clone_into(&mut line.1),
            None => self.add(key, value),
        }
    }

    /// Appends a line.
    pub fn add(&mut self, key: &str, value: &str) {
        self.0.push((key.to_owned(), value.to_owned()));
    }

    /// Removes all lines of a key.
    pub fn remove(&mut self, key: &str) {
        self.0.retain(|(k, _)| k != key);
    }

    /// Returns what is signed: version, path, NAR hash and size, and the full
    /// paths of the references.
    pub fn fingerprint(&self) -> String {
        let value = |key| self.get(key).unwrap_or_default();
        let path = value("StorePath");
        let (store_dir, _) = path.rsplit_once('/').expect("it is a full path");
        let references = value("References").split(' ').filter(|r| !r.is_empty());
        let references: Vec<_> = references.map(|r| format!("{store_dir}/{r}")).collect();
        let (hash, size) = (value("NarHash"), value("NarSize"));
        format!("1;{path};{hash};{size};{}", references.join(","))
    }

    /// Replaces all signatures by that of a key.
    pub fn sign(&mut self, key: &CacheKey) {
        self.remove("Sig");
        self.add("Sig", &key.sign(&self.fingerprint()));
    }
}

impl fmt::Display for NarInfoText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = self.0.iter();
        lines.try_for_each(|(key, value)| writeln!(f, "{key}: {value}"))
    }
}
