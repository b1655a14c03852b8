//! NARs that are right, and all the ways to be wrong.

use std::io::{self, Read};

use super::super::{ContentSource, nar_hash};
use super::*;
use crate::context::CancelFlag;
use crate::digest::Digest;
use crate::error::ErrorClass;
use crate::store::{NarHash, StorePath};

/// A string as NAR writes it.
fn string(bytes: &[u8]) -> Vec<u8> {
    let mut nar = (bytes.len() as u64).to_le_bytes().to_vec();
    nar.extend_from_slice(bytes);
    nar.resize(nar.len().next_multiple_of(8), 0);
    nar
}

/// Strings in a row: what is between spaces of `text`; `''` is the empty one.
fn strings(text: &str) -> Vec<u8> {
    let strings = text.split_ascii_whitespace().map(|word| {
        let word = if word == "''" { "" } else { word };
        string(word.as_bytes())
    });
    strings.flatten().collect()
}

/// A NAR of these strings.
fn nar(text: &str) -> Vec<u8> {
    let mut nar = string(b"nix-archive-1");
    nar.extend(strings(text));
    nar
}

fn origin() -> NarOrigin {
    NarOrigin {
        from: "the test".to_owned(),
        path: "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-thing".to_owned(),
    }
}

/// Lists what `reader` has, reading `piece` bytes at a time; 0 reads nothing.
fn list<R: BufRead>(mut reader: NarReader<R>, piece: usize) -> Result<Vec<String>> {
    let mut seen = Vec::new();
    reader.visit(&Context::default(), &mut |entry| {
        let path = entry.path().escape_ascii().to_string();
        seen.push(match entry {
            Entry::Directory { .. } => format!("d {path}"),
            Entry::Symlink { target, .. } => format!("l {path} {}", target.escape_ascii()),
            Entry::File {
                executable,
                size,
                contents,
                ..
            } => {
                let mut text = Vec::new();
                let mut buf = vec![0; piece];
                loop {
                    match contents.read(&mut buf)? {
                        0 => break,
                        n => text.extend_from_slice(&buf[..n]),
                    }
                }
                let kind = if executable { 'x' } else { 'f' };
                format!("{kind} {path} {size} {}", text.escape_ascii())
            }
        });
        Ok(())
    })?;
    Ok(seen)
}

fn read(nar: &[u8]) -> Result<Vec<String>> {
    list(NarReader::new(nar, origin()), 7)
}

/// Returns what is wrong with the NAR.
fn problem(nar: &[u8]) -> String {
    let error = read(nar).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Integrity, "{error}");
    let ErrorKind::Nar { problem, .. } = error.kind() else {
        panic!("{error:?}")
    };
    problem.clone()
}

#[test]
fn objects_come_with_their_paths() {
    let nar = nar("( type directory \
         entry ( name a node ( type directory \
           entry ( name b node ( type regular executable '' contents hello ) ) \
           entry ( name c node ( type directory ) ) ) ) \
         entry ( name a.b node ( type symlink target ../x ) ) \
         entry ( name z node ( type regular contents '' ) ) )");
    let expected = [
        "d ",
        "d a",
        "x a/b 5 hello",
        "d a/c",
        "l a.b ../x",
        "f z 0 ",
    ];
    assert_eq!(read(&nar).unwrap(), expected);
    let size = nar.len() as u64;
    let sized = NarReader::buffered(&nar[..], origin()).with_nar_size(size);
    assert_eq!(list(sized, 1).unwrap(), expected);
    // A visitor that reads nothing sees the same objects.
    let unread = list(NarReader::new(&nar[..], origin()), 0).unwrap();
    assert_eq!(unread[2], "x a/b 5 ");
    assert_eq!(unread.len(), expected.len());
}

#[test]
fn a_store_path_may_be_a_file_or_a_link() {
    let file = nar("( type regular contents text )");
    assert_eq!(read(&file).unwrap(), ["f  4 text"]);
    let link = nar("( type symlink target /elsewhere )");
    assert_eq!(read(&link).unwrap(), ["l  /elsewhere"]);
}

