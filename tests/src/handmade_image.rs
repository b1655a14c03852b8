//! Images made by hand, right ones and every kind of broken one.
//!
//! Made with other code than the library's: the `tar` crate, `flate2`'s
//! encoder, `serde_json` and `sha2`. Every document is made from those below
//! it and then edited, so that the digests above an edit are right again.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::Digest as _;

/// Two store paths that the right image holds.
pub const STORE_PATHS: [&str; 2] = [
    "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-hello-2.12",
    "/nix/store/1123456789abcdfghijklmnpqrsvwxyz-data",
];

/// A change to a JSON document.
pub type Edit = fn(&mut Value);

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
}

/// An entry of a tar.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A directory.
    Dir(String),
    /// A file and its content.
    File(String, Vec<u8>),
    /// A symlink and its target.
    Symlink(String, String),
    /// A hard link and its target.
    HardLink(String, String),
    /// A character device.
    Device(String),
}

/// A layer's blob and what documents say of it.
#[derive(Debug, Clone)]
pub struct HandmadeLayer {
    /// The blob.
    pub blob: Vec<u8>,
    /// Its media type.
    pub media_type: &'static str,
    /// The digest of its tar.
    pub diff_id: String,
}

/// An image before its documents are written.
#[derive(Debug, Clone)]
pub struct HandmadeImage {
    /// The layers, bottom first.
    pub layers: Vec<HandmadeLayer>,
    /// The architecture.
    pub architecture: &'static str,
    /// The name in both annotations.
    pub name: &'static str,
    /// Edits the config.
    pub config: Edit,
    /// Edits the manifest.
    pub manifest: Edit,
    /// Edits the image's entry in the index.
    pub entry: Edit,
}

/// The files of a layout or an archive, in their order.
#[derive(Debug, Clone)]
pub struct Files(pub Vec<(String, Vec<u8>)>);

fn unedited(_: &mut Value) {}

impl Default for HandmadeImage {
    fn default() -> Self {
        Self::new(Codec::Gzip)
    }
}

impl HandmadeImage {
    /// Makes a right image of two layers.
    pub fn new(codec: Codec) -> Self {
        Self {
            layers: vec![
                HandmadeLayer::new(&tar(&hello()), codec),
                HandmadeLayer::new(&tar(&data()), codec),
            ],
            architecture: "amd64",
            name: "example.org/hello:1.0",
            config: unedited,
            manifest: unedited,
            entry: unedited,
        }
    }

    /// Makes a right image but for a second layer of these entries on top of
    /// `./`, `nix` and `nix/store`.
    pub fn with_entries(entries: &[Entry]) -> Self {
        let all: Vec<_> = store().into_iter().chain(entries.iter().cloned()).collect();
        Self::with_tar(&tar(&all))
    }

    /// Makes a right image but for a second layer of these bytes.
    pub fn with_tar(tar: &[u8]) -> Self {
        let mut image = Self::default();
        image.layers[1] = HandmadeLayer::new(tar, Codec::Gzip);
        image
    }

    fn config_bytes(&self) -> Vec<u8> {
        let diff_ids: Vec<_> = self.layers.iter().map(|l| &l.diff_id).collect();
        let history: Vec<_> = (0..self.layers.len())
            .map(|i| json!({ "created_by": "by hand", "comment": format!("layer {i}") }))
            .collect();
        let mut config = json!({
            "architecture": self.architecture,
            "os": "linux",
            "created": "1970-01-01T00:00:01Z",
            "config": { "Cmd": ["/bin/hello"], "Healthcheck": { "Test": ["NONE"] } },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "history": history,
        });
        (self.config)(&mut config);
        config.to_string().into_bytes()
    }

