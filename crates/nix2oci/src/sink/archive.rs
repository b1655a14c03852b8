//! One tar that docker, podman, skopeo, containerd and k3s load.
//!
//! It is an OCI image layout and also carries docker's `manifest.json`, whose
//! entries point to the same blobs; measured with docker 20.10, podman 4.3,
//! skopeo 1.9 and containerd 1.6. In this order, so that it can be written
//! into a pipe while the image is made: `oci-layout`, the directories, the
//! blobs as they come, `index.json`, `manifest.json`. No entry comes twice.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempPath;

use crate::context::Context;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::image::RawManifest;
use crate::layer::Blob;
use crate::oci::{Descriptor, ImageManifest, Reference, canonical_json};

use super::index_json::{
    IndexEntry, OCI_LAYOUT, docker_entry, empty_index, index_entries, merge, parse_manifest,
};
use super::index_parts::{IndexParts, needed_blobs};
use super::output::{Output, is_refused, parent, sha256, sync_dir};
use super::staging;
use super::{BlobOrder, ImageSink, tar_header};

/// Writes an image as one tar into a file or a writer.
///
/// A file gets its name at `commit`: until then the tar has a hidden name
/// beside it. A pipe, a device and a writer get the bytes as they come.
pub struct Archive {
    name: String,
    /// Gone after a failure and after `commit`: an entry was cut off, or the
    /// end is written.
    output: Option<Output>,
    place: Place,
    written: BTreeSet<Digest>,
    images: Vec<IndexEntry>,
    docker_entries: Vec<Value>,
    begun: bool,
}

/// Where the tar is until `commit`.
enum Place {
    /// Beside the file whose name it gets.
    Beside { temporary: TempPath, file: PathBuf },
    /// At its final name, where nothing was and no neighbour may be made.
    AtName { temporary: TempPath },
    /// Already where it belongs: a pipe, a device, a writer.
    Straight,
}

impl Archive {
    /// Begins an archive that gets the name `path` at `commit`. A regular file
    /// there is replaced then; a symbolic link is followed.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutputTaken`] if a directory is there,
    /// [`ErrorKind::WriteOutput`] if nothing can be written.
    pub fn create(path: &Path) -> Result<Self> {
        let taken = |problem: &str| {
            Err(ErrorKind::OutputTaken {
                path: path.to_owned(),
                problem: problem.to_owned(),
            }
            .into())
        };
        let (place, file) = match fs::metadata(path) {
            Ok(found) if found.is_dir() => {
                return taken("a directory, expected a file or nothing");
            }
            Ok(found) if found.is_file() => {
                // `/dev/stdout` may be a link to a file: the link must stay.
                let target = fs::canonicalize(path).map_err(Error::writing("open", path))?;
                let mode = found.permissions().mode() & 0o777;
                replacing(&target, mode).map_err(Error::writing("create a file beside", path))?
            }
            Ok(_) => {
                let file = OpenOptions::new().write(true).open(path);
                (Place::Straight, file.map_err(Error::writing("open", path))?)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound && path.is_symlink() => {
                return taken("a symbolic link to nothing, expected a file or nothing");
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                create_new(path).map_err(Error::writing("create", path))?
            }
            Err(e) => return Err(Error::writing("open", path)(e)),
        };
        let name = format!("archive:{}", path.display());
        Ok(Self::new(name, Output::file(file, path), place))
    }

    /// Begins an archive that goes straight into a file that is open already,
    /// such as standard output; `name` is used in errors. The kernel copies
    /// where it can.
    pub fn to_file(file: File, name: &str) -> Self {
        let output = Output::file(file, Path::new(name));
        Self::new(name.to_owned(), output, Place::Straight)
    }

    /// Begins an archive that goes into a writer; `name` is used in errors.
    pub fn to_writer(writer: Box<dyn Write + Send>, name: &str) -> Self {
        let output = Output::writer(writer, Path::new(name));
        Self::new(name.to_owned(), output, Place::Straight)
    }

    fn new(name: String, output: Output, place: Place) -> Self {
        Self {
            name,
            output: Some(output),
            place,
            written: BTreeSet::new(),
            images: Vec::new(),
            docker_entries: Vec::new(),
            begun: false,
        }
    }

    /// Runs a step that writes. If it fails nothing more can be written.
    fn step(&mut self, step: impl FnOnce(&mut Output) -> Result<()>) -> Result<()> {
        let Some(mut output) = self.output.take() else {
            let cause = io::Error::other("it is complete, or writing to it failed before");
            return Err(Error::writing("write", Path::new(&self.name))(cause));
        };
        if !self.begun {
            write_entry(&mut output, "oci-layout", OCI_LAYOUT)?;
            output.write_all(&tar_header::directory("blobs/"))?;
            output.write_all(&tar_header::directory("blobs/sha256/"))?;
            self.begun = true;
        }
        step(&mut output)?;
        self.output = Some(output);
        Ok(())
    }
}

impl Archive {
    /// Fails unless all blobs of a manifest were written.
    fn check_blobs(&self, manifest: &ImageManifest) -> Result<()> {
        for blob in needed_blobs(manifest) {
            if !self.written.contains(&sha256(blob)?) {
                let problem = format!("blob {} of the manifest is missing", blob.digest());
                return Err(Error::image(&self.name, problem));
            }
        }
        Ok(())
    }
}

/// Opens a hidden file beside a file that is there. It has the mode of that
/// file from the beginning: what is private stays so.
fn replacing(path: &Path, mode: u32) -> io::Result<(Place, File)> {
    let (place, file) = beside(path, mode)?;
    // Also what the umask took.
    file.set_permissions(Permissions::from_mode(mode))?;
    Ok((place, file))
}

fn beside(path: &Path, mode: u32) -> io::Result<(Place, File)> {
    let (dir, name) = (parent(path), path.file_name().unwrap_or_default());
    staging::remove_abandoned_files(dir, name);
    let (file, temporary) = staging::create_file(dir, name, mode)?;
    let place = Place::Beside {
        temporary: TempPath::try_from_path(temporary)?,
        file: path.to_owned(),
    };
    Ok((place, file))
}

/// Opens a hidden file beside a name that is free, or at the name if no
/// neighbour may be made.
fn create_new(path: &Path) -> io::Result<(Place, File)> {
    // As any new file: less what the umask takes.
    match beside(path, 0o666) {
        Err(e) if is_refused(&e) => {
            let file = File::create_new(path).map_err(|_| e)?;
            let temporary = TempPath::try_from_path(path)?;
            Ok((Place::AtName { temporary }, file))
        }
        other => other,
    }
}

fn write_entry(output: &mut Output, name: &str, content: &[u8]) -> Result<()> {
    let size = content.len() as u64;
    output.write_all(&tar_header::regular(name, size))?;
    output.write_all(content)?;
    output.write_all(&[0; tar_header::BLOCK][..tar_header::padding(size)])
}

fn write_blob(cx: &Context, output: &mut Output, digest: Digest, blob: &dyn Blob) -> Result<()> {
    let size = blob.descriptor().size();
    let name = format!("blobs/sha256/{}", digest.hex());
    output.write_all(&tar_header::regular(&name, size))?;
    output.copy_blob(cx, blob)?;
    output.write_all(&[0; tar_header::BLOCK][..tar_header::padding(size)])
}

impl ImageSink for Archive {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn blob_order(&self) -> BlobOrder {
        BlobOrder::Image
    }