#[test]
fn what_is_not_a_nar_is_refused_with_the_place() {
    let file = "( type regular contents x )";
    let entry = |name: &str| format!("entry ( name {name} node {file} )");
    let pair = |a: &str, b: &str| format!("( type directory {} {} )", entry(a), entry(b));
    for (text, expected) in [
        ("type regular", "at byte 24: \"type\", expected ("),
        ("( kind regular", "at byte 40: \"kind\", expected type"),
        (
            "( type device )",
            "at byte 56: \"device\", expected directory, regular or symlink",
        ),
        (
            "( type regular )",
            "at byte 72: \")\", expected executable or contents",
        ),
        (
            "( type regular executable yes contents x )",
            "at byte 96: \"yes\", expected an empty string",
        ),
        (
            "( type regular executable '' executable '' contents x )",
            "at byte 104: \"executable\", expected contents",
        ),
        (
            "( type regular contents x executable '' )",
            "at byte 104: \"executable\", expected )",
        ),
        (
            "( type symlink contents x )",
            "at byte 72: \"contents\", expected target",
        ),
        (
            "( type symlink target '' )",
            "at byte 96: the target of a symbolic link is empty or has a zero in it",
        ),
        (
            "( type symlink target a\0b )",
            "at byte 104: the target of a symbolic link is empty or has a zero in it",
        ),
        (
            "( type directory entry ( node",
            "at byte 112: \"node\", expected name",
        ),
        (
            "( type directory contents x )",
            "at byte 80: \"contents\", expected entry or )",
        ),
        (&pair("''", "b"), "at byte 136: \"\" is not a name"),
        (&pair(".", "b"), "at byte 144: \".\" is not a name"),
        (&pair("..", "b"), "at byte 144: \"..\" is not a name"),
        (&pair("a/b", "c"), "at byte 144: \"a/b\" is not a name"),
        (&pair("a\0", "c"), "at byte 144: \"a\\x00\" is not a name"),
        (
            &pair("b", "a"),
            "at byte 336: \"a\" comes after \"b\", expected names in the order of their bytes, \
             each once",
        ),
        (
            &pair("a", "a"),
            "at byte 336: \"a\" comes after \"a\", expected names in the order of their bytes, \
             each once",
        ),
        (
            "( type directory ) )",
            "at byte 96: there are bytes after the end",
        ),
        (
            "( type a-word-too-long )",
            "at byte 56: a string of 15 bytes, expected one of the format's words",
        ),
    ] {
        assert_eq!(problem(&nar(text)), expected, "{text}");
    }
    assert_eq!(problem(b""), "at byte 0: it ends here, in the middle");
    assert_eq!(
        problem(b"<html>not found</html>"),
        "at byte 0: a string of 8029423821061908540 bytes, expected one of the format's words"
    );
    assert_eq!(
        problem(&string(b"nix-archive-2")),
        "at byte 0: \"nix-archive-2\", expected nix-archive-1"
    );
    let mut padded = nar("( type directory )");
    padded[23] = 1;
    assert_eq!(
        problem(&padded),
        "at byte 24: a string is not followed by zeroes"
    );
    let error = read(b"").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the test: the NAR of /nix/store/0123456789abcdfghijklmnpqrsvwxyz-thing: at byte 0: it \
         ends here, in the middle"
    );
}

#[test]
fn names_that_look_odd_are_names() {
    for name in ["...", ".a", "a b\n", "\\", "~", "*", "COM1", "a:b"] {
        let mut nar = nar("( type directory entry ( name");
        nar.extend(string(name.as_bytes()));
        nar.extend(strings("node ( type directory ) ) )"));
        let escaped = name.as_bytes().escape_ascii();
        assert_eq!(
            read(&nar).unwrap(),
            ["d ".to_owned(), format!("d {escaped}")]
        );
    }
}

#[test]
fn paths_and_targets_have_a_bound() {
    let file = |name: &[u8]| {
        let mut nar = nar("( type directory entry ( name d node ( type directory entry ( name");
        nar.extend(string(name));
        nar.extend(strings("node ( type regular contents x ) ) ) ) )"));
        nar
    };
    let longest = vec![b'n'; MAX_PATH - 2];
    assert_eq!(read(&file(&longest)).unwrap().len(), 3);
    let problem_of = |nar: &[u8]| problem(nar).split_once(": ").unwrap().1.to_owned();
    assert_eq!(
        problem_of(&file(&[&longest[..], b"n"].concat())),
        "a path is longer than 4095 bytes"
    );
    assert_eq!(
        problem_of(&file(&vec![b'n'; MAX_PATH + 1])),
        "a name has 4096 bytes, expected at most 4095"
    );
    let link = |target: &[u8]| {
        let mut nar = nar("( type symlink target");
        nar.extend(string(target));
        nar.extend(strings(")"));
        nar
    };
    assert_eq!(read(&link(&vec![b't'; MAX_PATH])).unwrap().len(), 1);
    assert_eq!(
        problem_of(&link(&vec![b't'; MAX_PATH + 1])),
        "the target of a symbolic link has 4096 bytes, expected at most 4095"
    );
}

