//! Modes, owners and extended attributes by rules over paths.

use std::collections::BTreeMap;

use globset::GlobBuilder;
use regex::bytes::{Regex, RegexBuilder};

use crate::error::{Error, Result};
use crate::oci::Owner;
use crate::store::StorePath;

use super::Metadata;

/// The attribute that only a regular file can have.
const CAPABILITY: &str = "security.capability";

/// Bytes that a compiled expression may have: a recipe may have many of them.
pub(super) const MOST_COMPILED: usize = 1 << 20;

/// What files get whose paths match a pattern.
///
/// Of several rules that match a path each says what it says; where two say
/// the same thing, the later one wins. They win over what a file of the
/// [root tree](super::RootTree) is given by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Which paths.
    pub pattern: Pattern,
    /// Only what comes from this store path, if there is one.
    pub within: Option<StorePath>,
    /// The permission bits of regular files.
    pub file_mode: Option<u32>,
    /// The permission bits of directories.
    pub directory_mode: Option<u32>,
    /// Permission bits that regular files and directories get beside those that
    /// they have, be it by themselves or by a rule.
    pub added_mode: u32,
    /// The owner of everything that matches, symbolic links too.
    pub owner: Option<Owner>,
    /// Extended attributes of regular files and directories, and
    /// `security.capability` of regular files only.
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

/// What kind of file a rule is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    Directory,
    Symlink,
    File,
}

impl Rule {
    /// Makes a rule that says nothing yet.
    pub fn new(pattern: Pattern) -> Self {
        Self {
            pattern,
            within: None,
            file_mode: None,
            directory_mode: None,
            added_mode: 0,
            owner: None,
            xattrs: BTreeMap::new(),
        }
    }

    /// Checks that files can have what it says.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for a mode
    /// of more than permission bits or an extended attribute that no file can
    /// have.
    pub fn check(&self) -> Result<()> {
        for mode in [self.file_mode, self.directory_mode, Some(self.added_mode)] {
            let metadata = Metadata {
                mode,
                owner: self.owner,
                xattrs: self.xattrs.clone(),
            };
            metadata
                .check()
                .map_err(|problem| Error::invalid(format!("the rule {}", self.pattern), problem))?;
        }
        Ok(())
    }

    /// Returns whether it matches a file at an absolute path that does not come
    /// from a store path, or for which that does not matter.
    pub(crate) fn matches_path(&self, path: &[u8]) -> bool {
        self.within.is_none()
            && self.pattern.kind != PatternKind::Source
            && self.pattern.regex.is_match(path)
    }

    /// Returns whether it matches a file that is at an absolute path in the
    /// image and comes from a place in the store, which is `from` with this
    /// full path.
    pub(crate) fn matches_copy(&self, path: &[u8], from: &StorePath, full: &[u8]) -> bool {
        let is_from = self.within.as_ref().is_none_or(|within| within == from);
        let subject = match self.pattern.kind {
            PatternKind::Source => full,
            PatternKind::Glob | PatternKind::Regex => path,
        };
        is_from && self.pattern.regex.is_match(subject)
    }

    /// Returns whether it may match anything in a store path, whose full path
    /// this is: `false` only if it cannot.
    pub(crate) fn may_match_in(&self, path: &StorePath, full: &str) -> bool {
        if self.within.as_ref().is_some_and(|within| within != path) {
            return false;
        }
        let (full, prefix) = (full.as_bytes(), self.pattern.prefix.as_slice());
        let is_near = full.starts_with(prefix)
            || prefix
                .strip_prefix(full)
                .is_some_and(|rest| rest.starts_with(b"/"));
        let is_plain = self.pattern.kind == PatternKind::Glob;
        is_near && (!is_plain || begins_with(self.pattern.text.as_bytes(), full))
    }

    /// Adds what it says to what earlier rules said of a file that has a mode
    /// by itself.
    pub(crate) fn apply(&self, kind: FileKind, own_mode: u32, to: &mut Metadata) {
        to.owner = self.owner.or(to.owner);
        let said = match kind {
            FileKind::Directory => self.directory_mode,
            FileKind::File => self.file_mode,
            FileKind::Symlink => return,
        };
        to.mode = said.or(to.mode);
        if self.added_mode != 0 {
            to.mode = Some(to.mode.unwrap_or(own_mode) | self.added_mode);
        }
        for (name, value) in &self.xattrs {
            if name != CAPABILITY || kind == FileKind::File {
                to.xattrs.insert(name.clone(), value.clone());
            }
        }
    }
}

