//! A small image, blobs of every kind, and readers that share no code with the
//! sinks.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use nix2oci::digest::{DiffId, Digest};
use nix2oci::image::{AssembledImage, ImageConfig, ImageLayer, assemble};
use nix2oci::layer::{Blob, Compression, LayerHistory, LayerRecord};
use nix2oci::oci::{self, Descriptor, Reference, parse_name, parse_platform};
use nix2oci::sink::ImageSink;
use nix2oci::{CancelFlag, Context, Result};
use sha2::Digest as _;

/// An image of hand-made layers.
pub(crate) struct Sample {
    pub(crate) layers: Vec<(LayerRecord, Vec<u8>)>,
    pub(crate) image: AssembledImage,
}

/// Makes an image with these file contents, one layer each.
pub(crate) fn sample(contents: &[&str], compression: Compression) -> Sample {
    sample_for("linux/amd64", contents, compression)
}

/// The same for a platform.
pub(crate) fn sample_for(platform: &str, contents: &[&str], compression: Compression) -> Sample {
    let layers: Vec<_> = contents
        .iter()
        .map(|content| layer(content, compression))
        .collect();
    let mut config = ImageConfig::new(parse_platform(platform).unwrap());
    config.set_entrypoint(&["/bin/app".into()]);
    let described: Vec<_> = layers
        .iter()
        .map(|(record, _)| ImageLayer {
            record,
            key: None,
            paths: Vec::new(),
            summary: "a test".into(),
            history: LayerHistory::default(),
        })
        .collect();
    let image = assemble(&config, &described).unwrap();
    Sample { layers, image }
}

fn layer(content: &str, compression: Compression) -> (LayerRecord, Vec<u8>) {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o755);
    header.set_size(0);
    header.set_entry_type(tar::EntryType::Directory);
    builder.append_data(&mut header, "./", io::empty()).unwrap();
    header.set_mode(0o444);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(content.len() as u64);
    builder
        .append_data(
            &mut header,
            format!("file-{}", content.len()),
            content.as_bytes(),
        )
        .unwrap();
    let tar = builder.into_inner().unwrap();
    let bytes = match compression {
        Compression::Gzip { level } => {
            let level = flate2::Compression::new(level.into());
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(&tar).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Zstd { level } => {
            let mut bytes = Vec::with_capacity(zstd_safe::compress_bound(tar.len()));
            zstd_safe::compress(&mut bytes, &tar, level.into()).unwrap();
            bytes
        }
        _ => tar.clone(),
    };
    let record = LayerRecord {
        diff_id: DiffId::new(Digest::of(&tar)),
        uncompressed_size: tar.len() as u64,
        digest: Digest::of(&bytes),
        size: bytes.len() as u64,
        media_type: compression.media_type(),
    };
    (record, bytes)
}

impl Sample {
    pub(crate) fn layer_blobs(&self) -> impl Iterator<Item = Bytes> {
        self.layers.iter().map(|(record, bytes)| Bytes {
            descriptor: record.descriptor(),
            bytes: bytes.clone(),
            cancel: None,
        })
    }

    /// Gives all of it to a sink, but no name.
    pub(crate) fn put(&self, sink: &mut dyn ImageSink, names: &[&str]) -> Result<()> {
        let cx = Context::default();
        for mut blob in self.layer_blobs() {
            sink.put_blob(&cx, &mut blob)?;
        }
        sink.put_blob(&cx, &mut self.image.config.clone())?;
        sink.put_manifest(&cx, &self.image.manifest, &references(names))
    }

    pub(crate) fn write(&self, mut sink: Box<dyn ImageSink>, names: &[&str]) -> Result<()> {
        self.put(sink.as_mut(), names)?;
        sink.commit(&Context::default())
    }
}

pub(crate) fn references(names: &[&str]) -> Vec<Reference> {
    names.iter().map(|name| parse_name(name).unwrap()).collect()
}

