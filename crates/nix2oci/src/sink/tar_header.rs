//! The tar headers of archives: plain ustar, one fixed time, owner and mode.
//!
//! They say nothing of layers, whose tars have rules of their own.

/// The modification time of every entry, as in the Nix store.
const MTIME: u64 = 1;
/// Sizes from here on do not fit the field's eleven octal digits.
const USTAR_SIZE_LIMIT: u64 = 1 << 33;
/// tar's unit.
pub(super) const BLOCK: usize = 512;

/// Returns the header of a directory; `name` ends in a slash.
pub(super) fn directory(name: &str) -> Vec<u8> {
    header(name, b'5', 0o755, 0).to_vec()
}

/// Returns the header of a regular file. A size of 8 GiB or more gets a PAX
/// header before it.
pub(super) fn regular(name: &str, size: u64) -> Vec<u8> {
    if size < USTAR_SIZE_LIMIT {
        return header(name, b'0', 0o644, size).to_vec();
    }
    let record = pax_record("size", &size.to_string());
    let mut bytes = header("PaxHeaders/size", b'x', 0o644, record.len() as u64).to_vec();
    bytes.extend_from_slice(&record);
    bytes.resize(bytes.len() + padding(record.len() as u64), 0);
    // Readers of PAX ignore this field; those that do not know PAX cannot be
    // told the size at all.
    bytes.extend_from_slice(&header(name, b'0', 0o644, 0));
    bytes
}

/// Returns how many zeros follow content of this size.
pub(super) fn padding(size: u64) -> usize {
    let over = (size % BLOCK as u64) as usize;
    (BLOCK - over) % BLOCK
}

/// Returns the two blocks of zeros that end an archive.
pub(super) fn end() -> [u8; 2 * BLOCK] {
    [0; 2 * BLOCK]
}

/// Writes `<length> <key>=<value>\n`, where the length counts itself.
fn pax_record(key: &str, value: &str) -> Vec<u8> {
    let rest = format!(" {key}={value}\n");
    let mut length = rest.len();
    loop {
        let record = format!("{length}{rest}");
        if record.len() == length {
            return record.into_bytes();
        }
        length = record.len();
    }
}

fn header(name: &str, kind: u8, mode: u64, size: u64) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    debug_assert!(name.len() <= 100, "{name} does not fit a ustar header");
    header[..name.len()].copy_from_slice(name.as_bytes());
    octal(&mut header[100..108], mode);
    octal(&mut header[108..116], 0);
    octal(&mut header[116..124], 0);
    octal(&mut header[124..136], size);
    octal(&mut header[136..148], MTIME);
    header[148..156].fill(b' ');
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
    octal(&mut header[148..155], sum);
    header
}

/// Fills a field with octal digits and a NUL.
fn octal(field: &mut [u8], mut value: u64) {
    let digits = field.len() - 1;
    for digit in field[..digits].iter_mut().rev() {
        *digit = b'0' + (value & 7) as u8;
        value >>= 3;
    }
    field[digits] = 0;
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Read};

    use super::*;

    #[test]
    fn headers_are_read_by_another_reader() {
        let mut bytes = directory("blobs/");
        bytes.extend(regular("blobs/a", 3));
        bytes.extend(b"abc");
        bytes.resize(bytes.len() + padding(3), 0);
        bytes.extend(end());
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut entries = archive.entries().unwrap();
        let dir = entries.next().unwrap().unwrap();
        assert_eq!(dir.path_bytes().as_ref(), b"blobs/");
        assert_eq!(dir.header().mode().unwrap(), 0o755);
        assert!(dir.header().entry_type().is_dir());
        let mut file = entries.next().unwrap().unwrap();
        assert_eq!(file.header().mode().unwrap(), 0o644);
        assert_eq!(file.header().mtime().unwrap(), MTIME);
        assert_eq!(
            (file.header().uid().unwrap(), file.header().gid().unwrap()),
            (0, 0)
        );
        let mut content = String::new();
        file.read_to_string(&mut content).unwrap();
        assert_eq!(content, "abc");
        assert!(entries.next().is_none());
    }

    #[test]
    fn sizes_from_8_gib_on_are_told_by_pax() {
        for size in [USTAR_SIZE_LIMIT - 1, USTAR_SIZE_LIMIT, 99_999_999_999_999] {
            let bytes = regular("blobs/big", size);
            assert_eq!(bytes.len() > BLOCK, size >= USTAR_SIZE_LIMIT);
            let mut archive = tar::Archive::new(Cursor::new(bytes));
            let entry = archive.entries().unwrap().next().unwrap().unwrap();
            assert_eq!(entry.size(), size);
            assert_eq!(entry.path_bytes().as_ref(), b"blobs/big");
        }
    }

    #[test]
    fn a_record_counts_its_own_length() {
        assert_eq!(pax_record("size", "8589934592"), b"19 size=8589934592\n");
        assert_eq!(pax_record("a", "b"), b"6 a=b\n");
        // One digit more makes the length one digit longer.
        assert_eq!(pax_record("a", "bbbb"), b"9 a=bbbb\n");
        assert_eq!(pax_record("a", "bbbbb"), b"11 a=bbbbb\n");
    }

    #[test]
    fn padding_fills_the_block() {
        assert_eq!([0, 1, 511, 512, 513].map(padding), [0, 511, 1, 0, 511]);
    }
}
