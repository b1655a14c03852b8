//! Where results are written: standard output, and files that get their name
//! when they are whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix2oci::{Context, Digest, Error};
use tempfile::{NamedTempFile, TempPath};

use crate::args::RecordArgs;
use crate::exit::Failure;
use crate::report::Report;
use crate::stdout;

/// Bytes of a stream that are copied at once.
const BUFFER: usize = 128 << 10;

/// Prints text for people, who may close the pipe when they have seen enough.
pub(crate) fn print(text: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text)
        .and_then(|()| out.flush())
        .map_err(|error| Failure::stdout(&error))
}

/// Returns a JSON document for people and programs: indented, with a newline
/// at its end.
pub(crate) fn json<T: serde::Serialize>(document: &T) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(document).expect("the reports are plain JSON");
    text.push(b'\n');
    text
}

/// The files of `--metadata-file` and `--digest-file`.
#[derive(Debug)]
pub(crate) struct Records {
    metadata: Option<PendingFile>,
    digest: Option<PendingFile>,
}

impl Records {
    /// Prepares to write those that are asked for.
    pub(crate) fn new(args: &RecordArgs) -> Result<Self, Failure> {
        let pending = |path: &Option<PathBuf>| path.as_deref().map(PendingFile::new).transpose();
        Ok(Self {
            metadata: pending(&args.metadata_file)?,
            digest: pending(&args.digest_file)?,
        })
    }

    /// Writes them.
    pub(crate) fn finish(self, report: &Report, digest: Digest) -> Result<(), Failure> {
        self.finish_text(report, &format!("{digest}\n"))
    }

    /// Writes them; `digests` has a line for each image.
    pub(crate) fn finish_text(self, report: &Report, digests: &str) -> Result<(), Failure> {
        if let Some(file) = self.metadata {
            file.finish(&json(report))?;
        }
        if let Some(file) = self.digest {
            file.finish(digests.as_bytes())?;
        }
        Ok(())
    }
}

/// A small file to be written at the end of a long work.
///
/// Made at the beginning, so that a wrong directory is told before the work.
/// It gets its name in [`finish`](Self::finish); dropped before, it leaves
/// nothing.
#[derive(Debug)]
pub(crate) struct PendingFile {
    path: PathBuf,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Stdout,
    /// A pipe or a device, which cannot be replaced.
    Special,
    Beside(NamedTempFile),
}

impl PendingFile {
    /// Prepares to write `path`; `-` is standard output.
    pub(crate) fn new(path: &Path) -> Result<Self, Failure> {
        let place = if stdout::is_stdout(path) {
            Place::Stdout
        } else {
            match fs::metadata(path) {
                Ok(found) if found.is_dir() => {
                    let taken = io::Error::from(io::ErrorKind::IsADirectory);
                    return Err(Error::writing("write", path)(taken).into());
                }
                Ok(found) if !found.is_file() => Place::Special,
                Ok(found) => {
                    let mode = found.permissions().mode() & 0o777;
                    let file = beside(path, mode)?;
                    // Also what the umask took: a file keeps its mode.
                    file.as_file()
                        .set_permissions(fs::Permissions::from_mode(mode))
                        .map_err(Error::writing("create", path))?;
                    Place::Beside(file)
                }
                // As any new file: the umask takes what it takes.
                Err(_) => Place::Beside(beside(path, 0o666)?),
            }
        };
        Ok(Self {
            path: path.to_owned(),
            place,
        })
    }

    /// Writes the whole file and gives it its name.
    pub(crate) fn finish(self, bytes: &[u8]) -> Result<(), Failure> {
        let path = self.path;
        match self.place {
            Place::Stdout => stdout::deliver(bytes),
            Place::Special => fs::write(&path, bytes)
                .map_err(|error| Error::writing("write", &path)(error).into()),
            Place::Beside(mut file) => {
                // The file itself: an error of `file` names the temporary one.
                file.as_file_mut()
                    .write_all(bytes)
                    .map_err(Error::writing("write", &path))?;
                file.persist(real(&path))
                    .map_err(|error| Error::writing("create", &path)(error.error))?;
                Ok(())
            }
        }
    }
}

/// A large file that is written as its bytes come, and has its name at the end.
#[derive(Debug)]
pub(crate) struct StreamedFile {
    path: PathBuf,
    file: File,
    place: StreamPlace,
}

#[derive(Debug)]
enum StreamPlace {
    /// Standard output, a pipe or a device.
    Straight,
    Beside(TempPath),
    /// At its name, where nothing was and no neighbour may be made, as in a build
    /// of Nix on Darwin.
    AtName(TempPath),
}

