//! JSON that knows where it is.
//!
//! A document is checked as a whole once; after that each part is a slice of
//! its text, read when it is asked for, so memory grows with the longest entry
//! and not with a tree of the document. Every part knows its key path, such as
//! `graph[3].references[1]`, for errors.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::{Error, Location, Result};

/// A part of a well-formed JSON document.
#[derive(Clone, Copy)]
pub(super) struct Json<'t, 'k> {
    document: &'k str,
    key: Key<'k>,
    text: &'t str,
}

/// The way from the whole document to a part of it.
#[derive(Clone, Copy)]
enum Key<'k> {
    Whole,
    Member(&'k Key<'k>, &'k str),
    Element(&'k Key<'k>, usize),
}

impl<'t, 'k> Json<'t, 'k> {
    /// Checks that `bytes` are one JSON document in UTF-8.
    pub(super) fn parse(bytes: &'t [u8], document: &'k str) -> Result<Self> {
        let raw: &RawValue =
            serde_json::from_slice(bytes).map_err(|error| Error::json_syntax(document, &error))?;
        Ok(Self {
            document,
            key: Key::Whole,
            text: raw.get(),
        })
    }

    /// Makes an error about this part.
    pub(super) fn error(&self, problem: impl Into<String>) -> Error {
        Error::document(self.document, self.location(), problem)
    }

    /// Returns the place of this part.
    pub(super) fn location(&self) -> Location {
        match self.key {
            Key::Whole => Location::Whole,
            key => Location::Key(key.to_string()),
        }
    }

    /// Returns the member `name` of this object, which the caller found.
    pub(super) fn member<'b>(&'b self, name: &'b str, text: &'t str) -> Json<'t, 'b> {
        Json {
            document: self.document,
            key: Key::Member(&self.key, name),
            text,
        }
    }

    /// Returns element number `n` of this array, from 0, which the caller
    /// found.
    pub(super) fn element<'b>(&'b self, n: usize, text: &'t str) -> Json<'t, 'b> {
        Json {
            document: self.document,
            key: Key::Element(&self.key, n),
            text,
        }
    }

    pub(super) fn is_array(&self) -> bool {
        self.text.starts_with('[')
    }

    pub(super) fn is_null(&self) -> bool {
        self.text == "null"
    }

    /// Returns the members of an object, in the order of the document.
    pub(super) fn members(&self, expected: &str) -> Result<Members<'t>> {
        self.read(expected)
    }

    /// Returns the texts of an array's elements.
    pub(super) fn elements(&self, expected: &str) -> Result<Vec<&'t str>> {
        let elements: Vec<&'t RawValue> = self.read(expected)?;
        Ok(elements.into_iter().map(RawValue::get).collect())
    }

    pub(super) fn string(&self, expected: &str) -> Result<String> {
        self.read(expected)
    }

    /// Returns a number that is whole and not negative.
    pub(super) fn whole_number(&self, expected: &str) -> Result<u64> {
        self.read(expected)
    }

    pub(super) fn boolean(&self, expected: &str) -> Result<bool> {
        self.read(expected)
    }

    /// The document is well-formed, so what fails here is of another type.
    fn read<T: Deserialize<'t>>(&self, expected: &str) -> Result<T> {
        serde_json::from_str(self.text)
            .map_err(|_| self.error(format!("expected {expected}, found {}", self.shown())))
    }

    /// Returns what is there, in a few words.
    fn shown(&self) -> String {
        const LONGEST: usize = 80;
        match self.text.as_bytes().first() {
            Some(b'{') => "an object".to_owned(),
            Some(b'[') => "an array".to_owned(),
            _ if self.text.chars().count() <= LONGEST => self.text.to_owned(),
            _ => {
                let start: String = self.text.chars().take(LONGEST).collect();
                format!("{start}…")
            }
        }
    }
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Whole => Ok(()),
            Self::Element(parent, n) => write!(f, "{parent}[{n}]"),
            Self::Member(parent, name) => {
                let plain = name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
                match (plain && !name.is_empty(), parent) {
                    (true, Self::Whole) => f.write_str(name),
                    (true, _) => write!(f, "{parent}.{name}"),
                    (false, _) => write!(f, "{parent}[{name:?}]"),
                }
            }
        }
    }
}

/// The members of an object: their names and texts, in order, a repeated name
/// as often as it is there.
pub(super) struct Members<'t>(Vec<(String, &'t str)>);

impl<'t> Members<'t> {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &'t str)> {
        self.0.iter().map(|(name, text)| (name.as_str(), *text))
    }

    /// Returns the last member of that name, as JSON readers commonly do.
    pub(super) fn find(&self, name: &str) -> Option<&'t str> {
        let mut named = self.0.iter().rev().filter(|(n, _)| n == name);
        named.next().map(|(_, text)| *text)
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((name, raw)) = map.next_entry::<String, &RawValue>()? {
                    members.push((name, raw.get()));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_knows_its_key_path() {
        let text = r#"{"a": [{"/x y": 1}], "a": 2}"#;
        let whole = Json::parse(text.as_bytes(), "doc").unwrap();
        let members = whole.members("an object").unwrap();
        assert_eq!(members.find("a"), Some("2"));
        let (name, list) = members.iter().next().unwrap();
        let list = whole.member(name, list);
        let elements = list.elements("an array").unwrap();
        let first = list.element(0, elements[0]);
        let inside = first.members("an object").unwrap();
        let (name, number) = inside.iter().next().unwrap();
        let number = first.member(name, number);
        assert_eq!(
            number.string("a name").unwrap_err().to_string(),
            r#"doc, key a[0]["/x y"]: expected a name, found 1"#
        );
        assert_eq!(
            list.string("a name").unwrap_err().to_string(),
            "doc, key a: expected a name, found an array"
        );
    }

    #[test]
    fn syntax_errors_name_line_and_column() {
        for (text, problem) in [
            (
                &b"{\n  \"a\": ,\n}"[..],
                "doc, line 2, column 8: not JSON: expected value",
            ),
            (
                b"[1, 2",
                "doc, line 1, column 5: not JSON: EOF while parsing a list",
            ),
            (
                b"",
                "doc, line 1, column 0: not JSON: EOF while parsing a value",
            ),
            (
                b"[] []",
                "doc, line 1, column 4: not JSON: trailing characters",
            ),
            (
                b"[\"\xff\"]",
                "doc, line 1, column 3: not JSON: invalid unicode code point",
            ),
        ] {
            let error = Json::parse(text, "doc").map(|_| ()).unwrap_err();
            assert_eq!(error.to_string(), problem);
        }
    }

    #[test]
    fn what_only_looks_like_text_or_a_number_is_refused() {
        for text in [r#""\ud800""#, "1e999", "-1", "1.5", "null", "[]"] {
            let part = Json::parse(text.as_bytes(), "doc").unwrap();
            assert!(part.whole_number("a number").is_err(), "{text}");
            assert!(part.string("a text").is_err(), "{text}");
        }
    }
}
