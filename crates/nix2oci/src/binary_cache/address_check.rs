//! Whether a NAR's content has an address.

use sha2::{Digest as _, Sha512};

use crate::digest::Hasher;

use super::content_address::{ContentAddress, ContentAddressMethod, HashAlgorithm};

/// What a NAR begins with that holds one file which is not executable; its
/// size, its bytes and the end follow.
///
/// Source: the Nix manual, "Nix Archive (NAR) format".
const FILE: &[u8] = b"\x0d\0\0\0\0\0\0\0nix-archive-1\0\0\0\
    \x01\0\0\0\0\0\0\0(\0\0\0\0\0\0\0\
    \x04\0\0\0\0\0\0\0type\0\0\0\0\
    \x07\0\0\0\0\0\0\0regular\0\
    \x08\0\0\0\0\0\0\0contents";

/// The bytes of [`FILE`] and the size.
const HEAD_LEN: usize = FILE.len() + 8;

/// Takes a NAR's bytes as they come and compares what is in it with an
/// address.
#[derive(Debug)]
pub(super) struct AddressCheck {
    address: ContentAddress,
    hash: Hash,
    /// Of a file the first bytes of the NAR, as far as they came.
    head: Vec<u8>,
    /// Of a file the bytes that follow; once they are known.
    left: u64,
}

#[derive(Debug)]
enum Hash {
    Sha256(Hasher),
    Sha512(Box<Sha512>),
}

impl Hash {
    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Sha512(hash) => hash.update(bytes),
        }
    }
}

impl AddressCheck {
    /// Begins to check an address, whose hash must be by SHA-256 or SHA-512.
    pub(super) fn new(address: &ContentAddress) -> Self {
        let hash = match address.hash.algorithm() {
            HashAlgorithm::Sha512 => Hash::Sha512(Box::default()),
            _ => Hash::Sha256(Hasher::new()),
        };
        Self {
            address: address.clone(),
            hash,
            head: Vec::new(),
            left: 0,
        }
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        if self.address.method == ContentAddressMethod::Nar {
            return self.hash.update(bytes);
        }
        if self.head.len() < HEAD_LEN {
            let n = bytes.len().min(HEAD_LEN - self.head.len());
            self.head.extend_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            if let Some(size) = self.head.get(FILE.len()..HEAD_LEN) {
                let size = size.try_into().expect("a head ends with 8 bytes");
                self.left = u64::from_le_bytes(size);
            }
        }
        let n = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        self.hash.update(&bytes[..n]);
        self.left -= n as u64;
    }

    /// Says what is wrong at the end of the NAR.
    pub(super) fn finish(self) -> Result<(), String> {
        let Self {
            address,
            hash,
            head,
            left,
        } = self;
        let is_file = address.method != ContentAddressMethod::Nar;
        if is_file && (!head.starts_with(FILE) || head.len() < HEAD_LEN || left > 0) {
            return Err(format!(
                "it is not of one file that is not executable, as its content address {address} \
                 asks for"
            ));
        }
        let found = match hash {
            Hash::Sha256(hash) => hash.finish().as_bytes().to_vec(),
            Hash::Sha512(hash) => hash.finalize().to_vec(),
        };
        if *found == *address.hash.as_bytes() {
            Ok(())
        } else {
            let found = address.hash.with_bytes(&found);
            Err(format!(
                "its content has hash {found}, and its content address is {address}"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The NAR of a file that holds `flat` and a line end.
    fn nar(executable: bool) -> Vec<u8> {
        let mut words: Vec<&[u8]> = vec![b"nix-archive-1", b"(", b"type", b"regular"];
        if executable {
            words.extend([&b"executable"[..], b""]);
        }
        words.extend([&b"contents"[..], b"flat\n", b")"]);
        let mut nar = Vec::new();
        for word in words {
            nar.extend((word.len() as u64).to_le_bytes());
            nar.extend(word);
            nar.resize(nar.len().next_multiple_of(8), 0);
        }
        nar
    }

    fn check(address: &str, nar: &[u8], step: usize) -> Result<(), String> {
        let mut check = AddressCheck::new(&address.parse().unwrap());
        nar.chunks(step).for_each(|bytes| check.update(bytes));
        check.finish()
    }

    // `nix-store --add-fixed` of Nix 2.8.0, and `nix-hash --type sha512
    // --base32` of the same file.
    const SHA256: &str = "fixed:sha256:1xk2hhjr0f2n4adj1h688wlz59xpl86y1r8bd2pjasg8gy16mikb";
    const SHA512: &str = "fixed:sha512:3rvcx0ivajks0jxxbw41351y2yhjm1zn16g86h4zqz2wri8x894ikiallfqb\
                          1c6nkkycb0xgfhrgkw6d1csgn78kwfkj2cy3dai4b4k";
    const NAR_SHA512: &str = "fixed:r:sha512:NAR";

    #[test]
    fn a_file_has_the_address_of_its_bytes() {
        let nar = nar(false);
        for address in [SHA256, SHA512] {
            for step in [1, 7, 8, 96, 97, 1000] {
                assert_eq!(check(address, &nar, step), Ok(()), "{address} by {step}");
            }
        }
        assert!(NAR_SHA512.parse::<ContentAddress>().is_err());
    }

    #[test]
    fn another_file_has_not() {
        let whole = nar(false);
        for (bytes, told) in [
            (nar(true), "not of one file"),
            (Vec::new(), "not of one file"),
            (whole[..HEAD_LEN - 1].to_vec(), "not of one file"),
            (whole[..HEAD_LEN + 2].to_vec(), "not of one file"),
        ] {
            let error = check(SHA256, &bytes, 5).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
        let mut other = whole.clone();
        other[HEAD_LEN] = b'F';
        let error = check(SHA256, &other, 5).unwrap_err();
        assert!(error.contains("its content has hash sha256:"), "{error}");
        let mut large = whole;
        large[FILE.len()..HEAD_LEN].fill(0xff);
        assert!(check(SHA256, &large, 5).is_err());
    }
}
