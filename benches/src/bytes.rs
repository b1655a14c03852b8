//! Bytes that compress like those of a Nix store.

use super::Random;

/// Words of the language that [`text`] is written in.
const WORDS: usize = 6000;
/// Instructions that [`machine_code`] is made of.
const INSTRUCTIONS: usize = 1500;

/// Returns `len` bytes of lines of words, some words likelier than others.
/// gzip makes about a third of it.
pub fn text(random: &mut Random, len: usize) -> Vec<u8> {
    // The language is the same for all texts.
    let mut letters = Random::new(0x7e87);
    let words: Vec<Vec<u8>> = (0..WORDS)
        .map(|_| {
            let letters_of = 2 + letters.below(9);
            (0..letters_of)
                .map(|_| b"etaoinsrhldcumfpgwybvkxjqz"[letters.skewed(26)])
                .collect()
        })
        .collect();
    let mut out = Vec::with_capacity(len + 128);
    while out.len() < len {
        out.extend_from_slice(&b"            "[..4 * random.below(4)]);
        for _ in 0..4 + random.below(9) {
            out.extend_from_slice(&words[random.skewed(WORDS)]);
            out.push(b" _.(,"[random.skewed(5)]);
        }
        out.push(b'\n');
    }
    out.truncate(len);
    out
}

/// Returns `len` bytes of instructions with operands, and tables of numbers in
/// between. gzip makes a bit under half of it.
pub fn machine_code(random: &mut Random, len: usize) -> Vec<u8> {
    let mut shapes = Random::new(0xc0de);
    let instructions: Vec<Vec<u8>> = (0..INSTRUCTIONS)
        .map(|_| {
            let bytes = 2 + shapes.below(5);
            (0..bytes).map(|_| shapes.number() as u8).collect()
        })
        .collect();
    let mut out = Vec::with_capacity(len + 4096);
    while out.len() < len {
        for _ in 0..200 + random.below(400) {
            out.extend_from_slice(&instructions[random.skewed(INSTRUCTIONS)]);
            match random.below(8) {
                0 => out.extend_from_slice(&(random.skewed(1 << 20) as u32).to_le_bytes()),
                1 | 2 => out.push(random.number() as u8),
                _ => {}
            }
        }
        let mut address = random.number() as u32 as u64;
        for _ in 0..random.below(60) {
            address += 16 * random.skewed(64) as u64;
            out.extend_from_slice(&address.to_le_bytes());
        }
        out.extend_from_slice(&[0; 64][..random.below(64)]);
    }
    out.truncate(len);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_compress_as_they_should() {
        let mut gzip = libdeflater::Compressor::new(libdeflater::CompressionLvl::new(6).unwrap());
        let mut percent = |bytes: &[u8]| {
            let mut out = vec![0; gzip.gzip_compress_bound(bytes.len())];
            100 * gzip.gzip_compress(bytes, &mut out).unwrap() / bytes.len()
        };
        let text = percent(&text(&mut Random::new(1), 1 << 20));
        assert!((25..45).contains(&text), "{text} %");
        let code = percent(&machine_code(&mut Random::new(1), 1 << 20));
        assert!((35..60).contains(&code), "{code} %");
    }
}
