//! An OCI image layout: a directory of blobs and an index of images.
//!
//! Blobs are collected in a staging directory. Where no layout is yet, it
//! stands beside the final name and is renamed to it at `commit`. In a
//! directory that is there already it is a hidden directory in it: `commit`
//! renames each blob to its digest and then replaces `index.json`. So a blob
//! without an image can be left behind by a kill, but never an image without
//! its blobs. What a kill left is removed by the next build.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::context::{Context, Event};
use crate::digest::{Digest, Hasher};
use crate::error::{Error, ErrorKind, Result};
use crate::image::{ImageReader, ImageSource, RawManifest, layer_records};
use crate::input::{InputKind, read_file, read_open};
use crate::layer::{Blob, LayerKeyPrefix, LayerRecord};
use crate::oci::{Descriptor, ImageManifest, Reference, is_tag, parse_name};

use super::ImageSink;
use super::index_json::{
    IndexEntry, OCI_LAYOUT, empty_index, index_entries, merge, parse_index, parse_manifest,
    shadowed,
};
use super::index_parts::{IndexParts, needed_blobs};
use super::output::{BUFFER, Output, is_refused, parent, sha256, sync_dir, sync_files, wrong_size};
use super::staging::{StagingDir, is_staging_inside, remove_abandoned_dirs};

/// How long to wait before asking again for a layout that another process is
/// changing.
const LOCK_WAIT: Duration = Duration::from_millis(20);

/// Adds an image to an OCI image layout, or makes a layout.
pub struct OciLayout {
    dir: PathBuf,
    tag: Option<String>,
    /// Gone after `commit`.
    staging: Option<StagingDir>,
    spool: PathBuf,
    place: Place,
    staged: BTreeSet<Digest>,
    /// Blobs that were in the layout before, and whose bytes were read.
    verified: BTreeSet<Digest>,
    images: Vec<IndexEntry>,
    /// Whether nothing is believed of the layers that are there.
    packs_all: bool,
    /// The permission bits of a new file, which the umask decided.
    file_mode: u32,
}

/// Where the staging directory is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Beside the layout, whose name is free.
    Beside,
    /// Inside, where a layout or an empty directory was.
    Inside,
    /// Inside a directory that we made because no neighbour may be made.
    InsideOwn,
}

/// What is at a layout's name.
enum Found {
    Nothing,
    /// An empty directory, or one in which a layout was begun.
    Empty,
    Layout,
}

impl OciLayout {
    /// Begins an image for the layout `dir`, which may be there already. `tag`
    /// is the image's name in it; without one the tags of its names are used.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutputTaken`] if something else is there,
    /// [`ErrorKind::Image`] if its `index.json` cannot be read,
    /// [`ErrorKind::WriteOutput`] if nothing can be written.
    pub fn open(dir: &Path, tag: Option<&str>) -> Result<Self> {
        let name = display_name(dir, tag);
        let inside = OsStr::new("");
        let (place, staging) = match look(dir)? {
            Found::Nothing => create_staging(dir)?,
            Found::Empty => (Place::Inside, StagingDir::create(dir, inside)),
            Found::Layout => {
                // Better to know now than after the packing.
                read_index(&name, dir)?;
                (Place::Inside, StagingDir::create(dir, inside))
            }
        };
        let staging = staging.map_err(Error::writing("create a directory in", dir))?;
        let spool = staging.path().join("spool");
        let layout = Self {
            dir: dir.to_owned(),
            tag: tag.map(str::to_owned),
            file_mode: mode_of(staging.path())? & 0o666,
            staging: Some(staging),
            spool,
            place,
            staged: BTreeSet::new(),
            verified: BTreeSet::new(),
            images: Vec::new(),
            packs_all: false,
        };
        let blobs = blob_path(layout.staging()?, None);
        fs::create_dir_all(&blobs).map_err(Error::writing("create", &blobs))?;
        fs::create_dir(&layout.spool).map_err(Error::writing("create", &layout.spool))?;
        remove_abandoned_dirs(dir, inside, &layout.spool);
        let beside = dir.file_name().unwrap_or_default();
        remove_abandoned_dirs(parent(dir), beside, &layout.spool);
        Ok(layout)
    }

    /// Takes no layer over from the images that are there: what is built is
    /// packed, whatever they say of their layers.
    #[must_use]
    pub fn packing_all(mut self) -> Self {
        self.packs_all = true;
        self
    }

    /// Returns the staging directory.
    fn staging(&self) -> Result<&Path> {
        self.staging.as_ref().map(StagingDir::path).ok_or_else(|| {
            let cause = io::Error::other("the image was committed before");
            Error::writing("write", &self.dir)(cause)
        })
    }

