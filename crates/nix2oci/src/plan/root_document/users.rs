//! Users and groups, and the files that tell of them.
//!
//! The files are those of nixpkgs' `fakeNss` and of its `shadowSetup`; sources:
//! `pkgs/build-support/fake-nss`, `pkgs/build-support/docker`; passwd(5),
//! group(5), shadow(5), gshadow(5).

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, ErrorKind, Location, Result};
use crate::oci::Owner;
use crate::plan::Metadata;

use super::RootDocument;
use super::account_files::{self, AccountFile, AccountFiles};
use super::object::Object;

/// The home of those who have none.
pub(super) const NO_HOME: &str = "/var/empty";
const SHELL: &str = "/bin/sh";
/// A password that nobody can type: the account is locked.
const LOCKED: &str = "!x";
/// The number of `nobody`.
const NOBODY: u32 = 65534;

/// What resolves names where a container's users are looked up.
const NSSWITCH: &str = "hosts: files dns\n";
/// What programs do that ask PAM.
const PAM_OTHER: &str = "\
account sufficient pam_unix.so
auth sufficient pam_rootok.so
password requisite pam_unix.so nullok yescrypt
session required pam_unix.so
";

/// A user of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    name: String,
    uid: u32,
    group: GroupOf,
    description: String,
    pub(super) home: Option<String>,
    create_home: Option<bool>,
    shell: Option<String>,
    password: Option<String>,
}

/// How a user says its group.
#[derive(Debug, Clone, PartialEq, Eq)]
enum GroupOf {
    /// Not at all: the group of its name, else one of its number.
    Own,
    Id(u32),
    Name(String),
}

/// A group of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    name: String,
    gid: u32,
    members: BTreeSet<String>,
}

/// An owner that may be said by name, and where it is said.
#[derive(Debug, Clone)]
pub(super) struct OwnerName {
    text: String,
    document: String,
    key: String,
}

impl OwnerName {
    /// Takes `owner`.
    pub(super) fn take(object: &mut Object<'_>) -> Result<Option<Self>> {
        let (document, key) = object.location("owner");
        let text = object.text("owner")?;
        Ok(text.map(|text| Self {
            text,
            document,
            key,
        }))
    }

    fn wrong(&self, problem: String) -> Error {
        Error::document(&self.document, Location::Key(self.key.clone()), problem)
    }
}

pub(super) fn parse_users(object: &mut Object<'_>) -> Result<Vec<User>> {
    let known = [
        "name",
        "uid",
        "gid",
        "group",
        "description",
        "home",
        "createHome",
        "shell",
        "password",
    ];
    let read = |mut user: Object<'_>| {
        let name = name(&mut user)?;
        let uid = user.id("uid")?;
        let group = match (user.id("gid")?, user.text("group")?) {
            (None, None) => GroupOf::Own,
            (Some(gid), None) => GroupOf::Id(gid),
            (None, Some(group)) => GroupOf::Name(group),
            (Some(_), Some(_)) => {
                return Err(user.wrong("group", "gid says it already"));
            }
        };
        let home = field(&mut user, "home")?;
        if home.as_ref().is_some_and(|home| !home.starts_with('/')) {
            return Err(user.wrong("home", "expected a path from / on"));
        }
        if let Some(home) = &home {
            user.parse_place("home", home)?;
        }
        Ok(User {
            name,
            uid: uid.ok_or_else(|| user.wrong("uid", "it is missing"))?,
            group,
            description: field(&mut user, "description")?.unwrap_or_default(),
            home,
            create_home: user.flag("createHome")?,
            shell: field(&mut user, "shell")?,
            password: field(&mut user, "password")?,
        })
    };
    let users = object.objects("users", &known)?;
    users.into_iter().map(read).collect()
}

