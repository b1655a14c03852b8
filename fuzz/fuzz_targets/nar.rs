#![no_main]

use libfuzzer_sys::fuzz_target;
use nix2oci::content::{Entry, NarOrigin, NarReader};
use nix2oci::{Context, ErrorKind};

/// Appends strings as NAR writes them.
fn write(nar: &mut Vec<u8>, strings: &[&[u8]]) {
    for string in strings {
        nar.extend_from_slice(&(string.len() as u64).to_le_bytes());
        nar.extend_from_slice(string);
        nar.resize(nar.len().next_multiple_of(8), 0);
    }
}

/// Ends directories until `depth` of them are open.
fn close(nar: &mut Vec<u8>, open: &mut usize, depth: usize) {
    while *open > depth {
        write(nar, &[b")"]);
        *open -= 1;
        if *open > 0 {
            write(nar, &[b")"]);
        }
    }
}

// A NAR is refused with its origin, or holds one tree: written again it has the
// same bytes, and no path twice.
fuzz_target!(|bytes: &[u8]| {
    let origin = NarOrigin {
        from: "fuzz".to_owned(),
        path: "/nix/store/fuzz".to_owned(),
    };
    let mut again = Vec::new();
    let mut open = 0;
    let mut last: Option<Vec<Vec<u8>>> = None;
    write(&mut again, &[b"nix-archive-1"]);
    let mut reader = NarReader::new(bytes, origin);
    let result = reader.visit(&Context::default(), &mut |entry| {
        let path = entry.path().to_vec();
        let names: Vec<Vec<u8>> = if path.is_empty() {
            Vec::new()
        } else {
            path.split(|b| *b == b'/').map(<[u8]>::to_vec).collect()
        };
        assert!(last.as_ref().is_none_or(|last| *last < names), "{path:?}");
        close(&mut again, &mut open, names.len());
        assert_eq!(open, names.len(), "{path:?} is in a directory");
        if let Some(name) = names.last() {
            assert!(!matches!(&name[..], b"" | b"." | b".."), "{path:?}");
            write(&mut again, &[b"entry", b"(", b"name", name, b"node"]);
        }
        write(&mut again, &[b"(", b"type"]);
        let is_directory = matches!(entry, Entry::Directory { .. });
        match entry {
            Entry::Directory { .. } => write(&mut again, &[b"directory"]),
            Entry::Symlink { target, .. } => {
                write(&mut again, &[b"symlink", b"target", target, b")"]);
            }
            Entry::File {
                executable,
                size,
                contents,
                ..
            } => {
                write(&mut again, &[b"regular"]);
                if executable {
                    write(&mut again, &[b"executable", b""]);
                }
                let mut text = Vec::new();
                let mut buffer = [0; 100];
                loop {
                    match contents.read(&mut buffer)? {
                        0 => break,
                        n => text.extend_from_slice(&buffer[..n]),
                    }
                }
                assert_eq!(text.len() as u64, size);
                write(&mut again, &[b"contents", &text, b")"]);
            }
        }
        if is_directory {
            open += 1;
        } else if open > 0 {
            write(&mut again, &[b")"]);
        }
        last = Some(names);
        Ok(())
    });
    close(&mut again, &mut open, 0);
    match result {
        Ok(()) => assert!(again == bytes, "another tree was read"),
        Err(error) => assert!(matches!(error.kind(), ErrorKind::Nar { .. }), "{error:?}"),
    }
});
