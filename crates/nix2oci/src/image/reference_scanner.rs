//! The hashes of store paths in a stream of bytes.
//!
//! A file refers to a store path if the 32 digits of its hash are in the file,
//! wherever and in whatever context: this is how Nix finds references when it
//! registers what a build made.
//!
//! Source: `RefScanSink` in NixOS/nix 2.24, `src/libstore/path-references.cc`
//! and `src/libutil/references.cc`.

use std::collections::HashMap;

use crate::store::{StorePath, nix32};

/// Digits of the hash of a store path.
const DIGITS: usize = 32;

/// The hashes to look for, each with the place of its path in a list.
#[derive(Debug)]
pub(super) struct Hashes {
    places: HashMap<[u8; DIGITS], Vec<u32>>,
    is_digit: [bool; 256],
}

impl Hashes {
    /// Takes the paths to look for. Paths with one hash and different names are
    /// found together, since nothing tells them apart.
    pub(super) fn new<'a>(paths: impl IntoIterator<Item = &'a StorePath>) -> Self {
        let mut places: HashMap<_, Vec<u32>> = HashMap::new();
        for (path, place) in paths.into_iter().zip(0..) {
            let hash = path.hash_part().as_bytes();
            let hash = hash.try_into().expect("the hash part has 32 digits");
            places.entry(hash).or_default().push(place);
        }
        let mut is_digit = [false; 256];
        for byte in 0..=u8::MAX {
            is_digit[usize::from(byte)] = nix32::is_digit(byte);
        }
        Self { places, is_digit }
    }

    /// Tells of each hash in `bytes`, as often as it is there.
    pub(super) fn find(&self, bytes: &[u8], mut found: impl FnMut(u32)) {
        let mut at = 0;
        while let Some(window) = bytes.get(at..at + DIGITS) {
            let is_digit = |byte: &u8| self.is_digit[usize::from(*byte)];
            // No hash has the last byte in it that is no digit.
            if let Some(other) = window.iter().rposition(|byte| !is_digit(byte)) {
                at += other + 1;
                continue;
            }
            for place in self.places.get(window).into_iter().flatten() {
                found(*place);
            }
            at += 1;
        }
    }
}

/// Finds hashes in a stream that comes in parts.
#[derive(Debug, Default)]
pub(super) struct ReferenceScanner {
    /// The last bytes, in which a hash may have begun.
    tail: Vec<u8>,
}

impl ReferenceScanner {
    /// Takes the next part.
    pub(super) fn take(&mut self, hashes: &Hashes, bytes: &[u8], mut found: impl FnMut(u32)) {
        const KEPT: usize = DIGITS - 1;
        let old = self.tail.len();
        self.tail.extend_from_slice(&bytes[..bytes.len().min(KEPT)]);
        hashes.find(&self.tail, &mut found);
        hashes.find(bytes, found);
        if bytes.len() >= KEPT {
            self.tail.clear();
            self.tail.extend_from_slice(&bytes[bytes.len() - KEPT..]);
        } else {
            let all = old + bytes.len();
            self.tail.drain(..all.saturating_sub(KEPT));
        }
    }

    /// Ends a stream; the next part is the first of another.
    pub(super) fn end(&mut self) {
        self.tail.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const A: &str = "0123456789abcdfghijklmnpqrsvwxyz";
    const B: &str = "zyxwvsrqpnmlkjihgfdcba9876543210";

    fn hashes() -> Hashes {
        let paths = [A, B].map(|hash| format!("{hash}-x").parse::<StorePath>().unwrap());
        Hashes::new(&paths)
    }

    fn found(parts: &[&[u8]]) -> BTreeSet<u32> {
        let (hashes, mut scanner) = (hashes(), ReferenceScanner::default());
        let mut found = BTreeSet::new();
        for part in parts {
            scanner.take(&hashes, part, |place| {
                found.insert(place);
            });
        }
        found
    }

    #[test]
    fn hashes_are_found_anywhere() {
        for (text, expected) in [
            (format!("/nix/store/{A}-x/bin"), vec![0]),
            (format!("{A}{B}"), vec![0, 1]),
            (format!("000{B}000"), vec![1]),
            (format!("\0{B}\u{ff}"), vec![1]),
            (A[1..].to_owned(), vec![]),
            (A.to_uppercase(), vec![]),
            (format!("{}-{}", &A[..16], &A[16..]), vec![]),
            (String::new(), vec![]),
        ] {
            let expected: BTreeSet<u32> = expected.into_iter().collect();
            assert_eq!(found(&[text.as_bytes()]), expected, "{text}");
        }
    }

    #[test]
    fn a_hash_does_not_go_over_the_end_of_a_stream() {
        let (hashes, mut scanner) = (hashes(), ReferenceScanner::default());
        scanner.take(&hashes, &A.as_bytes()[..10], |_| panic!("not yet"));
        scanner.end();
        scanner.take(&hashes, &A.as_bytes()[10..], |_| panic!("another stream"));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_a_stream_is_cut(
            before in "[0-9a-z/]{0,80}",
            after in "[0-9a-z/]{0,80}",
            hash in prop::sample::select(vec![A, B, &A[..31], "no-hash"]),
            cuts in prop::collection::vec(0..50usize, 0..20),
        ) {
            let text = format!("{before}{hash}{after}");
            let mut rest = text.as_bytes();
            let mut parts = Vec::new();
            for cut in cuts {
                let (part, after) = rest.split_at(cut.min(rest.len()));
                parts.push(part);
                rest = after;
            }
            parts.push(rest);
            let expected: BTreeSet<u32> = [(0, A), (1, B)]
                .iter()
                .filter(|(_, hash)| text.contains(hash))
                .map(|(place, _)| *place)
                .collect();
            prop_assert_eq!(found(&parts), expected);
        }
    }
}