pub(super) fn parse_groups(object: &mut Object<'_>) -> Result<Vec<Group>> {
    let read = |mut group: Object<'_>| {
        let name = name(&mut group)?;
        let gid = group.id("gid")?;
        let members = group.texts("members")?;
        if let Some(odd) = members.iter().find(|member| !is_name(member)) {
            return Err(group.wrong("members", format!("{odd:?} is no name of a user")));
        }
        Ok(Group {
            name,
            gid: gid.ok_or_else(|| group.wrong("gid", "it is missing"))?,
            members: members.into_iter().collect(),
        })
    };
    let groups = object.objects("groups", &["name", "gid", "members"])?;
    groups.into_iter().map(read).collect()
}

fn name(object: &mut Object<'_>) -> Result<String> {
    let name = object.required("name")?;
    if is_name(&name) {
        return Ok(name);
    }
    let problem =
        format!("{name:?} is no name: expected letters, digits and _ . - $, no digit first");
    Err(object.wrong("name", problem))
}

fn is_name(text: &str) -> bool {
    let is_sign = |b: u8| b.is_ascii_alphanumeric() || b"_.-$".contains(&b);
    text.bytes().all(is_sign)
        && text
            .bytes()
            .next()
            .is_some_and(|first| !first.is_ascii_digit() && first != b'-')
}

/// Takes what stands between two colons of a line.
fn field(object: &mut Object<'_>, member: &str) -> Result<Option<String>> {
    let text = object.text(member)?;
    if text.as_ref().is_some_and(|t| t.contains([':', '\n', '\0'])) {
        return Err(object.wrong(member, "it cannot have a colon or a line break"));
    }
    Ok(text)
}

/// The users and groups of all documents, on those of a base.
#[derive(Debug)]
pub(super) struct Accounts<'a> {
    base: &'a AccountFiles,
    /// By number and name.
    users: BTreeMap<(u32, String), Account>,
    groups: BTreeMap<(u32, String), BTreeSet<String>>,
    has_nss: bool,
    has_shadow: bool,
}

#[derive(Debug)]
struct Account {
    user: User,
    gid: u32,
}

impl<'a> Accounts<'a> {
    /// Joins the users and groups of documents: those of one name must be
    /// equal, but for the members of a group. A user or group of the base may be
    /// said again, with the same number; root and nobody are those of the base if
    /// it has them.
    pub(super) fn new(documents: &[RootDocument], base: &'a AccountFiles) -> Result<Self> {
        let mut users: BTreeMap<&str, (&User, &str)> = BTreeMap::new();
        let mut groups: BTreeMap<&str, (Group, &str)> = BTreeMap::new();
        for document in documents {
            let origin = document.name.as_str();
            for user in &document.users {
                let (old, first) = *users.entry(&user.name).or_insert((user, origin));
                if old != user {
                    return Err(conflict("user", &user.name, first, origin));
                }
                if base
                    .user(&user.name)
                    .is_some_and(|(uid, _)| uid != user.uid)
                {
                    return Err(conflict("user", &user.name, base.name(), origin));
                }
            }
            for group in &document.groups {
                let (old, first) = groups
                    .entry(&group.name)
                    .or_insert_with(|| (group.clone(), origin));
                if old.gid != group.gid {
                    return Err(conflict("group", &group.name, first, origin));
                }
                if base.group(&group.name).is_some_and(|gid| gid != group.gid) {
                    return Err(conflict("group", &group.name, base.name(), origin));
                }
                old.members.extend(group.members.iter().cloned());
            }
        }
        let says = |nss| documents.iter().any(|d| d.fake_nss == Some(nss));
        let has_shadow = documents.iter().any(|d| d.has_shadow);
        let has_any = has_shadow || !users.is_empty() || !groups.is_empty();
        let has_nss = says(true) || (has_any && !says(false));
        let standard = if has_nss {
            vec![root(), nobody()]
        } else {
            Vec::new()
        };
        let mut all = Self {
            base,
            users: BTreeMap::new(),
            groups: BTreeMap::new(),
            has_nss,
            has_shadow,
        };
        let is_new = |user: &&User| {
            let in_base = base.group(&user.name).is_some() || base.has_gid(user.uid);
            !groups.contains_key(&*user.name) && !in_base
        };
        for user in standard.iter().filter(is_new) {
            let key = (user.uid, user.name.clone());
            all.groups.insert(key, BTreeSet::new());
        }
        for (group, _) in groups.into_values() {
            all.groups.insert((group.gid, group.name), group.members);
        }
        let is_new = |user: &&User| {
            let in_base = base.user(&user.name).is_some() || base.has_uid(user.uid);
            !users.contains_key(&*user.name) && !in_base
        };
        for user in standard
            .iter()
            .filter(is_new)
            .chain(users.values().map(|(user, _)| *user))
        {
            let gid = all.group_of(user)?;
            let key = (user.uid, user.name.clone());
            let user = user.clone();
            all.users.insert(key, Account { user, gid });
        }
        Ok(all)
    }

