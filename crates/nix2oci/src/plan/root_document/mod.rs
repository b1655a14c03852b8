//! What is at the root, as people write it: one JSON document.
//!
//! - [`RootDocument`]: what it says, checked
//! - `place`: what it says, put into a tree
//! - `users`: users and groups, and the files that tell of them
//! - [`AccountFiles`]: those that a base has already
//! - [`FileCapabilities`]: what a program may do because of its file
//! - `object`: JSON objects whose members are known
//!
//! `ROOT-TREE.md` of the command describes the format.

mod account_files;
mod capability;
mod object;
mod place;
mod users;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::store::{StoreDir, StorePath};

use super::root_tree::check_path;
use super::{Copies, Metadata, Pattern, PatternKind, Rewrite, Rule};

use object::Object;
use users::{Group, OwnerName, User};

pub use account_files::AccountFiles;
pub use capability::{FileCapabilities, ParseCapabilitiesError};

/// The version of the format that is read.
const VERSION: u64 = 1;

const KEYS: &[&str] = &[
    "version",
    "directories",
    "files",
    "symlinks",
    "copies",
    "users",
    "groups",
    "fakeNss",
    "shadow",
    "rules",
    "certificates",
    "binSh",
    "usrBinEnv",
    "timezone",
    "tmp",
];

/// What is at an image's root: files and directories, copies of store paths,
/// users, rules, and the small things that programs expect.
///
/// Owners may be named by users of any document or of a base, so that documents are added to
/// a tree together: [`RootTree::add_documents`](super::RootTree::add_documents).
#[derive(Debug, Clone)]
pub struct RootDocument {
    name: String,
    directories: Vec<(Vec<u8>, Own)>,
    files: Vec<File>,
    symlinks: Vec<(Vec<u8>, String, Own)>,
    copies: Vec<Copied>,
    users: Vec<User>,
    groups: Vec<Group>,
    fake_nss: Option<bool>,
    has_shadow: bool,
    rules: Vec<(Rule, Option<OwnerName>)>,
    certificates: Option<Source>,
    bin_sh: Option<Source>,
    usr_bin_env: Option<Source>,
    timezone: Option<(String, Source)>,
    has_tmp: bool,
}

/// Metadata whose owner may be a name, and the key that says it.
#[derive(Debug, Clone, Default)]
struct Own {
    metadata: Metadata,
    owner: Option<OwnerName>,
}

#[derive(Debug, Clone)]
struct File {
    path: Vec<u8>,
    bytes: FileBytes,
    own: Own,
}

#[derive(Debug, Clone)]
enum FileBytes {
    Inline { bytes: Vec<u8>, executable: bool },
    Stored(Source),
}

#[derive(Debug, Clone)]
struct Copied {
    copies: Copies,
    owner: Option<OwnerName>,
    /// The key that says what is copied.
    key: String,
}

/// A place in the store, and the key that says it.
#[derive(Debug, Clone)]
struct Source {
    path: StorePath,
    /// Relative to the store path.
    inside: String,
    key: String,
}

impl RootDocument {
    /// Reads a document; `name` names it in errors, and what it adds.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Document`](crate::ErrorKind::Document), with the key, for
    /// what is not JSON, a version or a key that is not known, and a value that
    /// cannot be.
    pub fn parse(name: &str, json: &[u8], store_dir: &StoreDir) -> Result<Self> {
        let value: Value =
            serde_json::from_slice(json).map_err(|e| Error::json_syntax(name, &e))?;
        let mut object = Object::new(name, String::new(), value, KEYS)?;
        match object.take("version") {
            Some(version) if version.as_u64() == Some(VERSION) => {}
            Some(version) => {
                let problem = format!("{version} is not known: expected {VERSION}");
                return Err(object.wrong("version", problem));
            }
            None => {
                return Err(object.wrong("version", format!("it is missing: expected {VERSION}")));
            }
        }
        let reader = Reader { store_dir };
        Ok(Self {
            name: name.to_owned(),
            directories: reader.directories(&mut object)?,
            files: reader.files(&mut object)?,
            symlinks: reader.symlinks(&mut object)?,
            copies: reader.copies(&mut object)?,
            users: users::parse_users(&mut object)?,
            groups: users::parse_groups(&mut object)?,
            fake_nss: object.flag("fakeNss")?,
            has_shadow: object.flag("shadow")?.unwrap_or(false),
            rules: reader.rules(&mut object)?,
            certificates: reader.source(&mut object, "certificates")?,
            bin_sh: reader.source(&mut object, "binSh")?,
            usr_bin_env: reader.source(&mut object, "usrBinEnv")?,
            timezone: reader.timezone(&mut object)?,
            has_tmp: object.flag("tmp")?.unwrap_or(false),
        })
    }

