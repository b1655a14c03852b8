//! Daemons that say what no daemon says.

use std::io::{Cursor, Read};

use nix2oci::daemon::Connection;
use nix2oci::error::ErrorClass;
use nix2oci::{Context, StoreDir, StorePath};

use super::conversation::{Deaf, endless, number, string};
use super::missing;

const MAGIC: u64 = 0x6478_696f;
const NEXT: u64 = 0x6f6c_6d67;
const READ: u64 = 0x6461_7461;
const WRITE: u64 = 0x6461_7416;
const LAST: u64 = 0x616c_7473;
const ERROR: u64 = 0x6378_7470;
const START_ACTIVITY: u64 = 0x5354_5254;
const RESULT: u64 = 0x5253_4c54;

const EXABYTE: u64 = 1 << 60;

fn numbers(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
}

/// A daemon of version 1.37 up to its first answer.
fn greeting() -> Vec<u8> {
    [
        numbers(&[MAGIC, 1 << 8 | 37]),
        string(b"2.23.0"),
        numbers(&[1, LAST]),
    ]
    .concat()
}

/// Returns what comes of a greeting.
fn greeted(said: impl Read) -> String {
    match Connection::open(Deaf(said), "/socket") {
        Ok(connection) => panic!("{:?} is taken for a daemon", connection.info()),
        Err(error) => {
            assert_eq!(error.class(), ErrorClass::Store);
            error.to_string()
        }
    }
}

/// Returns what comes of asking for a closure.
fn asked(said: impl Read) -> String {
    let mut connection = Connection::open(Deaf(said), "/socket").unwrap();
    let (cx, store_dir) = (Context::default(), StoreDir::default());
    let error = connection
        .closure(&cx, &store_dir, &[missing()])
        .unwrap_err();
    assert_eq!(error.class(), ErrorClass::Store);
    error.to_string()
}

/// The answer up to the references: that the path is there, no deriver, and a
/// NAR hash.
fn described() -> Vec<u8> {
    let nar_hash = string("ab".repeat(32).as_bytes());
    [numbers(&[LAST, 1]), string(b""), nar_hash].concat()
}

#[track_caller]
fn assert_tells(message: &str, action: &str, problem: &str) {
    let start = format!("the Nix daemon at /socket failed to {action}");
    assert!(message.starts_with(&start), "{message}");
    assert!(message.ends_with(problem), "{message}, expected {problem}");
}

#[test]
fn what_is_no_daemon_that_is_known_is_told_apart() {
    let greeting = |numbers: &[u64]| self::numbers(&[&[MAGIC], numbers].concat());
    let too_old = |version: &str| {
        format!(
            ": it speaks version {version} of the protocol, expected 1.21 (Nix 2.3) or a newer 1"
        )
    };
    for (said, problem) in [
        (Vec::new(), ": it closed the connection".to_owned()),
        (
            b"HTTP/1.1 400 Bad".to_vec(),
            ": it says 0x312e312f50545448, and so is no Nix daemon".to_owned(),
        ),
        (greeting(&[1 << 8 | 9]), too_old("1.9")),
        (greeting(&[1 << 8 | 20]), too_old("1.20")),
        (greeting(&[2 << 8]), too_old("2.0")),
        (greeting(&[0]), too_old("0.0")),
        (greeting(&[u64::MAX]), too_old("72057594037927935.255")),
        (
            [greeting(&[1 << 8 | 35]), string(b"2.18"), number(3)].concat(),
            ": its trust is 3, expected 0, 1 or 2".to_owned(),
        ),
        (
            [greeting(&[1 << 8 | 34]), numbers(&[3, 0x0078_2e32])].concat(),
            ": it closed the connection".to_owned(),
        ),
        (
            [greeting(&[1 << 8 | 34]), numbers(&[3, 0x0178_2e32])].concat(),
            ": it filled up a string with bytes that are not zero".to_owned(),
        ),
        (
            [greeting(&[1 << 8 | 34]), string(b"2.\xff")].concat(),
            ": it sent \"2.\u{fffd}\", which is not UTF-8".to_owned(),
        ),
    ] {
        assert_tells(&greeted(Cursor::new(said)), "answer the greeting", &problem);
    }
}

#[test]
fn a_version_that_is_not_known_yet_is_spoken_as_the_newest_that_is() {
    for minor in [39, 255] {
        let said = [
            numbers(&[MAGIC, 1 << 8 | minor, 1]),
            string(b"a-new-feature"),
            string(b"3.0"),
            numbers(&[0, LAST]),
        ];
        let connection = Connection::open(Deaf(Cursor::new(said.concat())), "/socket").unwrap();
        assert_eq!(connection.info().protocol_minor, 38);
        assert_eq!(connection.info().nix_version.as_deref(), Some("3.0"));
    }
}

#[test]
fn an_error_of_the_start_is_told() {
    let said = [
        numbers(&[MAGIC, 1 << 8 | 37]),
        string(b"2.23.0"),
        numbers(&[1, ERROR]),
        string(b"Error"),
        number(0),
        string(b"Error"),
        string(b"cannot open \x1b[31;1mthe\x1b[0m\n  database\n"),
        numbers(&[0, 2, 0]),
        string(b"while opening\tthe store"),
        number(0),
        string(b""),
    ];
    assert_tells(
        &greeted(Cursor::new(said.concat())),
        "answer the greeting",
        ": it says: cannot open the database; while opening the store",
    );
}