    /// Returns what to tell of users that have one number: the files and the
    /// processes of one are those of the other, which `useradd` refuses.
    pub(super) fn shared_numbers(&self) -> Vec<String> {
        let users = self.users.keys().zip(self.users.keys().skip(1));
        users
            .filter(|((first, _), (second, _))| first == second)
            .map(|((uid, first), (_, second))| {
                format!(
                    "the users {first} and {second} have one number, {uid}: to Linux they are one"
                )
            })
            .collect()
    }

    /// Returns the number of a user's group, which is made where nobody did.
    fn group_of(&mut self, user: &User) -> Result<u32> {
        let gid = match &user.group {
            GroupOf::Id(gid) => *gid,
            GroupOf::Name(name) => self.gid(name).ok_or_else(|| {
                let what = format!("the group {name} of the user {}", user.name);
                Error::invalid(what, "it is in no document: add it to groups")
            })?,
            GroupOf::Own => self.gid(&user.name).unwrap_or(user.uid),
        };
        let is_known = self.groups.keys().any(|(known, _)| *known == gid) || self.base.has_gid(gid);
        if !is_known && self.gid(&user.name).is_none() {
            let key = (gid, user.name.clone());
            self.groups.insert(key, BTreeSet::new());
        }
        Ok(gid)
    }

    fn gid(&self, name: &str) -> Option<u32> {
        let mut groups = self.groups.keys();
        let found = groups.find(|(_, known)| known == name);
        found.map(|(gid, _)| *gid).or_else(|| self.base.group(name))
    }

    /// Returns a user's number and that of its group.
    fn user(&self, name: &str) -> Option<(u32, u32)> {
        let mut users = self.users.values();
        let found = users.find(|account| account.user.name == name);
        found
            .map(|account| (account.user.uid, account.gid))
            .or_else(|| self.base.user(name))
    }