    /// Returns the store paths that must be in the image, because links lead to
    /// them.
    pub fn linked_paths(&self, store_dir: &StoreDir) -> BTreeSet<StorePath> {
        let timezone = self.timezone.as_ref().map(|(_, data)| data);
        let sources = [&self.certificates, &self.bin_sh, &self.usr_bin_env];
        let sources = sources.into_iter().flatten().chain(timezone);
        let links = self
            .symlinks
            .iter()
            .filter_map(|(_, target, _)| store_dir.split(target).ok())
            .map(|(path, _)| path);
        sources.map(|s| s.path.clone()).chain(links).collect()
    }

    /// Returns the store paths that files are copied from: they need not be in
    /// the image themselves, but what they refer to must be.
    pub fn copied_paths(&self) -> BTreeSet<StorePath> {
        let copies = self.copies.iter().map(|copied| &copied.copies.path);
        let files = self.files.iter().filter_map(|file| match &file.bytes {
            FileBytes::Stored(source) => Some(&source.path),
            FileBytes::Inline { .. } => None,
        });
        copies.chain(files).cloned().collect()
    }
}

/// Reads the parts of a document.
struct Reader<'a> {
    store_dir: &'a StoreDir,
}

impl Reader<'_> {
    fn directories(&self, object: &mut Object<'_>) -> Result<Vec<(Vec<u8>, Own)>> {
        let known = ["path", "mode", "owner", "xattrs"];
        let read = |mut directory: Object<'_>| {
            let own = own(&mut directory)?;
            Ok((below_root(&mut directory)?, own))
        };
        let directories = object.objects("directories", &known)?;
        directories.into_iter().map(read).collect()
    }

    fn files(&self, object: &mut Object<'_>) -> Result<Vec<File>> {
        let known = [
            "path",
            "text",
            "base64",
            "source",
            "executable",
            "mode",
            "owner",
            "xattrs",
            "capabilities",
        ];
        let read = |mut file: Object<'_>| {
            let own = own(&mut file)?;
            let executable = file.flag("executable")?;
            let text = file.text("text")?.map(String::into_bytes);
            let bytes = file.bytes("base64")?;
            let source = self.source(&mut file, "source")?;
            let bytes = match (text, bytes, source) {
                (Some(bytes), None, None) | (None, Some(bytes), None) => FileBytes::Inline {
                    bytes,
                    executable: executable.unwrap_or(false),
                },
                (None, None, Some(_)) if executable.is_some() => {
                    let problem = "it is as in the store: give it a mode instead";
                    return Err(file.wrong("executable", problem));
                }
                (None, None, Some(source)) => FileBytes::Stored(source),
                _ => return Err(file.wrong("", "expected one of text, base64 and source")),
            };
            let path = below_root(&mut file)?;
            Ok(File { path, bytes, own })
        };
        let files = object.objects("files", &known)?;
        files.into_iter().map(read).collect()
    }

    fn symlinks(&self, object: &mut Object<'_>) -> Result<Vec<(Vec<u8>, String, Own)>> {
        let read = |mut link: Object<'_>| {
            let own = own(&mut link)?;
            let target = link.required("target")?;
            if target.is_empty() || target.contains('\0') {
                return Err(link.wrong("target", "it cannot be empty or have a NUL byte"));
            }
            Ok((below_root(&mut link)?, target, own))
        };
        let links = object.objects("symlinks", &["path", "target", "owner"])?;
        links.into_iter().map(read).collect()
    }

    fn copies(&self, object: &mut Object<'_>) -> Result<Vec<Copied>> {
        let known = [
            "source",
            "path",
            "rewrites",
            "followDirectoryLinks",
            "mode",
            "fileMode",
            "directoryMode",
            "owner",
        ];
        let read = |mut object: Object<'_>| {
            let source = self.source(&mut object, "source")?;
            let source = source.ok_or_else(|| object.wrong("source", "it is missing"))?;
            let mut copies = Copies::new(source.path);
            copies.inside = source.inside.into_bytes();
            if let Some(path) = object.text("path")? {
                copies.target = object.parse_place("path", &path)?;
            }
            for mut rewrite in object.objects("rewrites", &["regex", "replacement"])? {
                let (regex, replacement) =
                    (rewrite.required("regex")?, rewrite.required("replacement")?);
                let parsed = Rewrite::new(&regex, &replacement);
                copies
                    .rewrites
                    .push(parsed.map_err(|e| rewrite.wrong("regex", e.to_string()))?);
            }
            copies.follow_directory_links = object.flag("followDirectoryLinks")?.unwrap_or(false);
            let mode = object.mode("mode")?;
            copies.file_mode = object.mode("fileMode")?.or(mode);
            copies.directory_mode = object.mode("directoryMode")?.or(mode);
            Ok(Copied {
                copies,
                owner: OwnerName::take(&mut object)?,
                key: source.key,
            })
        };
        let copies = object.objects("copies", &known)?;
        copies.into_iter().map(read).collect()
    }

    fn rules(&self, object: &mut Object<'_>) -> Result<Vec<(Rule, Option<OwnerName>)>> {
        let known = [
            "glob",
            "regex",
            "source",
            "within",
            "mode",
            "fileMode",
            "directoryMode",
            "addMode",
            "owner",
            "xattrs",
            "capabilities",
        ];
        let read = |mut object: Object<'_>| {
            let mut patterns = Vec::new();
            for (key, kind) in [
                ("glob", PatternKind::Glob),
                ("regex", PatternKind::Regex),
                ("source", PatternKind::Source),
            ] {
                if let Some(text) = object.text(key)? {
                    let pattern = Pattern::new(kind, &text);
                    patterns.push(pattern.map_err(|e| object.wrong(key, e.to_string()))?);
                }
            }
            let [pattern] = <[Pattern; 1]>::try_from(patterns)
                .map_err(|_| object.wrong("", "expected one of glob, regex and source"))?;
            let mut rule = Rule::new(pattern);
            let within = self.source(&mut object, "within")?;
            if within.as_ref().is_some_and(|s| !s.inside.is_empty()) {
                return Err(object.wrong("within", "expected a store path, nothing in it"));
            }
            rule.within = within.map(|source| source.path);
            let mode = object.mode("mode")?;
            rule.file_mode = object.mode("fileMode")?.or(mode);
            rule.directory_mode = object.mode("directoryMode")?.or(mode);
            rule.added_mode = object.mode("addMode")?.unwrap_or(0);
            rule.xattrs = xattrs(&mut object)?;
            let owner = OwnerName::take(&mut object)?;
            rule.check().map_err(|e| object.wrong("", e.to_string()))?;
            let says_nothing = rule.file_mode.or(rule.directory_mode).is_none()
                && rule.added_mode == 0
                && owner.is_none()
                && rule.xattrs.is_empty();
            if says_nothing {
                let problem = "it says nothing: expected a mode, an owner, xattrs or capabilities";
                return Err(object.wrong("", problem));
            }
            Ok((rule, owner))
        };
        let rules = object.objects("rules", &known)?;
        rules.into_iter().map(read).collect()
    }

    fn timezone(&self, object: &mut Object<'_>) -> Result<Option<(String, Source)>> {
        let Some(mut zone) = object.object("timezone", &["name", "data"])? else {
            return Ok(None);
        };
        let name = zone.required("name")?;
        if check_path(name.as_bytes()).is_err() {
            let problem = format!("{name:?} is no time zone: expected one such as Europe/Berlin");
            return Err(zone.wrong("name", problem));
        }
        let data = self.source(&mut zone, "data")?;
        let data = data.ok_or_else(|| {
            zone.wrong("data", "it is missing: expected the store path of tzdata")
        })?;
        Ok(Some((name, data)))
    }

    /// Takes an absolute path in the store.
    fn source(&self, object: &mut Object<'_>, key: &str) -> Result<Option<Source>> {
        let Some(text) = object.text(key)? else {
            return Ok(None);
        };
        let (path, inside) = self.store_dir.split(&text).map_err(|e| {
            let problem = format!("{e}: expected a path in {}", self.store_dir);
            object.wrong(key, problem)
        })?;
        let inside = inside.trim_matches('/');
        if !inside.is_empty()
            && let Err(problem) = check_path(inside.as_bytes())
        {
            return Err(object.wrong(key, format!("{text:?}: {problem}")));
        }
        Ok(Some(Source {
            path,
            inside: inside.to_owned(),
            key: object.location(key).1,
        }))
    }
}

