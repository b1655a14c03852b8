#![no_main]

use std::io::{self, Cursor, Read, Write};

use libfuzzer_sys::fuzz_target;
use nix2oci::content::{NarOrigin, NarReader};
use nix2oci::daemon::Connection;
use nix2oci::{Context, Error, StoreDir, StorePath};

/// A daemon that says this, whatever it hears.
struct Deaf(Cursor<Vec<u8>>);

impl Read for Deaf {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for Deaf {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The greeting of versions 1.21, 1.34 and 1.38, or none.
fn greeting(which: u8) -> Vec<u8> {
    let number = |number: u64| number.to_le_bytes();
    let start = |minor: u64| [number(0x6478_696f), number(1 << 8 | minor)].concat();
    let done = number(0x616c_7473);
    let version = [number(3), *b"2.8\0\0\0\0\0"].concat();
    match which % 4 {
        0 => Vec::new(),
        1 => [&start(21)[..], &done].concat(),
        2 => [&start(34)[..], &version, &done].concat(),
        _ => [&start(38)[..], &number(0), &version, &number(1), &done].concat(),
    }
}

fn converse(said: Vec<u8>, ask_for_nar: bool) -> Result<(), Error> {
    let (cx, store_dir) = (Context::default(), StoreDir::default());
    let root: StorePath = "00000000000000000000000000000000-x"
        .parse()
        .expect("it is one");
    let mut connection = Connection::open(Deaf(Cursor::new(said)), "/socket")?;
    if ask_for_nar {
        let origin = NarOrigin {
            from: "the Nix daemon at /socket".to_owned(),
            path: store_dir.join(&root),
        };
        return connection.read_nar(&store_dir, &root, |nar| {
            NarReader::buffered(nar, origin).visit_one(&cx, &mut |_| Ok(()))
        });
    }
    let infos = connection.closure(&cx, &store_dir, std::slice::from_ref(&root))?;
    assert!(infos.first().is_none_or(|info| info.path == root));
    connection.has(&store_dir, &root)?;
    connection.closure(&cx, &store_dir, &[])?;
    Ok(())
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&first, rest)) = bytes.split_first() else {
        return;
    };
    let said = [&greeting(first)[..], rest].concat();
    if let Err(error) = converse(said, first & 4 != 0) {
        let message = error.to_string();
        assert!(
            message.starts_with("the Nix daemon at /socket"),
            "{message}"
        );
    }
});
