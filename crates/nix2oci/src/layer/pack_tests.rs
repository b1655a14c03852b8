//! Layers are the same whoever packs them, and errors stop everybody.

use std::collections::BTreeMap;
use std::io::Read;
use std::num::NonZeroUsize;
use std::sync::Arc;

use super::*;
use crate::context::CancelFlag;
use crate::error::{Error, ErrorClass, ErrorKind};
use crate::layer::{Blob, Compression, Owner};
use crate::plan::{Metadata, RootNode, RootTree};
use crate::store::{StoreDir, StorePath};

const ALL: [Compression; 5] = [
    Compression::None,
    Compression::Gzip { level: 1 },
    Compression::Gzip { level: 6 },
    Compression::Zstd { level: 3 },
    Compression::Zstd { level: 19 },
];

/// What happens when a file was read.
type Spring = fn(&CancelFlag) -> Result<()>;

/// Store paths `…-0` to `…-N`, each a file of so many bytes.
struct Files {
    sizes: Vec<u64>,
    /// Which one springs it.
    trap: Option<(usize, Spring)>,
}

/// Half text that compresses and half noise that does not.
fn byte(at: u64) -> u8 {
    if at % 4096 < 2048 {
        b"nix2oci "[(at % 8) as usize]
    } else {
        let mixed = at.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 56) as u8
    }
}

struct Pattern {
    at: u64,
    size: u64,
}

impl crate::content::Contents for Pattern {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        let n = buf.len().min((self.size - self.at) as usize);
        for slot in &mut buf[..n] {
            *slot = byte(self.at);
            self.at += 1;
        }
        Ok(n)
    }
}

impl Files {
    fn path(at: usize) -> StorePath {
        format!("0123456789abcdfghijklmnpqrsvwxyz-{at}")
            .parse()
            .unwrap()
    }

    fn layers(&self) -> Vec<LayerSpec> {
        (0..self.sizes.len())
            .map(|at| LayerSpec {
                store_dir: StoreDir::default(),
                content: LayerContent::StorePaths(vec![(Self::path(at), None)]),
                rules: Arc::default(),
            })
            .collect()
    }
}