    /// Returns who is meant: `UID:GID`, or names, of which the group may be left
    /// out.
    pub(super) fn owner(&self, name: Option<&OwnerName>) -> Result<Option<Owner>> {
        let Some(name) = name else {
            return Ok(None);
        };
        let (user, group) = match name.text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (name.text.as_str(), None),
        };
        let account = self.user(user);
        let uid = account.map(|(uid, _)| uid).or_else(|| id(user));
        let uid = uid.ok_or_else(|| {
            name.wrong(format!(
                "{user:?} is no user: expected a number or the name of one of users"
            ))
        })?;
        let gid = match group {
            Some(group) => self.gid(group).or_else(|| id(group)).ok_or_else(|| {
                name.wrong(format!(
                    "{group:?} is no group: expected a number or the name of one of groups"
                ))
            })?,
            None => account.map(|(_, gid)| gid).ok_or_else(|| {
                name.wrong(format!(
                    "{:?} has no group: expected UID:GID, or the name of one of users",
                    name.text
                ))
            })?,
        };
        Ok(Some(Owner { uid, gid }))
    }

    /// Returns the homes that are made: where, and whose.
    pub(super) fn homes(&self) -> impl Iterator<Item = (&str, Owner)> {
        self.users.values().filter_map(|account| {
            let home = account.user.home.as_deref()?;
            let is_wanted = account
                .user
                .create_home
                .unwrap_or(home != NO_HOME && home != "/");
            let owner = Owner {
                uid: account.user.uid,
                gid: account.gid,
            };
            is_wanted.then_some((home, owner))
        })
    }

    /// Returns whether there is a directory for those who have no home: with
    /// root and nobody, and on a base for those who are added to its own.
    pub(super) fn has_no_home(&self) -> bool {
        let mut users = self.users.values();
        self.has_nss
            && (self.base.get(account_files::PASSWD).is_none()
                || users.any(|account| account.user.home.is_none()))
    }

    /// Returns the files that tell of them. What the base has is in them, and
    /// files that would be what the base has are none of them.
    pub(super) fn files(&self) -> Vec<AccountFile> {
        let (base, mut files) = (self.base, Vec::new());
        let add = |files: &mut Vec<_>, path, mode, lines: Vec<String>, join| {
            files.extend(base.joined(path, mode, lines, join));
        };
        let replaced = account_files::replaced;
        if !self.users.is_empty() {
            let lines = self.users.values().map(passwd).collect();
            add(&mut files, account_files::PASSWD, 0o644, lines, replaced);
        }
        let groups = |line: fn(&str, u32, &str) -> String| -> Vec<String> {
            let line = |((gid, name), members): (&(u32, String), &BTreeSet<String>)| {
                let members: Vec<&str> = members.iter().map(String::as_str).collect();
                line(name, *gid, &members.join(","))
            };
            self.groups.iter().map(line).collect()
        };
        let with_members = account_files::with_members;
        if !self.groups.is_empty() {
            let lines = groups(|name, gid, members| format!("{name}:x:{gid}:{members}"));
            add(&mut files, account_files::GROUP, 0o644, lines, with_members);
        }
        let own = |path, text: &str, mode| {
            let is_new = base.get(path).is_none();
            is_new.then(|| AccountFile {
                path,
                bytes: text.into(),
                metadata: Metadata::mode(mode),
            })
        };
        if self.has_nss {
            files.extend(own(account_files::NSSWITCH, NSSWITCH, 0o644));
        }
        // A program that asks PAM refuses who is in one of the files only.
        if self.has_shadow || base.get(account_files::SHADOW).is_some() {
            let path = account_files::SHADOW;
            let lines = self.users.values().filter_map(|account| {
                let name = &account.user.name;
                let password = match &account.user.password {
                    Some(password) => password,
                    None if base.line(path, name).is_some() => return None,
                    None => LOCKED,
                };
                Some(format!("{name}:{password}:::::::"))
            });
            let join = account_files::with_password;
            add(&mut files, path, 0o600, lines.collect(), join);
        }
        if self.has_shadow || base.get(account_files::GSHADOW).is_some() {
            let lines = groups(|name, _, members| format!("{name}:x::{members}"));
            add(
                &mut files,
                account_files::GSHADOW,
                0o600,
                lines,
                with_members,
            );
        }
        if self.has_shadow {
            files.extend(own(account_files::PAM_OTHER, PAM_OTHER, 0o644));
            files.extend(own(account_files::LOGIN_DEFS, "", 0o644));
        }
        files
    }
}

fn passwd(account: &Account) -> String {
    let user = &account.user;
    format!(
        "{}:x:{}:{}:{}:{}:{}",
        user.name,
        user.uid,
        account.gid,
        user.description,
        user.home.as_deref().unwrap_or(NO_HOME),
        user.shell.as_deref().unwrap_or(SHELL),
    )
}

fn root() -> User {
    standard("root", 0, "root user")
}

fn nobody() -> User {
    standard("nobody", NOBODY, "nobody")
}

fn standard(name: &str, uid: u32, description: &str) -> User {
    User {
        name: name.to_owned(),
        uid,
        group: GroupOf::Own,
        description: description.to_owned(),
        home: None,
        create_home: None,
        shell: None,
        password: None,
    }
}

fn conflict(what: &str, name: &str, first: &str, second: &str) -> Error {
    ErrorKind::RootTreeConflict {
        path: format!("the {what} {name}"),
        first: first.to_owned(),
        second: second.to_owned(),
    }
    .into()
}

/// Reads a number of a user or a group.
fn id(text: &str) -> Option<u32> {
    let is_plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    is_plain
        .then(|| text.parse().ok())?
        .filter(|id| *id != u32::MAX)
}
