//! Nix's base-32: the digits `0-9a-z` without `e o t u`, least significant
//! bits last.
//!
//! Source: `printHash32` and `parseHash32` in NixOS/nix,
//! `src/libutil/hash.cc` (2.8).

/// The digits by their values.
pub(crate) const DIGITS: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// Returns the number of digits for `bytes` bytes.
pub const fn encoded_len(bytes: usize) -> usize {
    (bytes * 8).div_ceil(5)
}

/// Returns whether `byte` is a digit of this alphabet.
pub fn is_digit(byte: u8) -> bool {
    DIGITS.contains(&byte)
}

/// Returns `bytes` in base 32.
pub fn encode(bytes: &[u8]) -> String {
    (0..encoded_len(bytes.len()))
        .rev()
        .map(|n| {
            let (i, j) = (n * 5 / 8, n * 5 % 8);
            let low = u16::from(bytes[i]);
            let high = u16::from(bytes.get(i + 1).copied().unwrap_or(0));
            let digit = ((low | high << 8) >> j) & 0x1f;
            char::from(DIGITS[usize::from(digit)])
        })
        .collect()
}

/// Returns the 32 bytes that `text` stands for, or `None` if it is not 52
/// digits or stands for more than 32 bytes.
pub fn decode_32(text: &str) -> Option<[u8; 32]> {
    decode(text, 32)?.try_into().ok()
}

/// Returns the `len` bytes that `text` stands for, or `None` if it has not as
/// many digits as they need or stands for more bytes.
pub fn decode(text: &str, len: usize) -> Option<Vec<u8>> {
    if text.len() != encoded_len(len) {
        return None;
    }
    let mut out = vec![0u8; len];
    for (n, c) in text.bytes().rev().enumerate() {
        let digit = DIGITS.iter().position(|&d| d == c)? as u16;
        let (i, j) = (n * 5 / 8, n * 5 % 8);
        let wide = digit << j;
        out[i] |= wide as u8;
        let carry = (wide >> 8) as u8;
        match out.get_mut(i + 1) {
            Some(next) => *next |= carry,
            None if carry != 0 => return None,
            None => {}
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;

    #[test]
    fn agrees_with_nix() {
        // `nix hash to-base32` of Nix 2.8.0 on the SHA-256 of the empty string.
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let bytes = HEXLOWER.decode(hex.as_bytes()).unwrap();
        let text = "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";
        assert_eq!(encode(&bytes), text);
        assert_eq!(decode_32(text).unwrap().as_slice(), bytes);
    }

    #[test]
    fn refuses_what_is_not_32_bytes() {
        assert_eq!(decode_32(""), None);
        assert_eq!(decode_32(&"e".repeat(52)), None);
        assert_eq!(decode_32(&"z".repeat(52)), None, "260 bits, not 256");
        assert_eq!(decode_32(&"0".repeat(51)), None);
    }

    proptest::proptest! {
        #[test]
        fn round_trips(bytes: [u8; 32]) {
            proptest::prop_assert_eq!(decode_32(&encode(&bytes)), Some(bytes));
        }

        #[test]
        fn round_trips_at_any_length(bytes: Vec<u8>) {
            let text = encode(&bytes);
            proptest::prop_assert_eq!(decode(&text, bytes.len()), Some(bytes));
        }
    }
}