    /// Returns whether the layout has a blob, or will have it. One that was
    /// there before is read, but only once.
    fn has(&mut self, cx: &Context, descriptor: &Descriptor) -> Result<bool> {
        let digest = sha256(descriptor)?;
        if self.staged.contains(&digest) || self.verified.contains(&digest) {
            return Ok(true);
        }
        let path = blob_path(&self.dir, Some(digest));
        let is_there = is_whole(cx, &path, digest, descriptor.size())?;
        if is_there {
            self.verified.insert(digest);
        }
        Ok(is_there)
    }

    fn stage(&self, cx: &Context, path: &Path, blob: &mut dyn Blob) -> Result<()> {
        if blob.move_to(path)? {
            let metadata = fs::metadata(path).map_err(Error::writing("open", path))?;
            if metadata.len() != blob.descriptor().size() {
                return Err(wrong_size(blob.descriptor(), metadata.len()));
            }
            // Spools are private; a layout is as public as the umask says.
            return fs::set_permissions(path, Permissions::from_mode(self.file_mode))
                .map_err(Error::writing("set the permissions of", path));
        }
        let file = File::create_new(path).map_err(Error::writing("create", path))?;
        Output::file(file, path).copy_blob(cx, blob)
    }

    /// Fails unless the layout has all blobs of a manifest, or will have them.
    fn check_blobs(&mut self, cx: &Context, manifest: &ImageManifest) -> Result<()> {
        for blob in needed_blobs(manifest) {
            if !self.has(cx, blob)? {
                let problem = format!("blob {} of the manifest is missing", blob.digest());
                return Err(Error::image(self.name(), problem));
            }
        }
        Ok(())
    }

    /// Makes the staging directory the layout.
    ///
    /// Returns whether it could: not if somebody made the directory meanwhile.
    fn rename_staging(&mut self, staging: &Path) -> Result<bool> {
        fs::remove_dir_all(&self.spool).map_err(Error::writing("remove", &self.spool))?;
        write_synced(&staging.join("oci-layout"), OCI_LAYOUT)?;
        write_synced(
            &staging.join("index.json"),
            &merge(empty_index(), &self.images),
        )?;
        for dir in [&blob_path(staging, None), &staging.join("blobs"), staging] {
            sync_dir(dir)?;
        }
        match fs::rename(staging, &self.dir) {
            Ok(()) => sync_dir(parent(&self.dir)).map(|()| true),
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
                ) =>
            {
                Ok(false)
            }
            Err(e) => Err(Error::writing("rename a directory to", &self.dir)(e)),
        }
    }

    /// Moves what is staged into the layout and replaces its index.
    fn merge_staging(&self, cx: &Context, staging: &Path) -> Result<()> {
        let _lock = lock(cx, &self.dir)?;
        let found = look(&self.dir)?;
        let index = match found {
            Found::Layout => read_index(&self.name(), &self.dir)?,
            Found::Empty | Found::Nothing => empty_index(),
        };
        let blobs = blob_path(&self.dir, None);
        fs::create_dir_all(&blobs).map_err(Error::writing("create", &blobs))?;
        for digest in &self.staged {
            let target = blob_path(&self.dir, Some(*digest));
            fs::rename(blob_path(staging, Some(*digest)), &target)
                .map_err(Error::writing("rename a file to", &target))?;
        }
        for dir in [&blobs, &self.dir.join("blobs")] {
            sync_dir(dir)?;
        }
        for name in shadowed(&index, &self.images) {
            let message = format!(
                "{} has another image called {}; the new one is called {} in it. \
                 oci:DIR:TAG gives it the tag in place of the other",
                self.name(),
                name.tag().unwrap_or("latest"),
                name.whole()
            );
            cx.observer.event(&Event::Warning { message: &message });
        }
        if !matches!(found, Found::Layout) {
            replace(staging, &self.dir, "oci-layout", OCI_LAYOUT)?;
        }
        replace(
            staging,
            &self.dir,
            "index.json",
            &merge(index, &self.images),
        )?;
        sync_dir(&self.dir)
    }
}

impl Drop for OciLayout {
    fn drop(&mut self) {
        if self.staging.take().is_some() && self.place == Place::InsideOwn {
            // It is empty unless another process uses it by now.
            let _ = fs::remove_dir(&self.dir);
        }
    }
}

impl ImageSink for OciLayout {
    fn name(&self) -> String {
        display_name(&self.dir, self.tag.as_deref())
    }

