//! What a user can try after an error of the library.

mod cache;
mod daemon;
mod network;

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use nix2oci::ErrorKind;

/// What asks Nix where its database cannot be read.
const ASK_NIX: &str = "`nix path-info --recursive --json ROOT | nix2oci … --closure path-info:-` \
                       asks Nix instead";

/// Returns what to try, the likeliest first; often nothing.
pub(crate) fn hints(kind: &ErrorKind) -> Vec<String> {
    let hint = match kind {
        ErrorKind::UnknownPath { path, from }
            if from.starts_with("the Nix database") || from.starts_with("the Nix daemon") =>
        {
            format!(
                "is it built? `nix-store --realise {path}` gets it; if it lies in another store, \
             say --store-root, or --closure for a file that lists it"
            )
        }
        ErrorKind::UnknownPath { path, from } if cache::is_cache(from) => cache::unknown_path(path),
        ErrorKind::UnknownPath { from, .. } => format!(
            "{from} does not list it: export the closure of this ROOT, or leave ROOT out to take \
             what is listed"
        ),
        ErrorKind::MissingReference { from, .. } if cache::is_cache(from) => {
            cache::missing_reference()
        }
        ErrorKind::MissingReference { .. } => incomplete(),
        ErrorKind::Daemon {
            socket,
            action,
            problem,
            source,
        } => match daemon::daemon(socket, action, problem, source.as_ref()) {
            Some(hint) => hint,
            None => return Vec::new(),
        },
        ErrorKind::Nar { from, .. } if from.starts_with("the Nix daemon") => {
            "the store is damaged; `nix-store --repair-path` fetches or builds the path again"
                .to_owned()
        }
        ErrorKind::Document { problem, .. } if problem.ends_with("has no entry here") => {
            incomplete()
        }
        ErrorKind::Database { path, source, .. } => database(path, source.as_ref()),
        ErrorKind::ConflictingPathInfo { .. } => {
            "two --closure sources, or two entries of one, describe different builds of that \
             path; give only the one that matches the store"
                .to_owned()
        }
        ErrorKind::ReadStore { source, .. } => match source.kind() {
            io::ErrorKind::NotFound => "a store path that is registered is not on this disk: \
                 does the store lie elsewhere (--store-root)? `nix-store --verify-path` and \
                 `--repair-path` look after a damaged store"
                .to_owned(),
            io::ErrorKind::PermissionDenied => {
                "store paths are readable by all; run as the user who owns the store, or repair \
                 it with `nix-store --repair-path`"
                    .to_owned()
            }
            _ => return Vec::new(),
        },
        ErrorKind::ReadInput { source, .. } => match source.kind() {
            io::ErrorKind::PermissionDenied => "may this user read the file?".to_owned(),
            _ => return Vec::new(),
        },
        ErrorKind::UnsupportedName { problem, .. } if problem.contains(".wh.") => {
            "no image can have such a file: --leave-out leaves the whole store path out; or \
             change its derivation so that it removes the file"
                .to_owned()
        }
        ErrorKind::FileChanged { .. } | ErrorKind::NarHashMismatch { .. } => {
            "the store is damaged or being written to; `nix-store --repair-path` fetches or \
             builds the path again"
                .to_owned()
        }
        ErrorKind::InvalidInput { what, .. } if what == "the layer budget" => {
            "raise --max-layers, or ask for fewer layers with --layer".to_owned()
        }
        ErrorKind::ForeignProgram { .. } => {
            "build the store paths for the image's platform (`nix build --system`, pkgsCross), or \
             say with --platform what they are for; without --strict this is a warning"
                .to_owned()
        }
        ErrorKind::InvalidInput { problem, .. }
            if problem.ends_with("an index has one image for each") =>
        {
            "--platform says what the programs of a ROOT are for; without it, it is this machine"
                .to_owned()
        }
        ErrorKind::Image { problem, .. } if problem.contains("and one must be chosen: linux/") => {
            "--platform says which one".to_owned()
        }
        ErrorKind::Image { image, problem }
            if problem.contains("one must be chosen by its tag") =>
        {
            format!(
                "name it or its tag behind a colon: {}:TAG",
                with_kind(image)
            )
        }
        ErrorKind::Image { problem, .. } if problem.contains("a directory without oci-layout") => {
            "a store path is no image yet: `nix2oci build` makes one of it, `nix2oci plan --json` \
             and `nix2oci resolve` describe it, which diff, push and --keep-layers take"
                .to_owned()
        }
        ErrorKind::RootTreeConflict { .. } => {
            "say it in one place only, or join store paths in Nix with buildEnv, which lets you \
             choose by priority; ROOT-TREE.md says what may be said twice"
                .to_owned()
        }
        ErrorKind::OutputTaken { .. } => {
            "choose another --output or remove what is there".to_owned()
        }
        ErrorKind::WriteOutput { path, source, .. } => match output(path, source) {
            Some(hint) => hint,
            None => return Vec::new(),
        },
        ErrorKind::Denied { host, .. } if cache::is_cache(host) => cache::denied(host),
        ErrorKind::Denied {
            host,
            action,
            problem,
        } => network::denied(host, action, problem),
        ErrorKind::Credentials { host, .. } => network::credentials(host),
        ErrorKind::Answer {
            host,
            action,
            status,
            problem,
        } if cache::is_cache(host) => match cache::answer(action, *status, problem) {
            Some(hint) => hint,
            None => return Vec::new(),
        },
        ErrorKind::Connection { host, source, .. } if cache::is_cache(host) => {
            match cache::connection(host, source.as_ref()) {
                Some(hint) => hint,
                None => return Vec::new(),
            }
        }
        ErrorKind::NarInfo { .. } => cache::narinfo(),
        ErrorKind::Untrusted {
            path,
            from,
            problem,
        } => cache::untrusted(path, from, problem),
        ErrorKind::Nar { from, path, .. } => cache::nar(from, path),
        ErrorKind::InvalidInput { what, problem }
            if cache::is_cache(what) && problem.contains("nix-cache-info") =>
        {
            cache::no_cache()
        }
        ErrorKind::Answer {
            action,
            status,
            problem,
            ..
        } => match network::answer(action, *status, problem) {
            Some(hint) => hint,
            None => return Vec::new(),
        },
        ErrorKind::BlobsMissing { .. } => network::blobs_missing(),
        ErrorKind::Connection { host, source, .. } => {
            match network::connection(host, source.as_ref()) {
                Some(hint) => hint,
                None => return Vec::new(),
            }
        }
        ErrorKind::DigestMismatch { what, .. } if what.contains("whose key") => {
            "the earlier image or the layer cache says something else of it: --no-reuse believes \
             neither; if nobody put a wrong layer there, please report this as a defect"
                .to_owned()
        }
        ErrorKind::DigestMismatch { what, .. } if what.contains("are what they were") => {
            "another version of nix2oci may have made it: `nix2oci resolve` makes a recipe of \
             today's"
                .to_owned()
        }
        ErrorKind::FeatureMissing { feature, .. } => {
            format!("build nix2oci with `--features {feature}`")
        }
        ErrorKind::Plan { .. } | ErrorKind::WorkerPanicked { .. } | ErrorKind::Codec { .. } => {
            "this is a defect of nix2oci; please report it with the command line".to_owned()
        }
        _ => return Vec::new(),
    };
    vec![hint]
}

