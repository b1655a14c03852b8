//! Who a file belongs to.

use std::str::FromStr;

/// A user and a group, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// A text is not `UID:GID`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an owner: expected UID:GID in numbers, such as 1000:100")]
pub struct ParseOwnerError {
    text: String,
}

impl FromStr for Owner {
    type Err = ParseOwnerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split_once(':')
            .and_then(|(uid, gid)| {
                Some(Self {
                    uid: parse_id(uid)?,
                    gid: parse_id(gid)?,
                })
            })
            .ok_or_else(|| ParseOwnerError {
                text: text.to_owned(),
            })
    }
}

/// Reads a number that is nothing but digits, without a zero in front.
fn parse_id(text: &str) -> Option<u32> {
    let is_plain =
        text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    is_plain.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_two_numbers() {
        let owner = Owner { uid: 1000, gid: 0 };
        assert_eq!("1000:0".parse(), Ok(owner));
        for text in [
            "",
            "1000",
            "root:root",
            "1:+1",
            "1:01",
            "1:2:3",
            "4294967296:0",
        ] {
            assert!(text.parse::<Owner>().is_err(), "{text}");
        }
    }
}
