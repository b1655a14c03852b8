//! Times in image configs.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// A point in time as image configs write it: RFC 3339 in UTC, such as
/// `1970-01-01T00:00:01Z`, in the years 0 to 9999.
///
/// One point in time has one spelling, so that equal times give equal digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(jiff::Timestamp);

impl Timestamp {
    /// One second past 1970, the modification time of everything in the Nix
    /// store.
    pub const STORE: Self = Self(jiff::Timestamp::constant(1, 0));

    /// Takes seconds since 1970, such as `SOURCE_DATE_EPOCH` gives.
    ///
    /// # Errors
    ///
    /// If the time is past the year 9999.
    pub fn from_unix_seconds(seconds: u64) -> Result<Self, ParseTimestampError> {
        i64::try_from(seconds)
            .ok()
            .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
            .map(Self)
            .ok_or_else(|| ParseTimestampError {
                text: seconds.to_string(),
            })
    }

    /// Returns the whole seconds since 1970, negative before.
    pub fn unix_seconds(self) -> i64 {
        self.0.as_second()
    }
}

impl Default for Timestamp {
    /// [`Timestamp::STORE`].
    fn default() -> Self {
        Self::STORE
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A text is not a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a time: expected RFC 3339 up to the year 9999, such as 1970-01-01T00:00:01Z"
)]
pub struct ParseTimestampError {
    text: String,
}

impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    /// Parses RFC 3339; an offset such as `+02:00` is turned into UTC.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // jiff reads more than RFC 3339 has: signed years, time zones in
        // brackets, dates without a dash. Those are somebody's mistake here.
        let looks_like_it = text.len() >= "1970-01-01T00:00:00Z".len()
            && text.bytes().take(4).all(|c| c.is_ascii_digit())
            && text.as_bytes()[4] == b'-'
            && matches!(text.as_bytes()[10], b'T' | b't' | b' ')
            && !text.contains('[');
        looks_like_it
            .then(|| text.parse::<jiff::Timestamp>().ok())
            .flatten()
            .filter(|time| (YEAR_0..YEAR_10000).contains(&time.as_second()))
            .map(Self)
            .ok_or_else(|| ParseTimestampError {
                text: text.to_owned(),
            })
    }
}

/// The first second of the year 0, which RFC 3339 can write.
const YEAR_0: i64 = -62_167_219_200;
/// The first second that RFC 3339 cannot write.
const YEAR_10000: i64 = 253_402_300_800;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_time_has_one_spelling() {
        for (text, spelling) in [
            ("1970-01-01T00:00:01Z", "1970-01-01T00:00:01Z"),
            ("1970-01-01T02:00:01+02:00", "1970-01-01T00:00:01Z"),
            ("1969-12-31T19:00:01-05:00", "1970-01-01T00:00:01Z"),
            ("1970-01-01t00:00:01z", "1970-01-01T00:00:01Z"),
            ("2026-11-20T23:59:59.120Z", "2026-11-20T23:59:59.12Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
            ("9999-12-30T21:59:59Z", "9999-12-30T21:59:59Z"),
        ] {
            assert_eq!(text.parse::<Timestamp>().unwrap().to_string(), spelling);
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "now",
            "1",
            "2026-11-20",
            "2026-11-20T10:00:00",
            "2026-13-20T10:00:00Z",
            "2026-11-20T25:00:00Z",
            "20261120T100000.0000Z",
            "+002026-11-20T10:00:00Z",
            "-000001-11-20T10:00:00Z",
            "2026-11-20T10:00:00+00:00[UTC]",
            "2026-11-20Té10:00:00Z",
        ] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }

    #[test]
    fn seconds_are_taken_as_they_are() {
        assert_eq!(Timestamp::from_unix_seconds(1), Ok(Timestamp::STORE));
        assert_eq!(Timestamp::STORE.to_string(), "1970-01-01T00:00:01Z");
        assert_eq!(Timestamp::default().unix_seconds(), 1);
        assert!(Timestamp::from_unix_seconds(u64::MAX).is_err());
    }
}
