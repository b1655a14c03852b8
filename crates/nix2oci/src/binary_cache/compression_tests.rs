//! Every compression, as Nix and as the formats' own tools write it, and what
//! is wrong with it.

use std::io::{self, BufReader, ErrorKind, Read};

use super::*;
use crate::digest::Digest;
use crate::error::{Error, ErrorClass};

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("../../../../fixtures/nars/", $name))
    };
}

/// The NAR that all fixtures hold.
const NAR: &[u8] = fixture!("thing.nar");

/// As Nix writes them, and as the tools do with other options.
const FIXTURES: [(NarCompression, &[u8]); 12] = [
    (NarCompression::None, NAR),
    (NarCompression::Xz, fixture!("thing.nar.xz")),
    (NarCompression::Xz, fixture!("tools.nar.xz")),
    (NarCompression::Bzip2, fixture!("thing.nar.bz2")),
    (NarCompression::Bzip2, fixture!("tools.nar.bz2")),
    (NarCompression::Gzip, fixture!("thing.nar.gz")),
    (NarCompression::Gzip, fixture!("tools.nar.gz")),
    (NarCompression::Zstd, fixture!("thing.nar.zst")),
    (NarCompression::Zstd, fixture!("tools.nar.zst")),
    (NarCompression::Brotli, fixture!("thing.nar.br")),
    (NarCompression::Lz4, fixture!("thing.nar.lz4")),
    (NarCompression::Lz4, fixture!("tools.nar.lz4")),
];

/// The most that a damaged fixture may decode to here.
const MOST: u64 = 4 << 20;

/// What was decoded, and how it ended.
fn decode(compression: NarCompression, bytes: &[u8]) -> (Vec<u8>, io::Result<()>) {
    // A buffer of three bytes: every boundary falls inside of something.
    decode_through(compression, BufReader::with_capacity(3, bytes))
}

fn decode_through(
    compression: NarCompression,
    input: impl BufRead + Send,
) -> (Vec<u8>, io::Result<()>) {
    let decoder = compression.decoder(input).unwrap();
    let mut out = Vec::new();
    let result = decoder.take(MOST).read_to_end(&mut out).map(drop);
    (out, result)
}

/// Fails with an error of ours, once.
struct Cancelled;

impl Read for Cancelled {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        let cancelled = crate::error::ErrorKind::Cancelled;
        Err(io::Error::other(Error::from(cancelled)))
    }
}

fn assert_is_of_the_stream(error: &io::Error, what: &dyn fmt::Debug) {
    let kinds = [
        ErrorKind::InvalidData,
        ErrorKind::InvalidInput,
        ErrorKind::UnexpectedEof,
    ];
    assert!(kinds.contains(&error.kind()), "{what:?}: {error:?}");
}

#[test]
fn every_compression_gives_the_nar() {
    assert_eq!(
        Digest::of(NAR).hex(),
        // `nix hash path` of the tree in fixtures/nars/README.md.
        "443f91b32b0df46268c7cf78b5225f9618b70ebea4d125c244e7d1ff472c10de"
    );
    for (compression, bytes) in FIXTURES {
        let (out, result) = decode(compression, bytes);
        result.unwrap();
        assert!(out == NAR, "{compression}");
        let (out, result) = decode_through(compression, bytes);
        result.unwrap();
        assert!(out == NAR, "{compression}");
    }
}

#[test]
fn streams_in_a_row_are_one() {
    for (compression, bytes) in FIXTURES {
        let twice = [bytes, bytes].concat();
        let (out, result) = decode(compression, &twice);
        if compression == NarCompression::Brotli {
            // The format has no way to tell that another one begins.
            let error = result.unwrap_err();
            assert!(error.to_string().contains("bytes after the end"), "{error}");
        } else {
            result.unwrap();
            assert!(out == [NAR, NAR].concat(), "{compression}");
        }
    }
    let skippable = |magic: u8| [&[magic, 0x2a, 0x4d, 0x18, 5, 0, 0, 0][..], b"hello"].concat();
    for compression in [NarCompression::Zstd, NarCompression::Lz4] {
        for (_, bytes) in FIXTURES.iter().filter(|(one, _)| *one == compression) {
            let with = [&skippable(0x50), *bytes, &skippable(0x5f), bytes].concat();
            let (out, result) = decode(compression, &with);
            result.unwrap();
            assert!(out == [NAR, NAR].concat(), "{compression}");
            let (_, result) = decode(compression, &with[..with.len() - bytes.len() - 1]);
            assert_is_of_the_stream(&result.unwrap_err(), &compression);
        }
    }
    let xz = fixture!("thing.nar.xz");
    for (padding, is_right) in [(4, true), (8, true), (1, false), (6, false)] {
        let padded = [&xz[..], &vec![0; padding], xz, &vec![0; padding]].concat();
        assert_eq!(decode(NarCompression::Xz, &padded).1.is_ok(), is_right);
    }
}

