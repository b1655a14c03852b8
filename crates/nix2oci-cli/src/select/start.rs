//! Whether an image can start.
//!
//! What is in the image is known before it is made: the closure, the root tree
//! and what the store has on disk. Symlinks are followed as the container will
//! follow them, each step below the image's root.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::iter;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use nix2oci::ImageSpec;
use nix2oci::content::{Program, ProgramFormat};
use nix2oci::layer::{LayerContent, UsedLayer};
use nix2oci::plan::{RootFile, RootNode, RootTree};
use serde_json::Value;

/// Symlinks followed before it is called a loop, as Linux does it.
const MOST_SYMLINKS: usize = 40;

/// Where a path of the image leads.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// To something on this disk.
    OnDisk(PathBuf),
    /// To a file of the root that is at hand: its bytes.
    Bytes(Arc<[u8]>),
    /// To something that only the container knows, or that is not looked at.
    Somewhere,
    /// Nowhere, and why.
    Nowhere(String),
}

/// Returns why the image cannot start, if that can be told. The store lies
/// below `root`. Programs for other platforms are found where they are packed,
/// unless the image is to be refused for them.
pub(super) fn problem(spec: &ImageSpec, root: &Path) -> Option<String> {
    let config = spec.whole_config();
    let words = |key: &str| -> Option<Vec<&str>> {
        let words = config.config.get(key)?.as_array()?;
        let words: Vec<_> = words.iter().filter_map(Value::as_str).collect();
        (!words.is_empty()).then_some(words)
    };
    let found = words("Entrypoint").map(|words| ("entrypoint", words));
    let Some((what, words)) = found.or_else(|| Some(("cmd", words("Cmd")?))) else {
        return Some(
            "the image has no entrypoint and no cmd, so `podman run` will need a command; \
             --entrypoint /nix/store/…/bin/… says what to start"
                .to_owned(),
        );
    };
    let program = *words.first()?;
    let found = if program.starts_with('/') {
        lookup(spec, root, Path::new(program))
    } else if program.contains('/') || program.is_empty() {
        // Relative to a directory that may be a volume.
        return None;
    } else {
        let env = config.config.get("Env").and_then(Value::as_array);
        let assignments = env.into_iter().flatten().filter_map(Value::as_str);
        let path = assignments
            .filter_map(|text| text.strip_prefix("PATH="))
            .next_back();
        in_search_path(spec, root, path.unwrap_or(DEFAULT_PATH), program)
    };
    let head = match found {
        Found::Somewhere => return None,
        Found::Nowhere(_) if program.contains(char::is_whitespace) => {
            return Some(format!(
                "the {what} {program:?} is one word and no file; it is not split at spaces: say \
                 --{what} once for each word, or give a JSON array"
            ));
        }
        Found::Nowhere(why) => return Some(format!("the {what} {program} {why}")),
        Found::OnDisk(file) => head(&file)?,
        Found::Bytes(bytes) => bytes[..bytes.len().min(Program::HEAD)].to_vec(),
    };
    let told = Program::parse(&head)?;
    let platform = &spec.config.platform;
    if spec.strict && !told.runs_on(platform) {
        let platform = nix2oci::oci::display_platform(platform);
        return Some(format!(
            "the {what} {program} is a program for {told}, expected one for {platform}"
        ));
    }
    let interpreter = OsString::from_vec(told.interpreter?);
    let interpreter = Path::new(&interpreter);
    let Found::Nowhere(why) = lookup(spec, root, interpreter) else {
        return None;
    };
    let role = match told.format {
        ProgramFormat::Script => "is a script for",
        _ => "needs the loader",
    };
    Some(format!(
        "the {what} {program} {role} {}, which {why}",
        interpreter.display()
    ))
}

/// Where a program without a slash is looked for, if the config says nothing: what
/// podman and Docker set.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Looks for a program in each directory of `PATH`, as the runtime does.
fn in_search_path(spec: &ImageSpec, root: &Path, path: &str, program: &str) -> Found {
    let dirs = path.split(':').filter(|dir| dir.starts_with('/'));
    for dir in dirs {
        match lookup(spec, root, &Path::new(dir).join(program)) {
            Found::Nowhere(_) => {}
            Found::OnDisk(file) if file.is_dir() => {}
            found => return found,
        }
    }
    Found::Nowhere(format!(
        "is in no directory of the image's PATH, {path}: say its path in the store, or --contents, \
         which links it into /bin"
    ))
}