/// What the path of a file is compared with.
///
/// Two are equal if they are written alike.
#[derive(Debug, Clone)]
pub struct Pattern {
    kind: PatternKind,
    text: String,
    regex: Regex,
    /// What everything that matches begins with.
    prefix: Vec<u8>,
}

/// How a [`Pattern`] is written, and which path it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PatternKind {
    /// A glob over the whole absolute path in the image: `*` and `?` do not
    /// match `/`, `**` does; `[a-z]` and `{a,b}`.
    Glob,
    /// A regular expression that matches somewhere in the absolute path in the
    /// image; `^` and `$` are its ends.
    Regex,
    /// A regular expression over the full path in the store that a file comes
    /// from, as nix2container's `perms` have it.
    Source,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// Regular expressions are those of the `regex` crate without Unicode: as
    /// Go's, with which they share their syntax, they have no backreferences
    /// and take time linear in the path.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for one that
    /// is not well-formed or too large, and for a glob that no absolute path
    /// matches.
    pub fn new(kind: PatternKind, text: &str) -> Result<Self> {
        let refuse = |problem: String| Error::invalid(format!("the pattern {text:?}"), problem);
        let (expression, prefix) = match kind {
            PatternKind::Glob => {
                if !text.starts_with(['/', '*', '{', '[']) {
                    return Err(refuse(
                        "expected a glob over absolute paths: it begins with / or **/".to_owned(),
                    ));
                }
                let glob = GlobBuilder::new(text)
                    .literal_separator(true)
                    .backslash_escape(true)
                    .build()
                    .map_err(|e| refuse(e.kind().to_string()))?;
                (glob.regex().to_owned(), glob_prefix(text))
            }
            PatternKind::Regex | PatternKind::Source => (text.to_owned(), regex_prefix(text)),
        };
        let regex = RegexBuilder::new(&expression)
            .unicode(false)
            .size_limit(MOST_COMPILED)
            .build()
            .map_err(|e| refuse(last_line(&e.to_string())))?;
        Ok(Self {
            kind,
            text: text.to_owned(),
            regex,
            prefix,
        })
    }

    /// Returns how it is written.
    pub fn kind(&self) -> PatternKind {
        self.kind
    }

    /// Returns what was read.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        (self.kind, &self.text) == (other.kind, &other.text)
    }
}

impl Eq for Pattern {}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// Returns the beginning of a glob that only matches itself.
fn glob_prefix(text: &str) -> Vec<u8> {
    let end = text
        .find(['*', '?', '[', ']', '{', '}', '\\'])
        .unwrap_or(text.len());
    text.as_bytes()[..end].to_vec()
}

/// Returns whether the beginning of a glob may match a path, so that the rest
/// may match in it: `false` only if it cannot.
fn begins_with(glob: &[u8], path: &[u8]) -> bool {
    let depth = path.iter().filter(|b| **b == b'/').count();
    let mut slashes = (0..glob.len()).filter(|at| glob[*at] == b'/');
    let head = slashes.nth(depth).map_or(glob, |end| &glob[..end]);
    // What is in brackets or behind a backslash may be a slash as well.
    let is_simple = !head.iter().any(|b| b"{}[]\\".contains(b));
    !is_simple || head.windows(2).any(|two| two == b"**") || wildcard(head, path)
}

/// Compares a text with `*` and `?`, neither of which matches a slash.
fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where the last star is, and what it matches up to.
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(sign) if *sign == text[t] || (*sign == b'?' && text[t] != b'/') => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, end)) if text[end] != b'/' => {
                    star = Some((at, end + 1));
                    (p, t) = (at + 1, end + 1);
                }
                _ => return false,
            },
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

/// Returns the beginning of a regular expression that only matches itself:
/// letters and a few signs after a `^`. None if there may be alternatives or
/// flags.
fn regex_prefix(text: &str) -> Vec<u8> {
    let Some(anchored) = text.strip_prefix('^').filter(|_| !text.contains('|')) else {
        return Vec::new();
    };
    let mut prefix = Vec::new();
    let mut rest = anchored.as_bytes();
    loop {
        let (byte, after) = match rest {
            [b'\\', byte @ (b'.' | b'+' | b'-'), after @ ..] => (*byte, after),
            [byte, after @ ..] if byte.is_ascii_alphanumeric() || b"/-_=".contains(byte) => {
                (*byte, after)
            }
            _ => return prefix,
        };
        // What follows says how often it comes, perhaps not at all.
        if matches!(after, [b'*' | b'?' | b'+' | b'{', ..]) {
            return prefix;
        }
        prefix.push(byte);
        rest = after;
    }
}