    /// Beside the file: the temporary directory may be small, or memory.
    fn spool_dir(&self) -> Option<&Path> {
        match &self.place {
            Place::Beside { temporary, .. } => Some(parent(temporary)),
            Place::AtName { .. } | Place::Straight => None,
        }
    }

    fn missing(&mut self, _: &Context, blobs: &[Descriptor]) -> Result<Vec<Descriptor>> {
        let is_missing =
            |blob: &&Descriptor| sha256(blob).is_ok_and(|d| !self.written.contains(&d));
        Ok(blobs.iter().filter(is_missing).cloned().collect())
    }

    fn put_blob(&mut self, cx: &Context, blob: &mut dyn Blob) -> Result<()> {
        cx.cancel.check()?;
        let digest = sha256(blob.descriptor())?;
        if self.written.contains(&digest) {
            return Ok(());
        }
        self.step(|output| write_blob(cx, output, digest, blob))?;
        self.written.insert(digest);
        Ok(())
    }

    fn put_manifest(
        &mut self,
        cx: &Context,
        manifest: &RawManifest,
        names: &[Reference],
    ) -> Result<()> {
        let parsed = parse_manifest(&self.name, manifest)?;
        self.check_blobs(&parsed)?;
        self.put_blob(cx, &mut manifest.blob.clone())?;
        let descriptor = manifest.blob.descriptor();
        self.images.extend(index_entries(descriptor, names, None));
        self.docker_entries.push(docker_entry(&parsed, names));
        Ok(())
    }

    fn put_index(
        &mut self,
        cx: &Context,
        index: &RawManifest,
        children: &[RawManifest],
        names: &[Reference],
    ) -> Result<()> {
        let parts = IndexParts::new(&self.name, index, children)?;
        for manifest in &parts.manifests {
            self.check_blobs(manifest)?;
        }
        for document in children.iter().chain([index]) {
            self.put_blob(cx, &mut document.blob.clone())?;
        }
        let descriptor = index.blob.descriptor();
        self.images.extend(index_entries(descriptor, names, None));
        // docker reads manifest.json, which has no platforms.
        let first = parts.first.map(|at| &parts.manifests[at]);
        self.docker_entries
            .extend(first.map(|manifest| docker_entry(manifest, names)));
        Ok(())
    }

    fn commit(&mut self, cx: &Context) -> Result<()> {
        cx.cancel.check()?;
        let index = merge(empty_index(), &self.images);
        let docker = canonical_json(&self.docker_entries);
        self.step(|output| {
            write_entry(output, "index.json", &index)?;
            write_entry(output, "manifest.json", &docker)?;
            output.write_all(&tar_header::end())?;
            output.sync()
        })?;
        // Its lock must be held until it has its name.
        let _open = self.output.take();
        match std::mem::replace(&mut self.place, Place::Straight) {
            Place::Beside { temporary, file } => {
                temporary
                    .persist(&file)
                    .map_err(|e| Error::writing("rename a file to", &file)(e.error))?;
                sync_dir(parent(&file))
            }
            Place::AtName { temporary } => {
                let path = temporary.to_path_buf();
                temporary
                    .keep()
                    .map_err(|e| Error::writing("keep", &path)(e.error))?;
                sync_dir(parent(&path))
            }
            Place::Straight => Ok(()),
        }
    }
}