impl StreamedFile {
    /// Begins `path`; `-` is standard output.
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        let failed = || Error::writing("create", path);
        let (file, place) = if stdout::is_stdout(path) {
            let stdout = io::stdout().as_fd().try_clone_to_owned();
            (File::from(stdout.map_err(failed())?), StreamPlace::Straight)
        } else {
            match fs::metadata(path) {
                Ok(found) if !found.is_file() && !found.is_dir() => {
                    let file = OpenOptions::new().write(true).open(path);
                    (file.map_err(failed())?, StreamPlace::Straight)
                }
                Ok(found) if found.is_dir() => {
                    let taken = io::Error::from(io::ErrorKind::IsADirectory);
                    return Err(Error::writing("write", path)(taken).into());
                }
                _ => match beside(path, 0o666) {
                    Ok(file) => {
                        let (file, path) = file.into_parts();
                        (file, StreamPlace::Beside(path))
                    }
                    Err(failure) => match File::create_new(path) {
                        Ok(file) => {
                            let path = TempPath::try_from_path(path).map_err(failed())?;
                            (file, StreamPlace::AtName(path))
                        }
                        Err(_) => return Err(failure),
                    },
                },
            }
        };
        Ok(Self {
            path: path.to_owned(),
            file,
            place,
        })
    }

    /// Writes all that a reader has. Its errors may carry one of the library.
    pub(crate) fn copy(&mut self, cx: &Context, from: &mut dyn Read) -> Result<(), Failure> {
        let mut buffer = vec![0; BUFFER];
        loop {
            cx.cancel.check()?;
            let read = from.read(&mut buffer).map_err(|error| {
                let lifted = error.downcast::<Error>();
                lifted.unwrap_or_else(|error| Error::reading(&self.path)(error))
            })?;
            if read == 0 {
                return Ok(());
            }
            self.file
                .write_all(&buffer[..read])
                .map_err(Error::writing("write", &self.path))?;
        }
    }

    /// Gives it its name.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        let failed = || Error::writing("create", &self.path);
        match self.place {
            StreamPlace::Straight => {}
            StreamPlace::Beside(temporary) => temporary
                .persist(real(&self.path))
                .map_err(|error| failed()(error.error))?,
            StreamPlace::AtName(temporary) => {
                temporary.keep().map_err(|error| failed()(error.error))?;
            }
        }
        Ok(())
    }
}

fn beside(path: &Path, mode: u32) -> Result<NamedTempFile, Failure> {
    let target = real(path);
    let directory = match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    // Asked first, since the error of the next call would name a temporary file.
    fs::metadata(directory).map_err(Error::writing("create", path))?;
    let file = tempfile::Builder::new()
        .prefix(".nix2oci-")
        .permissions(fs::Permissions::from_mode(mode))
        .tempfile_in(directory)
        .map_err(|error| Error::writing("create", path)(io::Error::from(error.kind())))?;
    Ok(file)
}

/// Returns the file that a symlink leads to, so that the link stays.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_its_name_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("digest");
        let pending = PendingFile::new(&path).unwrap();
        assert!(!path.exists());
        pending.finish(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_ne!(path.metadata().unwrap().permissions().mode() & 0o444, 0);

        drop(PendingFile::new(&path).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_full_disk_is_told_without_the_temporary_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("digest");
        let temporary = TempPath::try_from_path(dir.path().join("temporary")).unwrap();
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let pending = PendingFile {
            path: path.clone(),
            place: Place::Beside(NamedTempFile::from_parts(full, temporary)),
        };
        let failure = pending.finish(b"new").unwrap_err();
        assert_eq!(
            failure.causes(),
            ["No space left on device (os error 28)"],
            "{}",
            failure.message()
        );
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_is_replaced_keeps_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metadata.json");
        fs::write(&path, "old").unwrap();
        for mode in [0o600, 0o666] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            PendingFile::new(&path).unwrap().finish(b"new").unwrap();
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, mode);
        }
    }

    #[test]
    fn a_symlink_stays_and_its_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink("file", &link).unwrap();
        PendingFile::new(&link).unwrap().finish(b"new").unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
    }

    #[test]
    fn a_missing_directory_is_told_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("missing/digest");
        let failure = PendingFile::new(&path).unwrap_err();
        assert_eq!(
            failure.message(),
            format!("failed to create {}", path.display())
        );
        let failure = PendingFile::new(dir.path()).unwrap_err();
        assert_eq!(failure.causes(), ["is a directory"]);
    }
}