/// A blob that nobody vouches for.
pub(crate) struct Bytes {
    pub(crate) descriptor: Descriptor,
    pub(crate) bytes: Vec<u8>,
    /// Set as soon as the first byte is read.
    pub(crate) cancel: Option<CancelFlag>,
}

impl Bytes {
    /// Random-looking bytes that do not compress, and their true descriptor.
    pub(crate) fn of_size(size: usize) -> Self {
        let bytes: Vec<u8> = (0..size as u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        let digest = Digest::of(&bytes);
        Self {
            descriptor: oci::descriptor(oci::MediaType::ImageLayer, digest, size as u64),
            bytes,
            cancel: None,
        }
    }
}

impl Blob for Bytes {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn open(&self) -> Result<Box<dyn Read + Send + '_>> {
        if let Some(cancel) = &self.cancel {
            cancel.cancel();
        }
        Ok(Box::new(self.bytes.as_slice()))
    }
}

/// A spooled blob: it lends its file and can be renamed.
pub(crate) struct Spooled {
    descriptor: Descriptor,
    path: PathBuf,
    file: File,
}

impl Spooled {
    pub(crate) fn new(dir: &Path, blob: &Bytes) -> Self {
        let path = dir.join("spooled");
        fs::write(&path, &blob.bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        Self {
            descriptor: blob.descriptor.clone(),
            file: File::open(&path).unwrap(),
            path,
        }
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        // It is gone already if the sink moved it.
        let _ = fs::remove_file(&self.path);
    }
}

impl Blob for Spooled {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn open(&self) -> Result<Box<dyn Read + Send + '_>> {
        panic!("a spooled blob need not be read")
    }

    fn verified_file(&self) -> Option<&File> {
        Some(&self.file)
    }

    fn move_to(&mut self, path: &Path) -> Result<bool> {
        Ok(fs::rename(&self.path, path).is_ok())
    }
}

/// The files of an image, in a layout or in an archive, by name.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

pub(crate) fn read_layout(dir: &Path) -> Files {
    fn walk(root: &Path, dir: &Path, files: &mut Files) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, files);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap();
                files.insert(name.to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    let mut files = Files::new();
    walk(dir, dir, &mut files);
    files
}

/// Reads a tar; a name that comes twice fails the test.
pub(crate) fn read_archive(bytes: &[u8]) -> Files {
    let mut files = Files::new();
    for entry in tar::Archive::new(bytes).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        let header = entry.header();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
        assert_eq!(header.mtime().unwrap(), 1);
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        assert!(files.insert(name.clone(), content).is_none(), "{name}");
    }
    files
}

/// Reads what is at a path, layout or archive.
pub(crate) fn read_image(path: &Path) -> Files {
    if path.is_dir() {
        read_layout(path)
    } else {
        read_archive(&fs::read(path).unwrap())
    }
}

pub(crate) fn json(files: &Files, name: &str) -> serde_json::Value {
    serde_json::from_slice(&files[name]).unwrap()
}

/// Asserts that every blob has the digest that it is named by.
pub(crate) fn assert_digests(files: &Files) {
    for (name, bytes) in files {
        if let Some(hex) = name.strip_prefix("blobs/sha256/").filter(|n| !n.is_empty()) {
            assert_eq!(hex, HEXLOWER.encode(&sha2::Sha256::digest(bytes)), "{name}");
        }
    }
}

/// The `ref.name` of every image in the index, with its digest.
pub(crate) fn named_images(files: &Files) -> Vec<(String, String)> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let index = json(files, "index.json");
    let manifests = index["manifests"].as_array().unwrap();
    let pair = |manifest: &serde_json::Value| {
        let name = &manifest["annotations"]["org.opencontainers.image.ref.name"];
        (text(name), text(&manifest["digest"]))
    };
    manifests.iter().map(pair).collect()
}

/// Every name below a directory, with the size of files: what a test left.
pub(crate) fn listing(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            if metadata.is_dir() {
                dirs.push(path.clone());
                found.push((path, 0));
            } else {
                found.push((path, metadata.len()));
            }
        }
    }
    found.sort();
    found
}
