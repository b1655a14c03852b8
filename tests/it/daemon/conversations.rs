//! The conversations of `fixtures/daemon`, one for each version of the protocol
//! that makes a difference.

use std::fs;
use std::io::{Cursor, Read, Write};

use nix2oci::content::{Entry, NarOrigin, NarReader};
use nix2oci::daemon::Connection;
use nix2oci::error::ErrorClass;
use nix2oci::{Closure, Context, Error, PathInfo, StoreDir, StorePath};
use nix2oci_tests::command::repository;

use super::conversation::{Deaf, Scripted, before_last_question, by_daemon, recorded};
use super::missing;

/// File, minor version of the protocol that is spoken, version of Nix.
const CONVERSATIONS: &[(&str, u8, Option<&str>)] = &[
    ("nix-2.3", 21, None),
    ("nix-2.8.0", 34, Some("2.8.0")),
    ("nix-2.18", 35, Some("2.18.9")),
    ("nix-2.24", 38, Some("2.24.0")),
    ("nix-2.31", 38, Some("2.31.5")),
    ("nix-2.35", 38, Some("2.35.2")),
    ("lix-2.95", 35, Some("2.95.3")),
];

/// Returns the same closure as `nix path-info` tells it.
fn expected() -> Vec<PathInfo> {
    let file = repository().join("fixtures/closures/nix-2.8.0/path-info.json");
    let bytes = fs::read(file).unwrap();
    let store_dir = StoreDir::default();
    let found = nix2oci::closure::path_info_json::parse(&bytes, "path-info", &store_dir).unwrap();
    sorted(found.infos)
}

fn sorted(mut infos: Vec<PathInfo>) -> Vec<PathInfo> {
    infos.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    infos
}

fn named<'a>(infos: &'a [PathInfo], name: &str) -> &'a PathInfo {
    let mut found = infos.iter().filter(|info| info.path.name() == name);
    found.next().expect("the fixture has it")
}

/// What came of a conversation.
#[derive(Debug, PartialEq)]
struct Outcome {
    protocol_minor: u8,
    nix_version: Option<String>,
    closure: Vec<PathInfo>,
    has: [bool; 2],
    infos: [Option<PathInfo>; 2],
    script: Vec<u8>,
}

/// Asks what every conversation asks; returns what came of it and the error of
/// the last question.
fn converse<S: Read + Write>(
    stream: S,
    root: &StorePath,
    script: &PathInfo,
) -> Result<(Outcome, Error), Error> {
    let (cx, store_dir) = (Context::default(), StoreDir::default());
    let mut connection = Connection::open(stream, "/socket")?;
    let closure = connection.closure(&cx, &store_dir, std::slice::from_ref(root))?;
    let mut has = [false; 2];
    let mut infos = [None, None];
    for (at, path) in [root, &missing()].into_iter().enumerate() {
        has[at] = connection.has(&store_dir, path)?;
        infos[at] = connection.path_info(&store_dir, path)?;
    }
    let mut contents = Vec::new();
    let mut read = |path: &StorePath| {
        let origin = NarOrigin {
            from: "the Nix daemon at /socket".to_owned(),
            path: store_dir.join(path),
        };
        connection.read_nar(&store_dir, path, |nar| {
            let nar_size = script.nar_size.unwrap();
            let mut nar = NarReader::buffered(nar, origin).with_nar_size(nar_size);
            nar.visit_one(&cx, &mut |entry| {
                if let Entry::File {
                    contents: file,
                    size,
                    ..
                } = entry
                {
                    contents.resize(size as usize, 0);
                    let mut at = 0;
                    while at < contents.len() {
                        at += file.read(&mut contents[at..])?;
                    }
                }
                Ok(())
            })
        })
    };
    read(&script.path)?;
    let error = read(&missing()).unwrap_err();
    let info = connection.info().clone();
    let outcome = Outcome {
        protocol_minor: info.protocol_minor,
        nix_version: info.nix_version,
        closure: sorted(closure),
        has,
        infos,
        script: contents,
    };
    Ok((outcome, error))
}

#[test]
fn every_version_says_the_same() {
    let closure = expected();
    let (root, script) = (named(&closure, "app"), named(&closure, "script.sh"));
    let base = StoreDir::default().join(&named(&closure, "base-1.0").path);
    for &(name, protocol_minor, nix_version) in CONVERSATIONS {
        let mut stream = Scripted::new(recorded(name));
        let (found, error) = converse(&mut stream, &root.path, script).unwrap();
        let expected = Outcome {
            protocol_minor,
            nix_version: nix_version.map(str::to_owned),
            closure: closure.clone(),
            has: [true, false],
            infos: [Some(root.clone()), None],
            script: format!("#!/bin/sh\ncat {base}/data\n").into_bytes(),
        };
        assert_eq!(found, expected, "{name}");
        let missing = StoreDir::default().join(&missing());
        assert_eq!(
            error.to_string(),
            format!(
                "the Nix daemon at /socket failed to send the content of {missing}: it says: \
                 getting status of '{missing}': No such file or directory"
            ),
            "{name}"
        );
        assert_eq!(error.class(), ErrorClass::Store);
        // But for the status of an error, which not every version sends.
        let left = usize::from(protocol_minor < 26);
        assert_eq!(stream.left(), left, "{name}: all that it says is read");
        // Questions may be asked before the answers that the fixture has them
        // after, and no others.
        assert_eq!(stream.sent, stream.expected, "{name}");
    }
}

#[test]
fn what_is_cut_off_is_an_error_wherever_it_ends() {
    let closure = expected();
    let (root, script) = (named(&closure, "app"), named(&closure, "script.sh"));
    for (name, ..) in CONVERSATIONS {
        let conversation = recorded(name);
        let bytes = by_daemon(&conversation);
        let whole = before_last_question(&conversation);
        for end in 0..bytes.len() {
            let stream = Deaf(Cursor::new(&bytes[..end]));
            match converse(stream, &root.path, script) {
                Ok((found, error)) => {
                    assert!(end >= whole, "{name}, first {end} bytes: {found:?}");
                    assert_is_of_daemon(&error);
                }
                Err(error) => assert_is_of_daemon(&error),
            }
        }
    }
}

#[track_caller]
fn assert_is_of_daemon(error: &Error) {
    let message = error.to_string();
    assert!(
        message.starts_with("the Nix daemon at /socket"),
        "{message}"
    );
    assert!(
        matches!(error.class(), ErrorClass::Store | ErrorClass::Integrity),
        "{message}"
    );
}

#[test]
fn a_changed_byte_is_an_error_or_gives_a_closure_that_can_be_checked() {
    let closure = expected();
    let (root, script) = (named(&closure, "app"), named(&closure, "script.sh"));
    let others = [0, 1, 0x20, 0x2f, 0x7f, 0xff];
    for (name, ..) in CONVERSATIONS {
        let bytes = by_daemon(&recorded(name));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] = others[at % others.len()];
            match converse(Deaf(Cursor::new(changed)), &root.path, script) {
                Ok((found, _)) => {
                    let roots = std::slice::from_ref(&root.path);
                    // It may be that what is left makes no closure: that is
                    // seen to by what joins all sources.
                    if let Ok(closure) =
                        Closure::new(StoreDir::default(), found.closure, roots, "the daemon")
                    {
                        assert!(closure.len() <= 5, "{name}, byte {at}");
                    }
                }
                Err(error) => assert_is_of_daemon(&error),
            }
        }
    }
}