#[test]
fn a_stream_that_is_cut_is_an_error() {
    for (compression, bytes) in FIXTURES {
        if compression == NarCompression::None {
            continue;
        }
        for cut in (0..200)
            .chain((200..bytes.len()).step_by(7))
            .chain([bytes.len() - 1])
        {
            let (out, result) = decode_through(compression, &bytes[..cut]);
            let error = result.expect_err("a cut stream");
            assert_is_of_the_stream(&error, &(compression, cut));
            assert!(NAR.starts_with(&out), "{compression} cut at {cut}");
        }
    }
}

#[test]
fn bytes_after_the_end_are_an_error() {
    for (compression, bytes) in FIXTURES {
        if compression == NarCompression::None {
            continue;
        }
        for tail in [
            &b"x"[..],
            &[0; 3],
            b"longer than a magic number",
            b"BZ",
            b"\x1f\x8b",
        ] {
            let (out, result) = decode(compression, &[bytes, tail].concat());
            let error = result.expect_err("bytes after the end");
            assert_is_of_the_stream(&error, &(compression, tail));
            assert!(out.starts_with(NAR), "{compression} with {tail:?}");
        }
    }
}

#[test]
fn damaged_streams_end() {
    for (compression, bytes) in FIXTURES {
        for at in (0..40).chain((40..bytes.len()).step_by(131)) {
            for flip in [0x01, 0x80, 0xff] {
                let mut damaged = bytes.to_vec();
                damaged[at] ^= flip;
                let (_, result) = decode_through(compression, &damaged[..]);
                if let Err(error) = result {
                    assert_is_of_the_stream(&error, &(compression, at, flip));
                }
            }
        }
    }
}

#[test]
fn errors_from_below_come_out_as_they_are() {
    for (compression, bytes) in FIXTURES {
        for cut in [0, 1, 4, 6, 7, 15, 100, bytes.len() - 1, bytes.len()] {
            let input = BufReader::new(bytes[..cut].chain(Cancelled));
            let (_, result) = decode_through(compression, input);
            let error = result.unwrap_err().downcast::<Error>();
            let error = error.unwrap_or_else(|error| panic!("{compression} at {cut}: {error:?}"));
            assert_eq!(
                error.class(),
                ErrorClass::Cancelled,
                "{compression} at {cut}"
            );
        }
    }
}

/// An xz stream that asks for a dictionary of the size that `code` stands for,
/// up to its first bytes of LZMA2.
fn xz_with_dictionary(code: u8) -> Vec<u8> {
    let with_crc = |bytes: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        [bytes, &crc.sum().to_le_bytes()].concat()
    };
    let mut xz = b"\xfd7zXZ\0".to_vec();
    xz.extend(with_crc(&[0, 4]));
    // A block header of 12 bytes: one filter, LZMA2 (0x21), a property.
    xz.extend(with_crc(&[2, 0, 0x21, 1, code, 0, 0, 0]));
    // A chunk of one byte as it is.
    xz.extend([1, 0, 0, b'x']);
    xz
}

#[test]
fn streams_that_ask_for_too_much_memory_are_refused() {
    // 64 MiB, which `xz -9` asks for; then larger ones.
    let error = decode(NarCompression::Xz, &xz_with_dictionary(28)).1;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    for code in [29, 30, 40] {
        let (out, result) = decode(NarCompression::Xz, &xz_with_dictionary(code));
        assert_eq!(
            (out, result.unwrap_err().to_string().as_str()),
            (
                vec![],
                "the xz stream needs a dictionary of more than 64 MiB"
            )
        );
    }
    // A window of 256 MiB, and one of 2 GiB.
    for exponent in [18, 21] {
        let frame = [0x28, 0xb5, 0x2f, 0xfd, 0, exponent << 3, 1, 0, 0];
        let error = decode(NarCompression::Zstd, &frame).1.unwrap_err();
        assert!(error.to_string().contains("too much memory"), "{error}");
    }
    // A window of 1 GiB, by the extension for large windows.
    let error = decode(NarCompression::Brotli, &[0x11, 30, 0, 0])
        .1
        .unwrap_err();
    assert_eq!(error.to_string(), "the brotli stream is damaged");
}

#[test]
fn words_of_narinfos_are_known() {
    for compression in NarCompression::ALL {
        assert_eq!(compression.as_str().parse(), Ok(compression));
    }
    assert_eq!(NarCompression::default(), NarCompression::Bzip2);
    for text in ["", "XZ", "brotli", "lzip"] {
        assert_eq!(
            text.parse::<NarCompression>().unwrap_err().to_string(),
            format!(
                "compression {text:?} cannot be read: expected none, xz, bzip2, gzip, zstd, br or \
                 lz4"
            )
        );
    }
}
