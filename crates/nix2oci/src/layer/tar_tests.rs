//! Tars to the byte, and what independent readers see in them.

use std::io::Read;

use super::*;
use crate::digest::Digest;
use crate::layer::Compression;
use crate::layer::Owner;

/// A tar in memory, lent in small pieces of changing length.
struct InMemory {
    bytes: Vec<u8>,
    room: Vec<u8>,
    turn: usize,
}

impl InMemory {
    fn new() -> Self {
        Self {
            bytes: Vec::new(),
            room: vec![0; 1000],
            turn: 0,
        }
    }
}

impl TarOutput for InMemory {
    fn room(&mut self) -> Result<&mut [u8]> {
        self.turn += 1;
        let n = [1, 7, 512, 1000, 13][self.turn % 5];
        Ok(&mut self.room[..n])
    }

    fn advance(&mut self, n: usize) -> Result<()> {
        self.bytes.extend_from_slice(&self.room[..n]);
        Ok(())
    }
}

fn packing(uid: u32, gid: u32) -> Packing {
    Packing {
        compression: Compression::None,
        mtime: 1,
        owner: Owner { uid, gid },
    }
}

fn write(
    packing: &Packing,
    entries: impl FnOnce(&mut TarWriter<'_, InMemory>) -> Result<()>,
) -> Vec<u8> {
    let mut out = InMemory::new();
    let mut tar = TarWriter::new(&mut out, packing);
    entries(&mut tar).unwrap();
    tar.finish().unwrap();
    assert_eq!(out.bytes.len() % RECORD, 0);
    out.bytes
}

/// Every kind of entry and of name.
fn everything() -> Vec<u8> {
    let long = |n: usize| "d/".repeat(n / 2).into_bytes();
    write(&packing(0, 0), |tar| {
        tar.root(Attributes::plain(0o755))?;
        tar.directory(b"nix", Attributes::plain(0o755))?;
        tar.directory(b"nix/a", Attributes::store_directory())?;
        tar.file(
            b"nix/a/empty",
            Attributes::store_file(false),
            0,
            &mut &b""[..],
        )?;
        tar.file(
            b"nix/a/tool",
            Attributes::store_file(true),
            5,
            &mut &b"tool\n"[..],
        )?;
        tar.file(
            b"nix/a/block",
            Attributes::store_file(false),
            512,
            &mut &[b'b'; 512][..],
        )?;
        tar.file(
            "nix/a/ä".as_bytes(),
            Attributes::store_file(false),
            1,
            &mut &b"u"[..],
        )?;
        tar.file(
            b"nix/a/\xff",
            Attributes::store_file(false),
            1,
            &mut &b"x"[..],
        )?;
        tar.symlink(b"nix/a/link", b"tool", Attributes::symlink())?;
        tar.symlink(b"nix/a/link-far", &long(120), Attributes::symlink())?;
        tar.symlink(b"nix/a/link-raw", b"\xfe", Attributes::symlink())?;
        let mut split = b"nix/a/".to_vec();
        split.extend(long(120));
        split.extend(b"file");
        tar.file(&split, Attributes::store_file(false), 1, &mut &b"s"[..])?;
        let mut unsplit = b"nix/a/".to_vec();
        unsplit.extend([b'n'; 120]);
        tar.file(&unsplit, Attributes::store_file(false), 1, &mut &b"l"[..])?;
        tar.directory(&unsplit, Attributes::store_directory())?;
        unsplit.push(0xff);
        tar.file(&unsplit, Attributes::store_file(false), 1, &mut &b"r"[..])
    })
}

#[test]
fn the_bytes_stay() {
    // GOLDEN: these digests are a promise. A change of one is a change of
    // FORMAT_VERSION and a line in the changelog.
    assert_eq!(
        Digest::of(&everything()).to_string(),
        "sha256:2fce322d4a18a101bf6a00491c2e0b8c8309e82de557a497cb8e4f519436a6bf"
    );
    let empty = write(&packing(0, 0), |tar| tar.root(Attributes::plain(0o755)));
    assert_eq!(
        Digest::of(&empty).to_string(),
        "sha256:0b52f1c6b41f9f1b322db0f698ea9cc883e3e19121cfb03d5b12faab4081e7b0"
    );
}

#[test]
fn a_header_is_what_posix_says() {
    let bytes = write(&packing(1000, 100), |tar| {
        tar.file(
            b"nix/tool",
            Attributes::store_file(true),
            5,
            &mut &b"tool\n"[..],
        )
    });
    let (header, rest) = bytes.split_at(RECORD);
    assert_eq!(&header[..8], b"nix/tool");
    assert_eq!(&header[100..108], b"0000555\0");
    assert_eq!(&header[108..116], b"0001750\0");
    assert_eq!(&header[116..124], b"0000144\0");
    assert_eq!(&header[124..136], b"00000000005\0");
    assert_eq!(&header[136..148], b"00000000001\0");
    assert_eq!(header[156], b'0');
    assert_eq!(&header[257..265], b"ustar\x0000");
    let sum: u32 = header
        .iter()
        .enumerate()
        .map(|(i, b)| {
            if (148..156).contains(&i) {
                32
            } else {
                u32::from(*b)
            }
        })
        .sum();
    assert_eq!(&header[148..156], format!("{sum:06o}\0 ").as_bytes());
    assert_eq!(&rest[..5], b"tool\n");
    assert!(rest[5..].iter().all(|b| *b == 0));
    assert_eq!(rest.len(), 3 * RECORD);
}

#[test]
fn an_entry_may_have_attributes_of_its_own() {
    let xattrs: Xattrs = [
        ("user.b".to_owned(), b"2".to_vec()),
        ("security.capability".to_owned(), vec![1, 0, 0xff, 2]),
    ]
    .into();
    let attributes = Attributes {
        mode: 0o4750,
        owner: Some(Owner { uid: 7, gid: 8 }),
        xattrs: &xattrs,
    };
    let bytes = write(&packing(1, 2), |tar| {
        tar.file(b"a", attributes, 1, &mut &b"x"[..])?;
        tar.file(b"b", Attributes::plain(0o600), 1, &mut &b"y"[..])
    });
    // GOLDEN: the records in order, the values as they are.
    let mut records = b"41 SCHILY.xattr.security.capability=".to_vec();
    records.extend([1, 0, 0xff, 2, b'\n']);
    records.extend(b"25 SCHILY.xattr.user.b=2\n");
    assert_eq!(&bytes[RECORD..RECORD + records.len()], records);
    let mut archive = ::tar::Archive::new(&bytes[..]);
    let mut entries = archive.entries().unwrap();
    let mut first = entries.next().unwrap().unwrap();
    let header = first.header();
    assert_eq!(header.mode().unwrap(), 0o4750);
    assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (7, 8));
    let found: Vec<_> = first
        .pax_extensions()
        .unwrap()
        .expect("it has extended attributes")
        .map(|record| record.unwrap().key().unwrap().to_owned())
        .collect();
    let expected = ["SCHILY.xattr.security.capability", "SCHILY.xattr.user.b"];
    assert_eq!(found, expected);
    let second = entries.next().unwrap().unwrap();
    let header = second.header();
    assert_eq!(header.mode().unwrap(), 0o600);
    assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (1, 2));
}

