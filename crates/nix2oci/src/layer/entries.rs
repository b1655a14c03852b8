//! The entries of a layer with their contents, for whoever looks into it.

use std::io::{BufReader, Read};

use crate::context::Context;
use crate::error::{Error, Result};

use super::decompress::Decoder;
use super::survey::{Tolerant, decoding, drain, sniffed};
use super::tar_read::{Member, Reading, TarError, TarReader};
use super::tar_rules::normal;

/// Bytes of a file that are handed out at once.
const BUFFER: usize = 64 << 10;

/// Bytes that a path or the target of a link has at most: Linux's `PATH_MAX`
/// without the NUL. A tar can hold 1 MiB of each, which packs to nearly nothing.
pub(crate) const MAX_PATH: usize = 4095;

/// Is shown what is in a layer, in the tar's order.
pub(crate) trait EntryVisitor {
    /// Takes an entry; `path` is its name without `/`, `.` and empty parts.
    /// Returns whether it wants to see the contents.
    fn entry(&mut self, member: &Member, path: &[u8]) -> bool;

    /// Takes the next bytes of the contents of the last entry.
    fn contents(&mut self, bytes: &[u8]);
}

/// Reads a layer's blob to its end. `place` names it in errors. Entries that
/// lead upwards (`..`) are passed over, and those that no Linux can make because
/// their path or what they link to is too long.
///
/// Memory does not grow with the bytes or the entries.
///
/// # Errors
///
/// [`ErrorKind::Image`](crate::ErrorKind::Image) if it cannot be decompressed
/// or is no tar; what reading `blob` fails with.
pub(crate) fn read_entries(
    cx: &Context,
    place: &str,
    blob: impl Read,
    visitor: &mut dyn EntryVisitor,
) -> Result<()> {
    let (codec, whole) = sniffed(blob)?;
    let raw = BufReader::with_capacity(128 << 10, whole);
    let stream = Tolerant::new(Decoder::new(codec, raw)?, cx);
    let mut tar = TarReader::new(Reading(stream));
    let refuse = |error: TarError| match error {
        TarError::Io(error) => match decoding(error) {
            Ok(problem) => Error::image(place, format!("the {codec} stream is broken: {problem}")),
            Err(error) => error,
        },
        broken @ TarError::Broken { .. } => {
            Error::image(place, format!("the tar is broken: {broken}"))
        }
    };
    let mut buffer = vec![0; BUFFER];
    while let Some(member) = tar.next_member().map_err(refuse)? {
        if member.path.len().max(member.link.len()) > MAX_PATH {
            continue;
        }
        let Some(path) = normal(&member.path) else {
            continue;
        };
        if visitor.entry(&member, &path) {
            loop {
                match tar.read_content(&mut buffer).map_err(refuse)? {
                    0 => break,
                    n => visitor.contents(&buffer[..n]),
                }
            }
        }
    }
    tar.finish().map_err(|error| refuse(TarError::Io(error)))?;
    // Only the last byte of the blob proves its digest.
    let mut raw = tar.into_inner().0.into_inner();
    drain(cx, &mut raw)
}

#[cfg(test)]
mod tests {
    use super::super::tar_read::MemberKind;
    use super::*;

    /// Keeps all it is shown.
    #[derive(Default)]
    struct Keep(Vec<(String, MemberKind, Vec<u8>)>);

    impl EntryVisitor for Keep {
        fn entry(&mut self, member: &Member, path: &[u8]) -> bool {
            let path = String::from_utf8_lossy(path).into_owned();
            let is_wanted = path != "skipped";
            self.0.push((path, member.kind, Vec::new()));
            is_wanted
        }

        fn contents(&mut self, bytes: &[u8]) {
            self.0.last_mut().unwrap().2.extend_from_slice(bytes);
        }
    }

    fn example() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut append = |path: &str, content: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, path, content).unwrap();
        };
        append("./large", &[7; 100_000]);
        append("skipped", b"nobody reads this");
        append("last", b"x");
        builder.into_inner().unwrap()
    }

    #[test]
    fn names_that_no_file_can_have_are_passed_over() {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, target) in [
            ("p".repeat(5000), "x".to_owned()),
            ("link".to_owned(), "t".repeat(5000)),
            ("last".to_owned(), "t".repeat(MAX_PATH)),
        ] {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, path, target).unwrap();
        }
        let layer = builder.into_inner().unwrap();
        let mut keep = Keep::default();
        read_entries(&Context::default(), "a layer", &*layer, &mut keep).unwrap();
        let paths: Vec<&str> = keep.0.iter().map(|(path, ..)| path.as_str()).collect();
        assert_eq!(paths, ["last"]);
    }

    #[test]
    fn contents_are_shown_to_who_wants_them() {
        let mut keep = Keep::default();
        read_entries(&Context::default(), "a layer", &*example(), &mut keep).unwrap();
        let file =
            |path: &str, content: &[u8]| (path.to_owned(), MemberKind::File, content.to_vec());
        assert_eq!(
            keep.0,
            [
                file("large", &[7; 100_000]),
                file("skipped", b""),
                file("last", b"x")
            ]
        );
    }

    #[test]
    fn what_is_cut_short_is_an_error() {
        let whole = example();
        for (end, problem) in [
            (512 + 1000, "99000 bytes before the end of a file"),
            (512 + 100_352 + 100, "ends inside a header"),
        ] {
            let mut keep = Keep::default();
            let error = read_entries(&Context::default(), "a layer", &whole[..end], &mut keep);
            let error = error.unwrap_err().to_string();
            assert!(error.starts_with("a layer"), "{error}");
            assert!(error.contains(problem), "{error}");
        }
        let error = read_entries(
            &Context::default(),
            "a layer",
            &b"\x1f\x8bnot gzip"[..],
            &mut Keep::default(),
        );
        let error = error.unwrap_err().to_string();
        assert!(error.contains("the gzip stream is broken"), "{error}");
    }

    #[test]
    fn a_cancelled_call_ends() {
        let cx = Context::default();
        cx.cancel.cancel();
        let ended = read_entries(&cx, "a layer", &*example(), &mut Keep::default());
        assert!(matches!(
            ended.unwrap_err().kind(),
            crate::error::ErrorKind::Cancelled
        ));
    }
}