/// Returns the text for an image with what it is before it, behind which a tag may
/// stand.
fn with_kind(image: &str) -> String {
    let has_kind = image
        .split_once(':')
        .is_some_and(|(kind, _)| !kind.contains('/'));
    match has_kind {
        true => image.to_owned(),
        false if Path::new(image).is_dir() => format!("oci:{image}"),
        false => format!("archive:{image}"),
    }
}

fn incomplete() -> String {
    "the list is incomplete: was it written with --recursive? Export the whole closure, as \
     `nix path-info --recursive --json` and exportReferencesGraph do, or add another --closure \
     that has the path"
        .to_owned()
}

fn database(path: &Path, cause: &(dyn Error + 'static)) -> String {
    match cause.downcast_ref::<io::Error>().map(io::Error::kind) {
        Some(io::ErrorKind::NotFound) if is_nix_build() => {
            "inside a Nix build there is no database: export the closure with structured \
             attributes and say --closure attrs:\"$NIX_ATTRS_JSON_FILE\""
                .to_owned()
        }
        Some(io::ErrorKind::NotFound) => format!(
            "is Nix's state elsewhere? --closure db:DIR takes the directory with db/db.sqlite, \
             --store-root the root of another store; {ASK_NIX}"
        ),
        Some(io::ErrorKind::PermissionDenied) => format!(
            "this user may not read {}; {ASK_NIX}",
            first_unreadable(path).display()
        ),
        _ => format!("is it a database of Nix, and whole? {ASK_NIX}"),
    }
}

fn is_nix_build() -> bool {
    std::env::var_os("NIX_BUILD_TOP").is_some()
}

/// Returns the first directory on the way that may not be entered, else the
/// file.
fn first_unreadable(file: &Path) -> PathBuf {
    let mut ways: Vec<&Path> = file.ancestors().collect();
    ways.reverse();
    let denied = |path: &&&Path| {
        let found = path.symlink_metadata();
        found.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    };
    let closed = ways.iter().find(denied).and_then(|path| path.parent());
    closed.unwrap_or(file).to_owned()
}

fn output(path: &Path, cause: &io::Error) -> Option<String> {
    let hint = match cause.kind() {
        io::ErrorKind::StorageFull if path == Path::new("standard output") => {
            "what standard output leads to is full; the image itself is where it should be"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free some space; layers of an image that goes into a pipe wait in $TMPDIR, else \
             /var/tmp"
        }
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied if is_spool(path) => {
            "the environment variable TMPDIR says where layers wait: it must be a directory that \
             this user may write to"
        }
        io::ErrorKind::NotFound => "does the directory exist?",
        io::ErrorKind::PermissionDenied => "may this user write to the directory?",
        io::ErrorKind::BrokenPipe => {
            "the program that read the result ended first; its own message says why"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}

fn is_spool(path: &Path) -> bool {
    let spool = std::env::var_os("TMPDIR").filter(|dir| !dir.is_empty());
    spool.is_some_and(|dir| path.starts_with(dir))
}