#[test]
fn lengths_are_not_believed() {
    let after = |said: &[u8]| [&greeting(), said].concat();
    let more = |bytes: u64, most: u64| {
        format!(": it wants to send {bytes} bytes more, where {most} were to be the most")
    };
    let most = 16 << 20;
    for (said, problem) in [
        (numbers(&[NEXT, EXABYTE]), more(EXABYTE, most - 16)),
        (numbers(&[NEXT, u64::MAX]), more(u64::MAX, most - 16)),
        (numbers(&[LAST, 1, EXABYTE]), more(EXABYTE, most - 24)),
        (numbers(&[ERROR, EXABYTE]), more(EXABYTE, most - 16)),
        // Allowed, and not there.
        (
            numbers(&[LAST, 1, 1 << 23]),
            ": it closed the connection".to_owned(),
        ),
        (
            [described(), number(u64::MAX)].concat(),
            ": it closed the connection".to_owned(),
        ),
    ] {
        let message = asked(Cursor::new(after(&said)));
        assert_tells(&message, "tell of /nix/store/000", &problem);
    }
}

#[test]
fn what_does_not_end_is_ended() {
    let error = [
        number(ERROR),
        string(b"Error"),
        number(0),
        string(b"Error"),
        string(b"nested"),
        numbers(&[0, u64::MAX]),
    ]
    .concat();
    let activity = [numbers(&[START_ACTIVITY, 1, 2, 3]), string(b"x")].concat();
    let line = [number(NEXT), string(b"line\n")].concat();
    let long_line = [number(NEXT), string(&[b'x'; 1 << 20])].concat();
    for (beginning, again) in [
        (Vec::new(), line),
        (Vec::new(), long_line),
        (error, [number(0), string(b"while")].concat()),
        ([activity, number(u64::MAX)].concat(), numbers(&[0, 1])),
        (
            numbers(&[RESULT, 1, 2, u64::MAX]),
            [number(1), string(b"x")].concat(),
        ),
        (
            [described(), number(u64::MAX)].concat(),
            string(format!("/nix/store/{}-x", "a".repeat(32)).as_bytes()),
        ),
    ] {
        let beginning = [greeting(), beginning].concat();
        let message = asked(endless(beginning, again));
        assert_tells(&message, "tell of /nix/store/000", " were to be the most");
    }
    let features = numbers(&[MAGIC, 1 << 8 | 38, u64::MAX]);
    let message = greeted(endless(features, string(b"feature")));
    assert_tells(&message, "answer the greeting", " were to be the most");
}

#[test]
fn what_makes_no_sense_is_named() {
    let reference = |text: &str| [described(), number(1), string(text.as_bytes())].concat();
    let long = "x".repeat(10_000);
    for (said, problem) in [
        (
            number(0x1234),
            ": it sent 0x1234, which is none of its messages",
        ),
        (
            numbers(&[READ, 1]),
            ": it wants to exchange data in place of an answer",
        ),
        (
            numbers(&[WRITE, 1]),
            ": it wants to exchange data in place of an answer",
        ),
        (
            [number(ERROR), string(b"Warning")].concat(),
            ": it failed with a \"Warning\", not an Error",
        ),
        (
            [
                number(ERROR),
                string(b"Error"),
                number(0),
                string(b""),
                string(b""),
                number(1),
            ]
            .concat(),
            ": its error has a position, which no version of the protocol has",
        ),
        (
            numbers(&[RESULT, 1, 2, 1, 7]),
            ": it sent a field of type 7, expected 0 or 1",
        ),
        (
            [numbers(&[LAST, 1]), string(b""), string(b"md5:00")].concat(),
            "the NAR hash: \"md5:00\" is not a SHA-256 hash",
        ),
        (
            [numbers(&[LAST, 1]), string(b""), string(long.as_bytes())].concat(),
            "in base 16, Nix's base 32, or base 64",
        ),
        (
            reference("/gnu/store/00000000000000000000000000000000-x"),
            "expected it in /nix/store",
        ),
        (reference("../x"), "expected it in /nix/store"),
        (reference(""), "expected it in /nix/store"),
    ] {
        let message = asked(Cursor::new([greeting(), said].concat()));
        assert!(message.len() < 500, "{message}");
        let start = format!(
            "the Nix daemon at /socket failed to tell of /nix/store/{}: ",
            missing()
        );
        assert!(message.starts_with(&start), "{message}");
        if !problem.contains("expected it") {
            assert!(message.ends_with(problem), "{message}, expected {problem}");
        }
    }
}

#[test]
fn a_reference_that_it_does_not_have_is_named_with_its_referrer() {
    let other: StorePath = format!("{}-other", "a".repeat(32)).parse().unwrap();
    let said = [
        greeting(),
        described(),
        number(1),
        string(StoreDir::default().join(&other).as_bytes()),
        // Registered, NAR size, ultimate, signatures, content address.
        numbers(&[0, 8, 0, 0, 0]),
        numbers(&[LAST, 0]),
    ];
    assert_eq!(
        asked(Cursor::new(said.concat())),
        format!(
            "the Nix daemon at /socket failed to tell of /nix/store/{other}: it does not have \
             it, though /nix/store/{} refers to it",
            missing()
        )
    );
}