    /// Adds the image's blobs to `files` and returns its entry for an index.
    pub fn blobs(&self, files: &mut Files) -> Value {
        let config = self.config_bytes();
        let layers: Vec<_> = self
            .layers
            .iter()
            .map(|layer| descriptor(layer.media_type, &layer.blob))
            .collect();
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": layers,
        });
        (self.manifest)(&mut manifest);
        let manifest = manifest.to_string().into_bytes();
        let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
        entry["platform"] = json!({ "os": "linux", "architecture": self.architecture });
        entry["annotations"] = json!({
            "org.opencontainers.image.ref.name": self.name,
            "io.containerd.image.name": self.name,
        });
        (self.entry)(&mut entry);
        files.add_blob(manifest);
        files.add_blob(config);
        for layer in &self.layers {
            files.add_blob(layer.blob.clone());
        }
        entry
    }

    /// Makes the files of an OCI layout.
    pub fn layout(&self) -> Files {
        layout(std::slice::from_ref(self))
    }

    /// Makes the files of an OCI layout with Docker's `manifest.json`.
    pub fn combined(&self) -> Files {
        let mut files = self.layout();
        let path = |bytes: &[u8]| format!("blobs/sha256/{}", hex(bytes));
        let layers: Vec<_> = self.layers.iter().map(|l| path(&l.blob)).collect();
        let manifest = json!([{
            "Config": path(&self.config_bytes()),
            "RepoTags": [self.name],
            "Layers": layers,
        }]);
        files.set("manifest.json", manifest.to_string().into_bytes());
        files
    }

    /// Makes the files of what `docker save` wrote before it knew OCI.
    pub fn docker(&self) -> Files {
        let config = self.config_bytes();
        let config_name = format!("{}.json", hex(&config));
        let mut files = Files(Vec::new());
        let mut layers = Vec::new();
        for layer in &self.layers {
            let name = format!("{}/layer.tar", hex(&layer.blob));
            files.set(&name, layer.blob.clone());
            layers.push(name);
        }
        files.set(&config_name, config);
        let manifest = json!([{
            "Config": config_name, "RepoTags": [self.name], "Layers": layers,
        }]);
        files.set("manifest.json", manifest.to_string().into_bytes());
        files
    }
}