/// What the `tar` crate reads.
struct Seen {
    kind: char,
    path: Vec<u8>,
    link: Vec<u8>,
    mode: u32,
    contents: Vec<u8>,
}

fn read_back(bytes: &[u8]) -> Vec<Seen> {
    let mut archive = ::tar::Archive::new(bytes);
    archive
        .entries()
        .unwrap()
        .map(|entry| {
            let mut entry = entry.unwrap();
            let header = entry.header().clone();
            let mut contents = Vec::new();
            entry.read_to_end(&mut contents).unwrap();
            assert_eq!(header.mtime().unwrap(), 1);
            assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
            assert_eq!(entry.size(), contents.len() as u64);
            Seen {
                kind: char::from(header.entry_type().as_byte()),
                path: entry.path_bytes().into_owned(),
                link: entry.link_name_bytes().unwrap_or_default().into_owned(),
                mode: header.mode().unwrap(),
                contents,
            }
        })
        .collect()
}

#[test]
fn another_reader_sees_what_was_written() {
    let seen = read_back(&everything());
    let paths: Vec<_> = seen
        .iter()
        .map(|e| {
            (
                e.kind,
                String::from_utf8_lossy(&e.path).into_owned(),
                e.mode,
            )
        })
        .collect();
    let n = "n".repeat(120);
    let expected = [
        ('5', "./".to_owned(), 0o755),
        ('5', "nix/".to_owned(), 0o755),
        ('5', "nix/a/".to_owned(), 0o555),
        ('0', "nix/a/empty".to_owned(), 0o444),
        ('0', "nix/a/tool".to_owned(), 0o555),
        ('0', "nix/a/block".to_owned(), 0o444),
        ('0', "nix/a/ä".to_owned(), 0o444),
        ('0', "nix/a/\u{fffd}".to_owned(), 0o444),
        ('2', "nix/a/link".to_owned(), 0o777),
        ('2', "nix/a/link-far".to_owned(), 0o777),
        ('2', "nix/a/link-raw".to_owned(), 0o777),
        ('0', format!("nix/a/{}file", "d/".repeat(60)), 0o444),
        ('0', format!("nix/a/{n}"), 0o444),
        ('5', format!("nix/a/{n}/"), 0o555),
        ('0', format!("nix/a/{n}\u{fffd}"), 0o444),
    ];
    assert_eq!(paths, expected);
    assert_eq!(seen[4].contents, b"tool\n");
    assert_eq!(seen[5].contents, [b'b'; 512]);
    assert_eq!(seen[9].link, "d/".repeat(60).into_bytes());
    assert_eq!(seen[10].link, b"\xfe");
    assert_eq!(seen[14].path.last(), Some(&0xff));
}

