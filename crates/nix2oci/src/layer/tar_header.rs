//! What a header block and the extension headers before it say.
//!
//! Sources: as those of [`tar_read`](super::tar_read).

use super::tar_read::{BLOCK, Member, MemberKind};

/// Returns whether bytes follow a header of this type.
pub(super) fn has_content(flag: u8) -> bool {
    !(b'1'..=b'6').contains(&flag)
}

/// The fields of a header block that matter here.
pub(super) struct Header {
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) flag: u8,
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
}

impl Header {
    pub(super) fn parse(block: &[u8; BLOCK]) -> Result<Self, &'static str> {
        let sum = number(&block[148..156]).ok_or("a header has no checksum")?;
        // The checksum is taken with its own field as spaces. Some old
        // programs add up signed bytes.
        let bytes = || {
            let field = 148..156;
            (0..BLOCK).map(move |i| if field.contains(&i) { b' ' } else { block[i] })
        };
        let unsigned: u64 = bytes().map(u64::from).sum();
        let signed: i64 = bytes().map(|b| i64::from(b.cast_signed())).sum();
        if sum != unsigned && i64::try_from(sum) != Ok(signed) {
            return Err("a header has a wrong checksum");
        }
        let mut path = until_zero(&block[..100]).to_vec();
        // GNU headers ("ustar" and two spaces) have other fields there.
        if block[257..263] == *b"ustar\0" {
            let prefix = until_zero(&block[345..500]);
            if !prefix.is_empty() {
                path = [prefix, b"/", &path].concat();
            }
        }
        Ok(Self {
            path,
            link: until_zero(&block[157..257]).to_vec(),
            flag: block[156],
            size: number(&block[124..136]).ok_or("a header has a bad size")?,
            mode: number(&block[100..108])
                .and_then(|mode| u32::try_from(mode & 0o7777).ok())
                .unwrap_or(0),
            owner: (id(&block[108..116]), id(&block[116..124])),
        })
    }
}

/// Reads a number in octal digits, or in base 256 if the first bit is set.
fn number(field: &[u8]) -> Option<u64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        // A second bit would be the sign of a negative number.
        if first & 0x40 != 0 {
            return None;
        }
        return rest.iter().try_fold(u64::from(first & 0x3f), |n, &b| {
            n.checked_mul(256)?.checked_add(u64::from(b))
        });
    }
    let digits = until_zero(field).trim_ascii();
    digits.iter().try_fold(0u64, |n, &b| match b {
        b'0'..=b'7' => n.checked_mul(8)?.checked_add(u64::from(b - b'0')),
        _ => None,
    })
}

/// Reads the number of an owner or a group.
fn id(field: &[u8]) -> u32 {
    let id = number(field).and_then(|id| u32::try_from(id).ok());
    id.unwrap_or(0)
}

/// Reads a number of a pax record.
fn pax_number(value: &[u8]) -> Option<u32> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

pub(super) fn until_zero(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    &bytes[..end]
}

/// What extension headers say of the member that follows.
#[derive(Default)]
pub(super) struct Extensions {
    pub(super) gnu_path: Option<Vec<u8>>,
    pub(super) gnu_link: Option<Vec<u8>>,
    pax_path: Option<Vec<u8>>,
    pax_link: Option<Vec<u8>>,
    pub(super) pax_size: Option<u64>,
    pax_uid: Option<u32>,
    pax_gid: Option<u32>,
    is_sparse: bool,
}

impl Extensions {
    pub(super) fn is_empty(&self) -> bool {
        self.gnu_path.is_none()
            && self.gnu_link.is_none()
            && self.pax_path.is_none()
            && self.pax_link.is_none()
            && self.pax_size.is_none()
    }

    /// Reads pax records: `length key=value` and a line feed each, where
    /// `length` counts all of it.
    pub(super) fn take_pax(&mut self, mut body: &[u8]) -> Result<(), &'static str> {
        const BAD: &str = "a pax record is malformed";
        while !body.is_empty() {
            let space = body.iter().position(|&b| b == b' ').ok_or(BAD)?;
            let length: usize = std::str::from_utf8(&body[..space])
                .ok()
                .and_then(|digits| digits.parse().ok())
                .ok_or(BAD)?;
            let record = body.get(space + 1..length).ok_or(BAD)?;
            let record = record.strip_suffix(b"\n").ok_or(BAD)?;
            let equals = record.iter().position(|&b| b == b'=').ok_or(BAD)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => self.pax_path = Some(value.to_vec()),
                b"linkpath" => self.pax_link = Some(value.to_vec()),
                b"size" => {
                    let size = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
                    self.pax_size = Some(size.ok_or("a pax size is not a number")?);
                }
                // Go's archive/tar has those of over 2,097,151 here alone.
                b"uid" => self.pax_uid = pax_number(value),
                b"gid" => self.pax_gid = pax_number(value),
                _ if key.starts_with(b"GNU.sparse.") => self.is_sparse = true,
                _ => {}
            }
            body = &body[length..];
        }
        Ok(())
    }

    pub(super) fn apply(self, header: Header, size: u64, offset: u64) -> Member {
        let path = self.pax_path.or(self.gnu_path).unwrap_or(header.path);
        let kind = match header.flag {
            _ if self.is_sparse => MemberKind::Other(b'S'),
            // Before ustar, a directory was a file with a slash.
            0 if path.ends_with(b"/") => MemberKind::Directory,
            0 | b'0' | b'7' => MemberKind::File,
            b'1' => MemberKind::HardLink,
            b'2' => MemberKind::Symlink,
            b'5' => MemberKind::Directory,
            other => MemberKind::Other(other),
        };
        Member {
            path,
            link: self.pax_link.or(self.gnu_link).unwrap_or(header.link),
            kind,
            size: if has_content(header.flag) { size } else { 0 },
            mode: header.mode,
            is_executable: header.mode & 0o100 != 0,
            owner: (
                self.pax_uid.unwrap_or(header.owner.0),
                self.pax_gid.unwrap_or(header.owner.1),
            ),
            offset,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b" 644 \0\0\0"), Some(0o644));
        assert_eq!(number(b"\0\0\0\0"), Some(0));
        assert_eq!(number(b"\x80\0\0\x01\0"), Some(256));
        assert_eq!(number(b"9"), None);
        assert_eq!(number(&[0xff; 12]), None, "a negative number");
        assert_eq!(number(&[0xbf; 12]), None, "out of range");
    }

    #[test]
    fn malformed_pax_records_are_refused() {
        for body in [
            &b"x"[..],
            b"5 a=b",
            b"0 a=b\n",
            b"99 a=b\n",
            b"6 ab\n",
            b"18446744073709551616 a=b\n",
            b"2 a=b\n",
        ] {
            let mut extensions = Extensions::default();
            assert!(
                extensions.take_pax(body).is_err(),
                "{}",
                body.escape_ascii()
            );
        }
        let mut extensions = Extensions::default();
        extensions.take_pax(b"6 a=b\n12 path=a/b\n").unwrap();
        assert_eq!(extensions.pax_path.as_deref(), Some(&b"a/b"[..]));
    }
}
