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

impl Owner {
    /// Finds out whose numbers a file cannot have: the largest one says "leave
    /// it" to chown(2), so that the file would stay that of who unpacks it.
    pub(crate) fn check(self) -> Result<(), String> {
        if self.uid == u32::MAX || self.gid == u32::MAX {
            let Self { uid, gid } = self;
            return Err(format!(
                "the owner {uid}:{gid} has a number over 4294967294"
            ));
        }
        Ok(())
    }
}

/// A text is neither `UID:GID` nor `UID`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an owner: expected UID:GID in numbers, such as 1000:100, or UID for both")]
pub struct ParseOwnerError {
    text: String,
}

impl FromStr for Owner {
    type Err = ParseOwnerError;

    /// Parses `UID:GID`; a user alone stands for the group of its number as well.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (uid, gid) = text.split_once(':').unwrap_or((text, text));
        parse_id(uid)
            .zip(parse_id(gid))
            .map(|(uid, gid)| Self { uid, gid })
            .filter(|owner| owner.check().is_ok())
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
        assert!("4294967294:4294967294".parse::<Owner>().is_ok());
        let both = Owner {
            uid: 1000,
            gid: 1000,
        };
        assert_eq!("1000".parse(), Ok(both));
        for text in [
            "",
            ":",
            "1000:",
            "root",
            "root:root",
            "1:+1",
            "1:01",
            "1:2:3",
            "4294967296:0",
            "4294967295:0",
            "0:4294967295",
        ] {
            assert!(text.parse::<Owner>().is_err(), "{text}");
        }
    }
}