#[test]
fn pax_is_for_what_ustar_cannot_hold() {
    let pax_headers = |bytes: &[u8]| {
        bytes
            .chunks(RECORD)
            .filter(|b| b[156] == b'x' && &b[257..262] == b"ustar")
            .count()
    };
    let of_path = |path: &[u8]| {
        pax_headers(&write(&packing(0, 0), |tar| {
            tar.file(path, Attributes::store_file(false), 0, &mut &b""[..])
        }))
    };
    let a = |n: usize| vec![b'a'; n];
    assert_eq!(of_path(&a(100)), 0);
    assert_eq!(of_path(&a(101)), 1);
    assert_eq!(of_path(&[a(155), b"/".to_vec(), a(100)].concat()), 0);
    assert_eq!(of_path(&[a(156), b"/".to_vec(), a(100)].concat()), 1);
    assert_eq!(of_path(&[a(50), b"/".to_vec(), a(101)].concat()), 1);
    assert_eq!(of_path("ü".as_bytes()), 1);
    assert_eq!(of_path(b"\xfc"), 0);

    let of_owner = |uid, gid| {
        pax_headers(&write(&packing(uid, gid), |tar| {
            tar.root(Attributes::plain(0o755))
        }))
    };
    assert_eq!(of_owner(2_097_151, 2_097_151), 0);
    assert_eq!(of_owner(2_097_152, 0), 1);
    assert_eq!(of_owner(0, u32::MAX), 1);
}

/// Gives zeroes; counts instead of keeping.
struct Counting {
    room: Vec<u8>,
    head: Vec<u8>,
    size: u64,
}

impl TarOutput for Counting {
    fn room(&mut self) -> Result<&mut [u8]> {
        Ok(&mut self.room)
    }

    fn advance(&mut self, n: usize) -> Result<()> {
        if self.head.len() < 4 * RECORD {
            self.head.extend_from_slice(&self.room[..n]);
        }
        self.size += n as u64;
        Ok(())
    }
}

struct Zeroes;

impl Contents for Zeroes {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        Ok(buf.len())
    }
}

#[test]
fn a_file_of_8_gib_has_its_size_in_pax() {
    let head_of = |size: u64| {
        let mut out = Counting {
            room: vec![0; 16 << 20],
            head: Vec::new(),
            size: 0,
        };
        let mut tar = TarWriter::new(&mut out, &Packing::default());
        tar.file(b"large", Attributes::store_file(false), size, &mut Zeroes)
            .unwrap();
        tar.finish().unwrap();
        (out.head, out.size)
    };
    let limit = 8 << 30;
    let (head, written) = head_of(limit - 1);
    assert_eq!(&head[124..136], b"77777777777\0");
    assert_eq!(written, limit + 3 * RECORD as u64);

    let (head, written) = head_of(limit);
    assert_eq!(head[156], b'x');
    assert_eq!(&head[512..532], b"19 size=8589934592\n\0");
    assert_eq!(&head[1024 + 124..1024 + 136], b"00000000000\0");
    assert_eq!(written, limit + 5 * RECORD as u64);
}

#[test]
fn a_pax_record_counts_its_own_length() {
    for n in 0..1100 {
        let mut record = Vec::new();
        push_pax_record(&mut record, "path", &vec![b'v'; n]);
        let text = std::str::from_utf8(&record).unwrap();
        let (len, _) = text.split_once(' ').unwrap();
        assert_eq!(len.parse::<usize>().unwrap(), record.len());
    }
}
