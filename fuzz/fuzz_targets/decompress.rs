#![no_main]

use std::io::{self, Read as _};

use libfuzzer_sys::fuzz_target;
use nix2oci::layer::{Codec, Decoder};

/// Bytes to read at most: a few can stand for very many.
const MOST: u64 = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    for codec in [Codec::None, Codec::Gzip, Codec::Zstd] {
        let decoder = Decoder::new(codec, bytes).expect("the feature is there");
        let Err(error) = io::copy(&mut decoder.take(MOST), &mut io::sink()) else {
            continue;
        };
        assert!(
            matches!(
                error.kind(),
                io::ErrorKind::InvalidData
                    | io::ErrorKind::InvalidInput
                    | io::ErrorKind::UnexpectedEof
            ),
            "{codec:?}: {error:?}"
        );
    }
});
