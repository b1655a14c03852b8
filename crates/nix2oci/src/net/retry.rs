//! When a request is repeated, and after how long.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

use super::HttpError;
use crate::error::{Error, ErrorKind};

/// The longest wait that a server may ask for.
pub(crate) const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// Before the first repetition; each further one waits twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// The longest wait that nobody asked for.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Returns whether an answer with this status may be another one later.
pub(crate) fn is_passing_status(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

/// Returns whether what failed may succeed later: a connection broke that is
/// not refused for a lasting reason, or the server was busy.
pub(crate) fn may_pass(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Connection { source, .. } => source
            .downcast_ref::<HttpError>()
            .is_some_and(HttpError::passes),
        ErrorKind::Answer { status, .. } => status.is_some_and(is_passing_status),
        _ => false,
    }
}

/// Says in an error that a request was repeated in vain.
pub(crate) fn gave_up(error: Error, tries: u32) -> Error {
    if tries < 2 {
        return error;
    }
    match error.into_kind() {
        ErrorKind::Answer {
            host,
            action,
            status,
            problem,
        } => ErrorKind::Answer {
            host,
            action,
            status,
            problem: format!("{problem} (tried {tries} times)"),
        },
        ErrorKind::Connection {
            host,
            action,
            source,
        } => ErrorKind::Connection {
            host,
            action: format!("{action} ({tries} times)"),
            source,
        },
        kind => kind,
    }
    .into()
}

/// Returns the wait before a repetition, counted from 1: 0.5 s, 1 s, 2 s, …,
/// each half as much more or less so that clients that failed together do not
/// come back together.
pub(crate) fn backoff(attempt: u32) -> Duration {
    // std's one source of chance; no output depends on it.
    let chance = RandomState::new().hash_one(attempt) % 1001;
    backoff_by(attempt, chance as f64 / 1000.0)
}

/// `chance` is between 0 and 1.
fn backoff_by(attempt: u32, chance: f64) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1 << attempt.saturating_sub(1).min(10));
    doubled.min(MAX_WAIT).mul_f64(0.5 + chance).min(MAX_WAIT)
}

/// Parses `Retry-After`: seconds, or a date, which counts from the date of the
/// answer itself (RFC 9110, 10.2.3), because clocks differ and this library
/// reads none.
pub(crate) fn parse_retry_after(value: &str, date: Option<&str>) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|c| c.is_ascii_digit()) {
        // More digits than fit are a very long time.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let wait = parse_date(value)?.duration_since(parse_date(date?)?);
    Some(wait.try_into().unwrap_or(Duration::ZERO))
}

fn parse_date(text: &str) -> Option<Timestamp> {
    DateTimeParser::new().parse_timestamp(text.trim()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waits_are_read() {
        let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        for (value, date, expected) in [
            ("0", None, Some(0)),
            (" 120 ", None, Some(120)),
            ("99999999999999999999999", None, Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", date, Some(30)),
            ("Sun, 06 Nov 1994 08:49:07 GMT", date, Some(0)),
            ("Mon, 07 Nov 1994 08:49:37 GMT", date, Some(86400)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", None, None),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some("today"), None),
            ("-1", date, None),
            ("1.5", date, None),
            ("soon", date, None),
            ("", date, None),
        ] {
            let expected = expected.map(Duration::from_secs);
            assert_eq!(parse_retry_after(value, date), expected, "{value}");
        }
    }

    #[test]
    fn waits_grow_to_a_bound() {
        let middle = |attempt| backoff_by(attempt, 0.5).as_millis();
        assert_eq!([1, 2, 3, 4].map(middle), [500, 1000, 2000, 4000]);
        assert_eq!(middle(7), 30_000);
        assert_eq!(middle(u32::MAX), 30_000);
        assert_ne!(backoff(4), backoff(4));
    }

    proptest! {
        #[test]
        fn a_wait_is_within_its_bounds(attempt in 1_u32.., chance in 0.0..=1.0) {
            let wait = backoff_by(attempt, chance);
            prop_assert!(wait >= FIRST_WAIT / 2 && wait <= MAX_WAIT);
        }

        #[test]
        fn any_value_is_read(value in "\\PC{0,40}", date in "\\PC{0,40}") {
            let _ = parse_retry_after(&value, Some(&date));
        }

        #[test]
        fn seconds_come_back(seconds: u64) {
            let found = parse_retry_after(&seconds.to_string(), None);
            prop_assert_eq!(found, Some(Duration::from_secs(seconds)));
        }
    }
}