#[test]
fn lengths_must_fit_into_the_nar_size() {
    let nar = nar("( type regular contents 12345678 )");
    let with_size = |nar: &[u8], size: u64| {
        let error = list(NarReader::new(nar, origin()).with_nar_size(size), 7).unwrap_err();
        error
            .to_string()
            .split_once("thing: ")
            .unwrap()
            .1
            .to_owned()
    };
    let size = nar.len() as u64;
    // One that ends before the size is seen at the end, whatever its lengths.
    assert_eq!(
        with_size(&nar, size + 8),
        "at byte 120: it ends here, and was to have 128 bytes"
    );
    assert_eq!(
        with_size(&nar, size - 8),
        "at byte 112: a string of 1 bytes, where 0 are left"
    );
    let mut huge = nar.clone();
    huge[88..96].copy_from_slice(&(1_u64 << 60).to_le_bytes());
    assert_eq!(
        with_size(&huge, size),
        "at byte 96: a string of 1152921504606846976 bytes, where 24 are left"
    );
    assert_eq!(
        problem(&huge),
        "at byte 120: it ends here, in the middle",
        "the size of the NAR is not known"
    );
    huge[95] = 0xff;
    assert_eq!(
        problem(&huge),
        format!(
            "at byte 96: no file has {} bytes",
            (0xff_u64 << 56) | (1 << 60)
        )
    );
}

/// Gives directories in directories, as many as somebody asks for.
struct Deep {
    level: Vec<u8>,
    at: usize,
    given: u64,
}

impl Read for Deep {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = (self.level.len() - self.at).min(buf.len());
        buf[..n].copy_from_slice(&self.level[self.at..self.at + n]);
        self.at = (self.at + n) % self.level.len();
        self.given += n as u64;
        Ok(n)
    }
}

#[test]
fn directories_without_end_are_refused_early() {
    let mut deep = Deep {
        level: strings("( type directory entry ( name a node"),
        at: 0,
        given: 0,
    };
    let magic = string(b"nix-archive-1");
    let mut reader = NarReader::new(magic.chain(&mut deep), origin());
    let mut directories = 0;
    let error = reader
        .visit(&Context::default(), &mut |_| {
            directories += 1;
            Ok(())
        })
        .unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("a path is longer than 4095 bytes")
    );
    assert_eq!(
        directories,
        MAX_PATH / 2 + 2,
        "a, a/a, … and the store path"
    );
    drop(reader);
    assert!(deep.given < 1 << 20, "{}", deep.given);
}

/// Fails with what it holds.
struct Broken(Option<io::Error>);

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}

#[test]
fn errors_from_below_keep_what_they_say() {
    let whole = nar("( type regular contents 12345678 )");
    for (cut, piece) in [(0, 7), (20, 7), (100, 7), (100, 0), (whole.len(), 0)] {
        let read_then = |error: io::Error| {
            let input = whole[..cut].chain(Broken(Some(error)));
            list(NarReader::new(input, origin()), piece)
        };
        let ours = Error::from(ErrorKind::Cancelled);
        let error = read_then(io::Error::other(ours)).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Cancelled, "{cut}");

        let theirs = io::Error::new(io::ErrorKind::InvalidData, "the stream is odd");
        let error = read_then(theirs).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Integrity, "{cut}");
        assert!(
            error.to_string().ends_with(": the stream is odd"),
            "{error}"
        );
    }
    let interrupted = || Broken(Some(io::ErrorKind::Interrupted.into()));
    let input = whole[..50].chain(interrupted()).chain(&whole[50..]);
    assert_eq!(
        list(NarReader::new(input, origin()), 7).unwrap(),
        ["f  8 12345678"]
    );
}

#[test]
fn what_follows_stays_where_it_is() {
    let text = "( type directory entry ( name a node ( type regular contents x ) ) )";
    let mut input = nar(text);
    input.extend(nar("( type symlink target y )"));
    input.extend(b"more");
    let mut reader = NarReader::buffered(&input[..], origin());
    let mut seen = Vec::new();
    for _ in 0..2 {
        reader
            .visit_one(&Context::default(), &mut |entry| {
                seen.push(entry.path().to_vec());
                Ok(())
            })
            .unwrap();
    }
    assert_eq!(seen, [&b""[..], b"a", b""]);
    assert_eq!(reader.into_inner(), b"more");
}

#[test]
fn a_visitors_error_and_a_cancel_stop_it() {
    let text = "( type directory entry ( name a node ( type regular contents x ) ) )";
    let nar = nar(text);
    let mut seen = 0;
    let error = NarReader::new(&nar[..], origin())
        .visit(&Context::default(), &mut |_| {
            seen += 1;
            Err(Error::invalid("visitor", "has enough"))
        })
        .unwrap_err();
    assert_eq!((seen, error.class()), (1, ErrorClass::Input));

    for cancelled_at in [1, 2] {
        let cx = Context::default();
        let cancel: &CancelFlag = &cx.cancel;
        let mut seen = 0;
        let error = NarReader::new(&nar[..], origin())
            .visit(&cx, &mut |_| {
                seen += 1;
                if seen == cancelled_at {
                    cancel.cancel();
                }
                Ok(())
            })
            .unwrap_err();
        // Before the second object, and before the contents that nobody read.
        assert_eq!((seen, error.class()), (cancelled_at, ErrorClass::Cancelled));
    }
}