/// Takes `path`, which is not the root itself.
fn below_root(object: &mut Object<'_>) -> Result<Vec<u8>> {
    let place = object.place("path")?;
    if place.is_empty() {
        let problem = "it is the root itself: a rule with the glob / says its mode and owner";
        return Err(object.wrong("path", problem));
    }
    Ok(place)
}

/// Takes mode, owner and extended attributes.
fn own(object: &mut Object<'_>) -> Result<Own> {
    let metadata = Metadata {
        mode: object.mode("mode")?,
        owner: None,
        xattrs: xattrs(object)?,
    };
    metadata.check().map_err(|e| object.wrong("xattrs", e))?;
    Ok(Own {
        metadata,
        owner: OwnerName::take(object)?,
    })
}

fn xattrs(object: &mut Object<'_>) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut xattrs = object.xattrs("xattrs")?;
    if let Some(text) = object.text("capabilities")? {
        let parsed = text.parse::<FileCapabilities>();
        let capabilities = parsed.map_err(|e| object.wrong("capabilities", e.to_string()))?;
        let name = FileCapabilities::XATTR.to_owned();
        if xattrs.insert(name, capabilities.to_bytes()).is_some() {
            let problem = "xattrs has security.capability as well";
            return Err(object.wrong("capabilities", problem));
        }
    }
    Ok(xattrs)
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