/// Makes the files of an OCI layout with several images.
pub fn layout(images: &[HandmadeImage]) -> Files {
    let mut files = Files(Vec::new());
    files.set("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
    let entries: Vec<_> = images.iter().map(|image| image.blobs(&mut files)).collect();
    files.set_index(&entries);
    files
}

/// Makes the files of an OCI layout with an index of several platforms.
pub fn nested(images: &[HandmadeImage]) -> Files {
    let mut files = Files(Vec::new());
    files.set("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
    let mut entries: Vec<_> = images.iter().map(|image| image.blobs(&mut files)).collect();
    let annotations = entries[0]["annotations"].clone();
    for entry in &mut entries {
        entry.as_object_mut().unwrap().remove("annotations");
    }
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": entries });
    let index = index.to_string().into_bytes();
    let mut entry = descriptor(media_type, &index);
    entry["annotations"] = annotations;
    files.add_blob(index);
    files.set_index(&[entry]);
    files
}

/// Makes the files of an OCI layout of indexes alone: each names the one below
/// it `width` times.
pub fn indexes(width: usize, depth: usize) -> Files {
    let mut files = Files(Vec::new());
    files.set("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
    let media_type = "application/vnd.oci.image.index.v1+json";
    let mut entries: Vec<Value> = Vec::new();
    for _ in 0..depth {
        let index = json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": entries });
        let index = index.to_string().into_bytes();
        entries = vec![descriptor(media_type, &index); width];
        files.add_blob(index);
    }
    files.set_index(&entries);
    files
}

impl Files {
    /// Sets a file, or adds it.
    pub fn set(&mut self, name: &str, bytes: Vec<u8>) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = bytes,
            None => self.0.push((name.to_owned(), bytes)),
        }
    }

    /// Returns a file.
    pub fn get(&self, name: &str) -> &[u8] {
        let found = self.0.iter().find(|(known, _)| known == name);
        &found.unwrap_or_else(|| panic!("no file {name}")).1
    }

    /// Removes a file.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| known != name);
    }

    /// Edits a JSON file.
    pub fn edit(&mut self, name: &str, edit: impl FnOnce(&mut Value)) {
        let mut value = serde_json::from_slice(self.get(name)).unwrap();
        edit(&mut value);
        self.set(name, value.to_string().into_bytes());
    }

    fn set_index(&mut self, entries: &[Value]) {
        let index = json!({ "schemaVersion": 2, "manifests": entries });
        self.set("index.json", index.to_string().into_bytes());
    }

    fn add_blob(&mut self, bytes: Vec<u8>) {
        self.set(&format!("blobs/sha256/{}", hex(&bytes)), bytes);
    }

    /// Writes the files into a directory.
    pub fn write_to(&self, dir: &Path) {
        for (name, bytes) in &self.0 {
            let path = dir.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }

    /// Makes a tar of the files.
    pub fn archive(&self) -> Vec<u8> {
        let entries: Vec<_> = self
            .0
            .iter()
            .map(|(name, bytes)| Entry::File(name.clone(), bytes.clone()))
            .collect();
        tar(&entries)
    }
}

impl HandmadeLayer {
    /// Makes a layer of a tar.
    pub fn new(tar: &[u8], codec: Codec) -> Self {
        Self {
            blob: compress(codec, tar),
            media_type: match codec {
                Codec::None => "application/vnd.oci.image.layer.v1.tar",
                Codec::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
                Codec::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
            },
            diff_id: digest(tar),
        }
    }
}

/// A directory or a file on disk, removed when it is dropped.
#[derive(Debug)]
pub struct OnDisk {
    _dir: tempfile::TempDir,
    /// The directory or the file.
    pub path: PathBuf,
}

/// Writes files into a directory that lives as long as the result.
pub fn in_dir(files: &Files) -> OnDisk {
    let dir = tempfile::tempdir().unwrap();
    files.write_to(dir.path());
    let path = dir.path().to_owned();
    OnDisk { _dir: dir, path }
}

/// Writes a file that lives as long as the result.
pub fn in_file(bytes: &[u8]) -> OnDisk {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image.tar");
    std::fs::write(&path, bytes).unwrap();
    OnDisk { _dir: dir, path }
}

/// Returns the entries above a store path: `./`, `nix`, `nix/store`.
pub fn store() -> Vec<Entry> {
    ["./", "nix/", "nix/store/"]
        .map(|dir| Entry::Dir(dir.to_owned()))
        .into()
}

fn hello() -> Vec<Entry> {
    let inside = |name: &str| format!("{}/{name}", &STORE_PATHS[0][1..]);
    let mut entries = store();
    entries.push(Entry::Dir(inside("")));
    entries.push(Entry::Dir(inside("bin/")));
    entries.push(Entry::File(inside("bin/hello"), b"#!/bin/sh\n".to_vec()));
    entries.push(Entry::HardLink(inside("bin/hi"), inside("bin/hello")));
    entries.push(Entry::Symlink(inside("bin/ho"), "hello".to_owned()));
    entries.push(Entry::File(inside(&"long".repeat(60)), vec![7; 1000]));
    entries
}

fn data() -> Vec<Entry> {
    let mut entries = store();
    entries.push(Entry::File(STORE_PATHS[1][1..].to_owned(), vec![1; 5000]));
    entries
}

/// Makes a tar of entries.
pub fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        let header = |kind: tar::EntryType, size: usize| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(0o555);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(1);
            header.set_size(size as u64);
            header
        };
        let (path, mut header, content) = match entry {
            Entry::Dir(path) => (path, header(tar::EntryType::Directory, 0), &[][..]),
            Entry::File(path, content) => (
                path,
                header(tar::EntryType::Regular, content.len()),
                &content[..],
            ),
            Entry::Device(path) => (path, header(tar::EntryType::Char, 0), &[][..]),
            Entry::Symlink(path, target) => {
                let mut header = header(tar::EntryType::Symlink, 0);
                builder.append_link(&mut header, path, target).unwrap();
                continue;
            }
            Entry::HardLink(path, target) => {
                let mut header = header(tar::EntryType::Link, 0);
                builder.append_link(&mut header, path, target).unwrap();
                continue;
            }
        };
        if path.starts_with('/') || path.split('/').any(|part| part == "..") {
            // The builder refuses what this must be able to write.
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            builder.append(&header, content).unwrap();
        } else {
            builder.append_data(&mut header, path, content).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

/// Compresses bytes.
pub fn compress(codec: Codec, bytes: &[u8]) -> Vec<u8> {
    match codec {
        Codec::None => bytes.to_vec(),
        Codec::Gzip => {
            let level = flate2::Compression::fast();
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        Codec::Zstd => {
            let mut out = Vec::with_capacity(zstd_safe::compress_bound(bytes.len()));
            zstd_safe::compress(&mut out, bytes, 3).unwrap();
            out
        }
    }
}

/// Returns the SHA-256 of bytes in hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    sha2::Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
}

/// Returns the digest of bytes, with `sha256:`.
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(bytes))
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(bytes), "size": bytes.len() })
}