/// Finds out where an absolute path leads.
fn lookup(spec: &ImageSpec, root: &Path, path: &Path) -> Found {
    let store_dir = spec.closure.store_dir().as_path();
    let mut at = PathBuf::from("/");
    let mut todo: VecDeque<OsString> = names(path);
    let mut symlinks = 0;
    while let Some(name) = todo.pop_front() {
        if name == ".." {
            at.pop();
            continue;
        }
        at.push(&name);
        let target = if at != store_dir && at.starts_with(store_dir) {
            match in_store(spec, root, &at) {
                Ok(target) => target,
                Err(found) => return found,
            }
        } else {
            match in_root_tree(spec, root, &at) {
                Ok(target) => target,
                Err(found) => return found,
            }
        };
        if let Some(target) = target {
            symlinks += 1;
            if symlinks > MOST_SYMLINKS {
                return Found::Nowhere("is a loop of symlinks".to_owned());
            }
            if target.is_absolute() {
                at = PathBuf::from("/");
            } else {
                at.pop();
            }
            for name in names(&target).into_iter().rev() {
                todo.push_front(name);
            }
        }
    }
    if at.starts_with(store_dir) {
        Found::OnDisk(below(root, &at))
    } else {
        Found::Somewhere
    }
}

/// Returns the target if a symlink is at this place of the store, and nothing
/// if something else is there.
fn in_store(spec: &ImageSpec, root: &Path, at: &Path) -> Result<Option<PathBuf>, Found> {
    let store_dir = spec.closure.store_dir();
    let text = at.to_string_lossy();
    let Ok((path, inside)) = store_dir.split(&text) else {
        return Err(Found::Nowhere("is no store path".to_owned()));
    };
    let is_used = |used: &UsedLayer| {
        let paths = used.spec.content.store_paths();
        paths.iter().any(|(known, _)| *known == path)
    };
    if spec.closure.find(&path).is_none() && !spec.used_layers.iter().any(is_used) {
        if spec.base.is_some() {
            return Err(Found::Somewhere);
        }
        return Err(Found::Nowhere(format!(
            "is in {path}, which is not in the image"
        )));
    }
    let real = below(root, at);
    match real.symlink_metadata() {
        Ok(found) if found.is_symlink() => Ok(std::fs::read_link(&real).ok()),
        Ok(_) => Ok(None),
        // The content may come from elsewhere.
        Err(_) if inside.is_empty() => Err(Found::Somewhere),
        Err(error) => match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => {
                Err(Found::Nowhere("is not there".to_owned()))
            }
            _ => Err(Found::Somewhere),
        },
    }
}

/// The same outside of the store.
fn in_root_tree(spec: &ImageSpec, root: &Path, at: &Path) -> Result<Option<PathBuf>, Found> {
    let relative = at.as_os_str().as_bytes().strip_prefix(b"/");
    let relative = relative.unwrap_or_default();
    // Layers that were made before may have a root tree of their own, below this
    // one.
    let used = spec.used_layers.iter().rev().map(|used| &used.spec.content);
    let has_tar = used
        .clone()
        .any(|content| matches!(content, LayerContent::Tar(_)))
        || !spec.layer_tars.is_empty();
    let trees = used.filter_map(|content| match content {
        LayerContent::RootTree(tree) => Some(tree),
        _ => None,
    });
    let find = |tree: &RootTree| -> Option<RootNode> {
        let (.., node, _) = tree.nodes().find(|(path, ..)| *path == relative)?;
        Some(node.clone())
    };
    match iter::once(&spec.root_tree).chain(trees).find_map(find) {
        Some(RootNode::Symlink { target }) => Ok(Some(PathBuf::from(OsString::from_vec(target)))),
        Some(RootNode::Directory) => Ok(None),
        Some(RootNode::File(RootFile::Inline { bytes, .. })) => Err(Found::Bytes(bytes)),
        Some(RootNode::File(RootFile::Stored { path, inside, .. })) => {
            let whole = PathBuf::from(spec.closure.store_dir().join(&path));
            let file = match inside.is_empty() {
                true => whole,
                false => whole.join(Path::new(&OsString::from_vec(inside))),
            };
            let file = below(root, &file);
            // The content may come from elsewhere.
            Err(match file.is_file() {
                true => Found::OnDisk(file),
                false => Found::Somewhere,
            })
        }
        Some(_) => Err(Found::Somewhere),
        None if spec.closure.store_dir().as_path().starts_with(at) => Ok(None),
        // What is in a tar or in a base is not listed here.
        None if has_tar || spec.base.is_some() => Err(Found::Somewhere),
        None => Err(Found::Nowhere(
            "will not be in the image: say its path in the store, or --contents, which links \
             files to the root"
                .to_owned(),
        )),
    }
}

/// Returns the names of a path, without those that mean nothing.
fn names(path: &Path) -> VecDeque<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    });
    names.collect()
}

/// Returns where a path of the image is on this disk.
fn below(root: &Path, at: &Path) -> PathBuf {
    root.join(at.strip_prefix("/").unwrap_or(at))
}

/// Reads the first bytes of a file, if it is one.
fn head(file: &Path) -> Option<Vec<u8>> {
    let is_file = file.symlink_metadata().is_ok_and(|found| found.is_file());
    let mut head = Vec::new();
    let limit = Program::HEAD as u64;
    let read = is_file.then(|| {
        File::open(file)
            .ok()?
            .take(limit)
            .read_to_end(&mut head)
            .ok()
    });
    read.flatten().map(|_| head)
}
