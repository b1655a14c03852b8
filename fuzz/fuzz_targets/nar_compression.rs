#![no_main]

use std::io::{self, Read as _};

use libfuzzer_sys::fuzz_target;
use nix2oci::binary_cache::NarCompression;

/// Bytes to read at most: a few can stand for very many.
const MOST: u64 = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    for compression in NarCompression::ALL {
        let mut decoded = Vec::new();
        let decoder = compression.decoder(bytes).expect("there is memory");
        let at_once = decoder.take(MOST).read_to_end(&mut decoded);
        if let Err(error) = &at_once {
            assert!(
                matches!(
                    error.kind(),
                    io::ErrorKind::InvalidData
                        | io::ErrorKind::InvalidInput
                        | io::ErrorKind::UnexpectedEof
                ),
                "{compression}: {error:?}"
            );
            continue;
        }
        // What comes in small pieces is the same.
        let input = io::BufReader::with_capacity(5, bytes);
        let mut decoder = compression.decoder(input).expect("there is memory");
        let mut buffer = [0; 4099];
        let mut rest = &decoded[..];
        while !rest.is_empty() {
            let n = decoder.read(&mut buffer).expect("it was decoded before");
            assert!(n > 0 && n <= buffer.len(), "{compression}");
            let common = n.min(rest.len());
            assert!(buffer[..common] == rest[..common], "{compression}");
            rest = &rest[common..];
        }
    }
});
