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

/// Parses a time as people, Nix and `date` write it, in UTC where it has no offset.
///
/// Taken are RFC 3339; a date or a date and a time of day, `2024-05-01`,
/// `2024-05-01 12:00` and `2024-05-01 12:00:00`; both in digits alone, `20240501`
/// and `20240501120000`, which is a flake's `lastModifiedDate`; and seconds since
/// 1970, `@1714564800`. Digits without `@` are seconds if they are not 4, 8 or 14:
/// 8 and 14 are a date, and 4 would be a year to one reader and seconds to another.
///
/// # Errors
///
/// If it is none of them, or past the year 9999.
pub fn parse_time(text: &str) -> Result<Timestamp, ParseTimestampError> {
    let refused = || ParseTimestampError {
        text: text.to_owned(),
    };
    let seconds = |digits: &str| {
        let seconds = digits.parse().map_err(|_| refused())?;
        Timestamp::from_unix_seconds(seconds).map_err(|_| refused())
    };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    if let Some(digits) = text.strip_prefix('@').filter(|text| is_number(text)) {
        return seconds(digits);
    }
    if is_number(text) {
        let date = |text: &str| format!("{}-{}-{}", &text[..4], &text[4..6], &text[6..8]);
        let written = match text.len() {
            4 => return Err(refused()),
            8 => format!("{}T00:00:00Z", date(text)),
            14 => {
                let (hour, minute, second) = (&text[8..10], &text[10..12], &text[12..]);
                format!("{}T{hour}:{minute}:{second}Z", date(text))
            }
            _ => return seconds(text),
        };
        return written.parse().map_err(|_| refused());
    }
    // What is missing at the end: nothing, the zone, the seconds, the time of day.
    let endings = ["", "Z", ":00Z", "T00:00:00Z"];
    let found = endings
        .iter()
        .find_map(|ending| format!("{text}{ending}").parse().ok());
    found.ok_or_else(refused)
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
    fn a_time_may_be_written_as_people_do() {
        for (text, spelling) in [
            ("2024-05-01", "2024-05-01T00:00:00Z"),
            ("2024-05-01 12:30", "2024-05-01T12:30:00Z"),
            ("2024-05-01 12:30:15", "2024-05-01T12:30:15Z"),
            ("2024-05-01T12:30:15", "2024-05-01T12:30:15Z"),
            ("2024-05-01T12:30:15.5", "2024-05-01T12:30:15.5Z"),
            ("2024-05-01T12:30:15+02:00", "2024-05-01T10:30:15Z"),
            ("20240501", "2024-05-01T00:00:00Z"),
            ("20240501123015", "2024-05-01T12:30:15Z"),
            ("@2024", "1970-01-01T00:33:44Z"),
            ("@20240501", "1970-08-23T06:21:41Z"),
            ("0", "1970-01-01T00:00:00Z"),
            ("86400", "1970-01-02T00:00:00Z"),
            ("1714564800", "2024-05-01T12:00:00Z"),
        ] {
            let time = parse_time(text).unwrap();
            assert_eq!(time.to_string(), spelling, "{text}");
        }
        for text in [
            "",
            "@",
            "@-1",
            "2024",
            "20241301",
            "20240501250000",
            "2024-05",
            "2024-05-01 12",
            "2024-05-01 12:30:15 UTC",
            "12:30:15",
            "yesterday",
            "99999999999999999999",
        ] {
            assert!(parse_time(text).is_err(), "{text}");
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