    fn moves_blobs(&self) -> bool {
        true
    }

    fn spool_dir(&self) -> Option<&Path> {
        Some(&self.spool)
    }

    fn missing(&mut self, cx: &Context, blobs: &[Descriptor]) -> Result<Vec<Descriptor>> {
        let mut missing = Vec::new();
        for blob in blobs {
            if !self.has(cx, blob)? {
                missing.push(blob.clone());
            }
        }
        Ok(missing)
    }

    /// Earlier images are those of the same tag, or of the same repository by
    /// their full names. A layout that cannot be read as one, or an image in it,
    /// says nothing.
    fn known_layers(
        &mut self,
        cx: &Context,
        names: &[Reference],
    ) -> Result<BTreeMap<LayerKeyPrefix, LayerRecord>> {
        let mut known = BTreeMap::new();
        if self.packs_all || self.place != Place::Inside {
            return Ok(known);
        }
        let source = ImageSource::Layout {
            dir: self.dir.clone(),
            tag: None,
        };
        let Ok(reader) = ImageReader::open(cx, &source) else {
            return Ok(known);
        };
        let is_earlier = |name: &String| {
            let is_of = |own: &Reference, other: &Reference| {
                (own.registry(), own.repository()) == (other.registry(), other.repository())
            };
            match is_tag(name) {
                true => self.tag.as_ref() == Some(name),
                false => {
                    parse_name(name).is_ok_and(|other| names.iter().any(|own| is_of(own, &other)))
                }
            }
        };
        let mut contradicted = BTreeSet::new();
        for manifest in reader.manifests(cx).unwrap_or_default() {
            cx.cancel.check()?;
            let Ok(image) = reader.load(&manifest) else {
                continue;
            };
            if !image.names.iter().any(is_earlier) {
                continue;
            }
            for (key, record) in layer_records(&image.manifest, &image.config) {
                if *known.entry(key).or_insert_with(|| record.clone()) != record {
                    contradicted.insert(key);
                }
            }
        }
        known.retain(|key, _| !contradicted.contains(key));
        Ok(known)
    }

    fn put_blob(&mut self, cx: &Context, blob: &mut dyn Blob) -> Result<()> {
        cx.cancel.check()?;
        let digest = sha256(blob.descriptor())?;
        let path = blob_path(self.staging()?, Some(digest));
        // One that is in the layout is replaced: the bytes are here, and to
        // find out whether those there are right costs more.
        if self.staged.contains(&digest) {
            return Ok(());
        }
        if let Err(e) = self.stage(cx, &path, blob) {
            // What is staged gets a final name, so this must not stay.
            let _ = fs::remove_file(&path);
            return Err(e);
        }
        self.staged.insert(digest);
        Ok(())
    }

    fn put_manifest(
        &mut self,
        cx: &Context,
        manifest: &RawManifest,
        names: &[Reference],
    ) -> Result<()> {
        let parsed = parse_manifest(&self.name(), manifest)?;
        self.check_blobs(cx, &parsed)?;
        self.put_blob(cx, &mut manifest.blob.clone())?;
        let descriptor = manifest.blob.descriptor();
        self.images
            .extend(index_entries(descriptor, names, self.tag.as_deref()));
        Ok(())
    }

    fn put_index(
        &mut self,
        cx: &Context,
        index: &RawManifest,
        children: &[RawManifest],
        names: &[Reference],
    ) -> Result<()> {
        let parts = IndexParts::new(&self.name(), index, children)?;
        for manifest in &parts.manifests {
            self.check_blobs(cx, manifest)?;
        }
        for document in children.iter().chain([index]) {
            self.put_blob(cx, &mut document.blob.clone())?;
        }
        let descriptor = index.blob.descriptor();
        self.images
            .extend(index_entries(descriptor, names, self.tag.as_deref()));
        Ok(())
    }

    fn commit(&mut self, cx: &Context) -> Result<()> {
        cx.cancel.check()?;
        let staging = self.staging()?.to_owned();
        let blobs = self.staged.iter().map(|d| blob_path(&staging, Some(*d)));
        sync_files(cx, &staging, blobs)?;
        let renamed = self.place == Place::Beside && self.rename_staging(&staging)?;
        if !renamed {
            self.merge_staging(cx, &staging)?;
        }
        if let Some(staging) = self.staging.take()
            && renamed
        {
            staging.keep();
        }
        Ok(())
    }
}

fn display_name(dir: &Path, tag: Option<&str>) -> String {
    match tag {
        Some(tag) => format!("oci:{}:{tag}", dir.display()),
        None => format!("oci:{}", dir.display()),
    }
}