impl ContentSource for Files {
    fn visit(
        &self,
        cx: &Context,
        path: &StorePath,
        visitor: &mut dyn FnMut(Entry<'_>) -> Result<()>,
    ) -> Result<()> {
        cx.cancel.check()?;
        let at: usize = path.name().parse().unwrap();
        let size = self.sizes[at];
        visitor(Entry::File {
            path: b"",
            executable: false,
            size,
            contents: &mut Pattern { at: 0, size },
        })?;
        match self.trap {
            Some((trap, spring)) if trap == at => spring(&cx.cancel),
            _ => Ok(()),
        }
    }
}

fn context(threads: usize) -> Context {
    Context {
        threads: NonZeroUsize::new(threads).unwrap(),
        ..Context::default()
    }
}

fn packing(compression: Compression) -> Packing {
    Packing {
        compression,
        ..Packing::default()
    }
}

/// Packs all layers; returns records and bytes.
fn pack_files(
    cx: &Context,
    files: &Files,
    packing: Packing,
) -> Result<BTreeMap<usize, (LayerRecord, Vec<u8>)>> {
    let dir = tempfile::tempdir().unwrap();
    let layers = files.layers();
    let mut packed = BTreeMap::new();
    let request = PackRequest {
        layers: &layers,
        order: (0..layers.len()).collect(),
        packing,
        content: files,
        store: SpoolPlace::Named(dir.path().to_owned()),
    };
    let result = pack(cx, request, |layer, done| {
        let mut bytes = Vec::new();
        let blob = done.kept.expect("layers are spooled");
        blob.open()?.read_to_end(&mut bytes).unwrap();
        packed.insert(layer, (done.record, bytes));
        Ok(())
    });
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert!(left.is_empty(), "spool files stay: {left:?}");
    result.map(|()| packed)
}

fn decompress(compression: Compression, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match compression {
        Compression::None => out.extend_from_slice(bytes),
        Compression::Gzip { .. } => {
            let mut reader = flate2::read::MultiGzDecoder::new(bytes);
            reader.read_to_end(&mut out).unwrap();
        }
        Compression::Zstd { .. } => {
            let mut rest = bytes;
            while !rest.is_empty() {
                let len = zstd_safe::find_frame_compressed_size(rest).unwrap();
                let size = zstd_safe::get_frame_content_size(rest).unwrap().unwrap();
                let mut frame = vec![0; size as usize];
                let n = zstd_safe::decompress(frame.as_mut_slice(), &rest[..len]).unwrap();
                assert_eq!(n as u64, size);
                out.extend_from_slice(&frame);
                rest = &rest[len..];
            }
        }
    }
    out
}

#[test]
fn bytes_do_not_depend_on_threads() {
    let files = Files {
        sizes: vec![0, 1, 9_500_000, 511, 4 << 20, 100_000, 12_345],
        trap: None,
    };
    for compression in ALL {
        if compression == (Compression::Zstd { level: 19 }) && cfg!(debug_assertions) {
            continue;
        }
        let one = pack_files(&context(1), &files, packing(compression)).unwrap();
        for threads in [2, 8] {
            let many = pack_files(&context(threads), &files, packing(compression)).unwrap();
            assert_eq!(one, many, "{compression}, {threads} threads");
        }
        for (record, bytes) in one.values() {
            assert_eq!(record.digest, Digest::of(bytes));
            assert_eq!(record.size, bytes.len() as u64);
            assert_eq!(record.media_type, compression.media_type());
            let tar = decompress(compression, bytes);
            assert_eq!(record.diff_id.digest(), Digest::of(&tar));
            assert_eq!(record.uncompressed_size, tar.len() as u64);
        }
    }
}

#[test]
fn the_bytes_of_every_codec_stay() {
    // GOLDEN: these digests are a promise. A change of one is a change of
    // FORMAT_VERSION and a line in the changelog.
    let files = Files {
        sizes: vec![5_000_000],
        trap: None,
    };
    let mut found = String::new();
    for text in [
        "none", "gzip:1", "gzip:6", "gzip:9", "zstd:1", "zstd:3", "zstd:9", "zstd:19",
    ] {
        let compression = text.parse().unwrap();
        let packed = pack_files(&context(2), &files, packing(compression)).unwrap();
        let (record, _) = &packed[&0];
        found += &format!("{text} {} {}\n", record.size, record.digest);
    }
    assert_eq!(found, include_str!("golden_codecs.txt"));
}

#[test]
fn the_encoders_are_those_that_keys_name() {
    assert_eq!(zstd_safe::version_string(), "1.5.7");
    assert_eq!(
        Compression::default().identity(),
        "gzip:6, libdeflate 1.26, blocks of 1048576"
    );
}

#[test]
fn layer_keys_stay_and_tell_everything_apart() {
    // GOLDEN: a key names bytes; it changes with FORMAT_VERSION only.
    let hash = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    let spec = |name: &str, hash: Option<&str>| LayerSpec {
        store_dir: StoreDir::default(),
        content: LayerContent::StorePaths(vec![(
            format!("0123456789abcdfghijklmnpqrsvwxyz-{name}")
                .parse()
                .unwrap(),
            hash.map(|h| h.parse().unwrap()),
        )]),
        rules: Arc::default(),
    };
    let plain = Packing::default();
    let key = spec("a", Some(hash)).key(&plain).unwrap();
    assert_eq!(
        key.to_string(),
        "sha256:1fcd8be288feb718f90f9478f7ec6e2e31eed2605aeb28e46776cdb613198d88"
    );

    let mut root_tree = RootTree::default();
    let (node, metadata) = (RootNode::Directory, Metadata::default());
    root_tree
        .insert(b"tmp", node, metadata, "the test")
        .unwrap();
    let others = [
        spec("b", Some(hash)).key(&plain),
        spec("a", Some(&hash.replace('4', "5"))).key(&plain),
        LayerSpec {
            store_dir: "/gnu/store".parse().unwrap(),
            ..spec("a", Some(hash))
        }
        .key(&plain),
        LayerSpec {
            store_dir: StoreDir::default(),
            content: LayerContent::RootTree(root_tree),
            rules: Arc::default(),
        }
        .key(&plain),
        spec("a", Some(hash)).key(&packing(Compression::None)),
        spec("a", Some(hash)).key(&Packing { mtime: 2, ..plain }),
        spec("a", Some(hash)).key(&Packing {
            owner: Owner { uid: 1, gid: 0 },
            ..plain
        }),
        spec("a", Some(hash)).key(&Packing {
            owner: Owner { uid: 0, gid: 1 },
            ..plain
        }),
    ];
    let mut seen = vec![key];
    for other in others {
        let other = other.unwrap();
        assert!(!seen.contains(&other));
        seen.push(other);
    }
    assert_eq!(spec("a", None).key(&plain), None, "no hash, no key");
}

#[test]
fn the_first_error_stops_everybody() {
    let files = |spring: Spring| Files {
        sizes: vec![2 << 20; 12],
        trap: Some((5, spring)),
    };
    let fail = files(|_| Err(Error::invalid("the trap", "it sprang")));
    for threads in [1, 2, 8] {
        for compression in [Compression::None, Compression::Gzip { level: 1 }] {
            let error = pack_files(&context(threads), &fail, packing(compression)).unwrap_err();
            assert_eq!(error.to_string(), "the trap: it sprang");
        }
    }
    let panics = files(|_| panic!("the trap sprang"));
    let error = pack_files(&context(2), &panics, Packing::default()).unwrap_err();
    let ErrorKind::WorkerPanicked { message } = error.kind() else {
        panic!("{error}")
    };
    assert_eq!(message, "the trap sprang");
}

#[test]
fn cancelling_from_outside_stops_and_leaves_nothing() {
    let files = Files {
        sizes: vec![8 << 20; 8],
        trap: None,
    };
    let cx = context(2);
    let cancel = cx.cancel.clone();
    let stopper = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(30));
        cancel.cancel();
    });
    let result = pack_files(&cx, &files, packing(Compression::Gzip { level: 9 }));
    stopper.join().unwrap();
    assert_eq!(result.unwrap_err().class(), ErrorClass::Cancelled);
}