/// A store whose only path is a NAR in memory.
struct OneNar<'a>(&'a [u8]);

impl ContentSource for OneNar<'_> {
    fn visit(
        &self,
        cx: &Context,
        _: &StorePath,
        visitor: &mut dyn FnMut(Entry<'_>) -> Result<()>,
    ) -> Result<()> {
        NarReader::new(self.0, origin()).visit(cx, visitor)
    }
}

/// Everything that a store path may have in it; fixtures/nars/README.md says
/// how Nix 2.8.0 made it.
const THING: &[u8] = include_bytes!("../../../../fixtures/nars/thing.nar");

/// Reads a NAR and writes it again; whether that was possible.
fn is_the_same_again(nar: &[u8]) -> bool {
    let path = "0123456789abcdfghijklmnpqrsvwxyz-thing".parse().unwrap();
    match nar_hash(&Context::default(), &OneNar(nar), &path) {
        Ok(again) => {
            let read = NarHash::new(*Digest::of(nar).as_bytes());
            assert_eq!(again, read, "another tree has the same NAR, or none");
            true
        }
        Err(error) => {
            assert_eq!(error.class(), ErrorClass::Integrity, "{error}");
            false
        }
    }
}

#[test]
fn what_nix_wrote_is_read() {
    let seen = read(THING).unwrap();
    let start: Vec<_> = seen
        .iter()
        .map(|line| &line[..line.len().min(30)])
        .collect();
    assert_eq!(
        start,
        [
            "d ",
            "d bin",
            "x bin/hello 21 #!/bin/sh\\necho",
            "l bin/hi hello",
            "l bin/link ../nowhere",
            "d empty",
            "f none 0 ",
            "f numbers 8893 1\\n2\\n3\\n4\\n5\\n",
            "f \\xff\\xfe 1 \\xff",
        ]
    );
    assert!(is_the_same_again(THING));
}

#[test]
fn a_nar_that_is_cut_is_refused() {
    for cut in 0..THING.len() {
        let error = read(&THING[..cut]).expect_err("a cut NAR");
        assert_eq!(error.class(), ErrorClass::Integrity, "{error}");
    }
}

#[test]
fn a_changed_byte_is_refused_or_is_another_tree() {
    let mut accepted = 0;
    for at in 0..THING.len() {
        for flip in [0x01, 0x80] {
            let mut changed = THING.to_vec();
            changed[at] ^= flip;
            accepted += usize::from(is_the_same_again(&changed));
        }
    }
    // Contents, names and targets may be anything; the rest may not.
    assert!(accepted > 2 * 8893, "{accepted}");
    assert!(accepted < 2 * (8893 + 100), "{accepted}");
}

#[test]
fn a_directory_may_have_very_many_names() {
    const NAMES: u64 = 100_000;
    let start = nar("( type directory");
    let mut at = 0;
    let entries = std::iter::from_fn(|| {
        at += 1;
        let name = format!("{at:07}");
        let entry = format!("entry ( name {name} node ( type regular contents {name} ) )");
        (at <= NAMES).then(|| io::Cursor::new(strings(&entry)))
    });
    let end = string(b")");
    let input = start.chain(Chained(entries, None)).chain(&end[..]);
    let mut reader = NarReader::new(input, origin());
    let mut seen = 0;
    let visited = reader.visit(&Context::default(), &mut |_| {
        seen += 1;
        Ok(())
    });
    visited.unwrap();
    assert_eq!(seen, NAMES + 1);
}

/// Readers one after another, each made when it is needed.
struct Chained<I: Iterator>(I, Option<I::Item>);

impl<I: Iterator<Item: Read>> Read for Chained<I> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(reader) = &mut self.1 {
                match reader.read(buf)? {
                    0 => {}
                    n => return Ok(n),
                }
            }
            self.1 = self.0.next();
            if self.1.is_none() {
                return Ok(0);
            }
        }
    }
}

proptest::proptest! {
    #[test]
    fn arbitrary_words_never_panic(
        words in proptest::collection::vec(
            proptest::sample::select(vec![
                "(", ")", "type", "regular", "directory", "symlink", "entry", "name", "node",
                "target", "contents", "executable", "''", "a", "b",
            ]),
            0..40,
        ),
        cut in 0..64_usize,
    ) {
        let mut nar = nar(&words.join(" "));
        is_the_same_again(&nar);
        nar.truncate(nar.len().saturating_sub(cut));
        is_the_same_again(&nar);
    }
}