/// Returns the path of a blob in a layout, or of the directory of all.
fn blob_path(layout: &Path, digest: Option<Digest>) -> PathBuf {
    let mut path = layout.join("blobs").join("sha256");
    if let Some(digest) = digest {
        path.push(digest.hex());
    }
    path
}

/// Returns whether a file has these bytes. One that cannot be read has not.
fn is_whole(cx: &Context, path: &Path, digest: Digest, size: u64) -> Result<bool> {
    if !fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == size) {
        return Ok(false);
    }
    let Ok(mut file) = File::open(path) else {
        return Ok(false);
    };
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        cx.cancel.check()?;
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hasher.finish() == digest),
            Ok(n) => hasher.update(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Ok(false),
        }
    }
}

/// Says what is at a layout's name.
///
/// # Errors
///
/// [`ErrorKind::OutputTaken`] if it is nothing that an image can be added to.
fn look(dir: &Path) -> Result<Found> {
    let taken = |problem: &str| {
        Err(ErrorKind::OutputTaken {
            path: dir.to_owned(),
            problem: problem.to_owned(),
        }
        .into())
    };
    match fs::metadata(dir) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return taken("a file, expected an OCI image layout or nothing"),
        Err(e) if e.kind() == io::ErrorKind::NotFound && dir.is_symlink() => {
            return taken("a symbolic link to nothing, expected an OCI image layout or nothing");
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(e) => return Err(Error::writing("open", dir)(e)),
    }
    let mut is_begun = true;
    for entry in fs::read_dir(dir).map_err(Error::writing("list", dir))? {
        let name = entry.map_err(Error::writing("list", dir))?.file_name();
        match name.to_str() {
            Some("oci-layout") => {
                let path = dir.join("oci-layout");
                let bytes = read_file(&path, InputKind::Layout)?;
                return match serde_json::from_slice::<Value>(&bytes) {
                    Ok(layout) if layout["imageLayoutVersion"] == "1.0.0" => Ok(Found::Layout),
                    _ => taken("not an OCI image layout of version 1.0.0: see its file oci-layout"),
                };
            }
            // What a kill can leave, and what another process is making.
            Some("blobs") => {}
            _ if is_staging_inside(&name) => {}
            _ => is_begun = false,
        }
    }
    if is_begun {
        Ok(Found::Empty)
    } else {
        taken("a directory of other things, expected an OCI image layout or an empty directory")
    }
}

/// Makes a staging directory for a layout whose name is free.
fn create_staging(dir: &Path) -> Result<(Place, io::Result<StagingDir>)> {
    match StagingDir::create(parent(dir), dir.file_name().unwrap_or_default()) {
        Err(e) if is_refused(&e) => {
            fs::create_dir(dir).map_err(Error::writing("create", dir))?;
            Ok((Place::InsideOwn, StagingDir::create(dir, OsStr::new(""))))
        }
        Err(e) => Err(Error::writing("create a directory beside", dir)(e)),
        beside => Ok((Place::Beside, beside)),
    }
}

fn mode_of(path: &Path) -> Result<u32> {
    let metadata = fs::metadata(path).map_err(Error::writing("open", path))?;
    Ok(metadata.permissions().mode())
}

/// Reads a layout's index; a layout without one has no images yet.
fn read_index(name: &str, dir: &Path) -> Result<serde_json::Map<String, Value>> {
    let path = dir.join("index.json");
    match File::open(&path) {
        Ok(file) => parse_index(name, &read_open(&file, &path, InputKind::Layout)?),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(empty_index()),
        Err(e) => Err(Error::writing("read", &path)(e)),
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let file = File::create(path).map_err(Error::writing("create", path))?;
    let mut output = Output::file(file, path);
    output.write_all(bytes)?;
    output.sync()
}

/// Gives a file of a layout new content, all or nothing.
fn replace(staging: &Path, dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let (new, path) = (staging.join(name), dir.join(name));
    write_synced(&new, bytes)?;
    fs::rename(&new, &path).map_err(Error::writing("rename a file to", &path))
}

/// Waits until no other process of ours changes the layout. The lock ends when
/// the file is dropped. Where the file system has no locks there is none.
fn lock(cx: &Context, dir: &Path) -> Result<Option<File>> {
    let file = File::open(dir).map_err(Error::writing("open", dir))?;
    loop {
        cx.cancel.check()?;
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_WAIT),
            Err(TryLockError::Error(_)) => return Ok(None),
        }
    }
}
