//! Standard output, which has room for one result.

use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use nix2oci::Error;

use crate::exit::{Failure, Outcome};

/// Prints what a program waits for: all of it arrives, or it is an error.
pub(crate) fn deliver(result: &[u8]) -> Outcome<()> {
    let mut out = io::stdout().lock();
    out.write_all(result)
        .and_then(|()| out.flush())
        .map_err(Error::writing("write", Path::new("standard output")))?;
    Ok(())
}

/// Returns whether writing to a file is writing to standard output: it is `-`,
/// or leads to the same file, pipe or terminal, as `/dev/stdout` does.
pub(crate) fn is_stdout(path: &Path) -> bool {
    if path.as_os_str() == "-" {
        return true;
    }
    let stdout = io::stdout().as_fd().try_clone_to_owned();
    let stdout = stdout.and_then(|stdout| File::from(stdout).metadata());
    let (Ok(file), Ok(stdout)) = (fs::metadata(path), stdout) else {
        return false;
    };
    // Where nothing arrives, as in /dev/null, two do not get in each other's way.
    let is_device = file.file_type().is_char_device() && !io::stdout().is_terminal();
    (file.dev(), file.ino()) == (stdout.dev(), stdout.ino()) && !is_device
}

/// Returns whether a file that was asked for is standard output.
pub(crate) fn is_wanted(file: Option<&Path>) -> bool {
    file.is_some_and(is_stdout)
}

/// Refuses more than one result for standard output.
///
/// Takes the options in the order of the help, and whether each wants it.
/// Returns whether one does.
pub(crate) fn claim(wishes: &[(&str, bool)]) -> Outcome<bool> {
    let mut takers = wishes.iter().filter(|(_, wants)| *wants).map(|(o, _)| *o);
    match (takers.next(), takers.next()) {
        (Some(first), Some(second)) => {
            let failure = Failure::usage(format!("{first} and {second} both want standard output"));
            Err(if second == "--json" || first == "--json" {
                failure.hint("--metadata-file FILE writes the same document as --json to a file")
            } else {
                failure.hint("name a file for one of them")
            })
        }
        (taker, _) => Ok(taker.is_some()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_output_has_one_taker() {
        assert_eq!(
            claim(&[("--output", false), ("--json", false)]).ok(),
            Some(false)
        );
        assert_eq!(
            claim(&[("--output", false), ("--json", true)]).ok(),
            Some(true)
        );
        let refused = claim(&[
            ("--output", true),
            ("--json", false),
            ("--digest-file", true),
        ]);
        assert_eq!(
            refused.unwrap_err().message(),
            "--output and --digest-file both want standard output"
        );
    }

    #[test]
    fn a_file_is_not_standard_output() {
        assert!(is_stdout(Path::new("-")));
        assert!(!is_stdout(Path::new("/dev/null")));
        assert!(!is_stdout(Path::new("/no/such/file")));
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(!is_stdout(file.path()));
    }
}