/// Returns what an error of several lines comes to.
fn last_line(message: &str) -> String {
    let line = message.lines().last().unwrap_or(message);
    line.trim().trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;

    fn pattern(kind: PatternKind, text: &str) -> Pattern {
        Pattern::new(kind, text).unwrap()
    }

    fn path(name: &str) -> StorePath {
        format!("{}-{name}", "0".repeat(32)).parse().unwrap()
    }

    fn full(name: &str) -> String {
        format!("/nix/store/{}", path(name))
    }

    #[test]
    fn globs_match_whole_paths_and_stars_stay_in_a_directory() {
        let matches = |glob: &str, path: &str| {
            Rule::new(pattern(PatternKind::Glob, glob)).matches_path(path.as_bytes())
        };
        for (glob, path) in [
            ("/", "/"),
            ("/etc/*", "/etc/passwd"),
            ("/etc/**", "/etc/ssl/certs"),
            ("**/bin/*", "/usr/bin/env"),
            ("/{bin,sbin}/su", "/sbin/su"),
            ("/tmp/[a-c]?", "/tmp/bx"),
            ("/a\\*", "/a*"),
        ] {
            assert!(matches(glob, path), "{glob} {path}");
        }
        for (glob, path) in [
            ("/etc", "/etc/passwd"),
            ("/etc/*", "/etc/ssl/certs"),
            ("/etc/**", "/etc"),
            ("/etc/**", "/etcetera"),
            ("/bin/?", "/bin/"),
            ("/a\\*", "/ab"),
        ] {
            assert!(!matches(glob, path), "{glob} {path}");
        }
    }

    #[test]
    fn expressions_match_anywhere_and_bytes() {
        let matches = |regex: &str, path: &[u8]| {
            Rule::new(pattern(PatternKind::Regex, regex)).matches_path(path)
        };
        assert!(matches("bin/su", b"/usr/bin/sudo"));
        assert!(!matches("^/bin/su$", b"/bin/sudo"));
        assert!(matches(r"^/a.c$", b"/a\xffc"));
    }

    #[test]
    fn a_source_is_another_path_and_may_be_one_store_path_only() {
        let source = Rule::new(pattern(PatternKind::Source, "^/nix/store/[^/]*/bin/"));
        let (one, at) = (path("one"), format!("{}/bin/x", full("one")));
        assert!(source.matches_copy(b"/x", &one, at.as_bytes()));
        assert!(!source.matches_path(at.as_bytes()));
        let mut within = Rule::new(pattern(PatternKind::Glob, "/x"));
        within.within = Some(path("two"));
        assert!(!within.matches_copy(b"/x", &one, at.as_bytes()));
        assert!(!within.matches_path(b"/x"));
        within.within = Some(path("one"));
        assert!(within.matches_copy(b"/x", &one, at.as_bytes()));
    }

    #[test]
    fn a_rule_for_one_store_path_is_known_to_match_no_other() {
        let may = |kind, text: &str, name: &str| {
            Rule::new(pattern(kind, text)).may_match_in(&path(name), &full(name))
        };
        let inside = format!("{}/bin/*", full("a"));
        assert!(may(PatternKind::Glob, &inside, "a"));
        assert!(!may(PatternKind::Glob, &inside, "ab"));
        assert!(may(PatternKind::Glob, &format!("{}*", full("a")), "ab"));
        assert!(may(PatternKind::Glob, "**/bin/su", "a"));
        assert!(!may(PatternKind::Glob, "/etc/**", "a"));
        for (glob, expected) in [
            ("/nix/store/*-app-*/bin/*", true),
            ("/nix/store/*-app-*", true),
            ("/nix/store/*", true),
            ("/*/*/*/*", true),
            ("/nix/store/*-ap?-1/**", true),
            ("/nix/store/**/x", true),
            ("/nix/store/{a,b}*", true),
            ("/nix/store/*-lib-*/bin/*", false),
            ("/nix/store/*-app", false),
            ("/nix/store", false),
            ("/nix/*", false),
            ("/*/x", false),
        ] {
            assert_eq!(may(PatternKind::Glob, glob, "app-1"), expected, "{glob}");
        }
        let anchored = format!("^{}/bin/.*", full("a"));
        assert!(may(PatternKind::Regex, &anchored, "a"));
        assert!(!may(PatternKind::Regex, &anchored, "b"));
        let mut within = Rule::new(pattern(PatternKind::Regex, ".*"));
        within.within = Some(path("a"));
        assert!(within.may_match_in(&path("a"), &full("a")));
        assert!(!within.may_match_in(&path("b"), &full("b")));
    }

    proptest::proptest! {
        #[test]
        fn a_glob_that_matches_in_a_store_path_may(
            glob in "/[ab*?/]{0,12}", path in "/[ab]{1,3}", inside in "(/[ab]{1,2}){0,3}",
        ) {
            if let Ok(pattern) = Pattern::new(PatternKind::Glob, &glob) {
                let rule = Rule::new(pattern);
                let is_match = rule.matches_path(format!("{path}{inside}").as_bytes());
                let may_match = rule.may_match_in(&self::path("x"), &path);
                proptest::prop_assert!(!is_match || may_match);
            }
        }
    }

    #[test]
    fn the_prefix_of_an_expression_is_what_must_be_there() {
        for (text, prefix) in [
            ("^/a/b", "/a/b"),
            (r"^/a\.b-c$", "/a.b-c"),
            ("^/ab*", "/a"),
            ("^/ab?c", "/a"),
            ("^/ab+", "/a"),
            ("^/ab{0,2}", "/a"),
            ("^/a(b|c)", ""),
            ("^/a|/b", ""),
            ("/a", ""),
            ("(?i)^/a", ""),
            (r"^/a\d", "/a"),
            ("^/a.c", "/a"),
        ] {
            assert_eq!(regex_prefix(text), prefix.as_bytes(), "{text}");
        }
    }

    #[test]
    fn rules_say_what_each_kind_can_have() {
        let mut rule = Rule::new(pattern(PatternKind::Glob, "/**"));
        rule.file_mode = Some(0o4755);
        rule.directory_mode = Some(0o1777);
        rule.owner = Some(Owner { uid: 1, gid: 2 });
        rule.xattrs = [("user.x", b"1"), (CAPABILITY, b"2")]
            .map(|(name, value)| (name.to_owned(), value.to_vec()))
            .into();
        rule.check().unwrap();
        let applied = |kind| {
            let mut metadata = Metadata::mode(0o600);
            rule.apply(kind, 0o444, &mut metadata);
            let names: Vec<_> = metadata.xattrs.into_keys().collect();
            assert_eq!(metadata.owner, rule.owner);
            (metadata.mode, names.join(" "))
        };
        let both = format!("{CAPABILITY} user.x");
        assert_eq!(applied(FileKind::File), (Some(0o4755), both));
        let one = "user.x".to_owned();
        assert_eq!(applied(FileKind::Directory), (Some(0o1777), one));
        assert_eq!(applied(FileKind::Symlink), (Some(0o600), String::new()));
        rule.directory_mode = Some(0o10000);
        let message = rule.check().unwrap_err().to_string();
        assert_eq!(
            message,
            "the rule /**: mode 10000 is more than permission bits"
        );
    }

    #[test]
    fn bits_are_added_to_the_mode_that_is_there() {
        let rule = |file_mode, added_mode| Rule {
            file_mode,
            added_mode,
            ..Rule::new(pattern(PatternKind::Glob, "/**"))
        };
        let applied = |rules: &[Rule], own_mode| {
            let mut metadata = Metadata::default();
            for rule in rules {
                rule.apply(FileKind::File, own_mode, &mut metadata);
            }
            metadata.mode
        };
        let (said, added) = (rule(Some(0o440), 0), rule(None, 0o200));
        for own in [0o444, 0o555] {
            assert_eq!(applied(slice::from_ref(&added), own), Some(own | 0o200));
            assert_eq!(applied(&[said.clone(), added.clone()], own), Some(0o640));
            assert_eq!(applied(&[added.clone(), said.clone()], own), Some(0o440));
            assert_eq!(applied(&[rule(Some(0o444), 0o200)], own), Some(0o644));
        }
        let mut link = Metadata::default();
        added.apply(FileKind::Symlink, 0o777, &mut link);
        assert_eq!(link, Metadata::default());
        assert!(rule(None, 0o10000).check().is_err());
    }

    #[test]
    fn patterns_that_match_nothing_are_refused() {
        for (kind, text, problem) in [
            (PatternKind::Glob, "etc/*", "expected a glob over absolute"),
            (PatternKind::Glob, "/a[", "unclosed character class"),
            (PatternKind::Regex, "(", "unclosed group"),
            (
                PatternKind::Regex,
                r"(a)\1",
                "backreferences are not supported",
            ),
            (PatternKind::Source, "a{1000}{100}", "exceeds size limit"),
        ] {
            let message = Pattern::new(kind, text).unwrap_err().to_string();
            let about = format!("the pattern {text:?}: ");
            assert!(
                message.starts_with(&about) && message.contains(problem),
                "{message}"
            );
        }
    }
}