#[test]
fn an_error_of_the_receiver_stops_the_packing() {
    let files = Files {
        sizes: vec![1 << 20; 40],
        trap: None,
    };
    let layers = files.layers();
    let request = PackRequest {
        layers: &layers,
        order: (0..layers.len()).collect(),
        packing: packing(Compression::None),
        content: &files,
        store: SpoolPlace::Nowhere,
    };
    let mut taken = 0;
    let error = pack(&context(2), request, |_, done| {
        assert!(done.kept.is_none(), "only digests were asked for");
        taken += 1;
        Err(Error::invalid("the sink", "it is full"))
    })
    .unwrap_err();
    assert_eq!(
        (taken, error.to_string().as_str()),
        (1, "the sink: it is full")
    );
}

/// A store path with one thing in it.
struct One<'a> {
    path: &'a [u8],
    kind: FileKind,
}

impl ContentSource for One<'_> {
    fn visit(
        &self,
        _: &Context,
        _: &StorePath,
        visitor: &mut dyn FnMut(Entry<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut contents = Pattern { at: 0, size: 0 };
        visitor(Entry::Directory { path: b"" })?;
        visitor(match self.kind {
            FileKind::Directory => Entry::Directory { path: self.path },
            FileKind::Symlink => Entry::Symlink {
                path: self.path,
                target: b"x",
            },
            FileKind::File => Entry::File {
                path: self.path,
                executable: false,
                size: 0,
                contents: &mut contents,
            },
        })
    }
}

#[test]
fn a_name_that_would_be_a_whiteout_is_in_no_layer() {
    let files = Files {
        sizes: vec![0],
        trap: None,
    };
    let layers = files.layers();
    let pack_one = |path: &[u8], kind| {
        let request = PackRequest {
            layers: &layers,
            order: vec![0],
            packing: packing(Compression::None),
            content: &One { path, kind },
            store: SpoolPlace::Nowhere,
        };
        pack(&context(1), request, |_, _| Ok(()))
    };
    for kind in [FileKind::Directory, FileKind::Symlink, FileKind::File] {
        for path in [&b".wh.a"[..], b".wh..wh..opq", b".wh.", b"bin/.wh.x"] {
            let error = pack_one(path, kind).unwrap_err();
            assert_eq!(error.class(), ErrorClass::Store);
            let expected = format!(
                "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-0/{}: its name begins with .wh., ",
                path.escape_ascii()
            );
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
        for path in [&b"a.wh.b"[..], b".wh", b"..wh.a", b".wha/b"] {
            pack_one(path, kind).unwrap();
        }
    }
}
