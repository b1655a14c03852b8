//! AWS's credentials file: `~/.aws/credentials`.
//!
//! ```text
//! [default]
//! aws_access_key_id = AKIA…
//! aws_secret_access_key = …
//!
//! [ci]
//! aws_access_key_id = ASIA…
//! aws_secret_access_key = …
//! aws_session_token = …
//! ```
//!
//! Source: AWS SDKs and Tools Reference Guide, "Shared config and credentials
//! files" (format).

use std::fs::File;
use std::io;
use std::path::PathBuf;

use crate::credentials::Secret;
use crate::error::{Error, Location, Result};
use crate::input::{InputKind, read_open};

/// Keys for S3 and what speaks like it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsCredentials {
    /// Which key it is; sent with every request.
    pub access_key: String,
    /// What requests are signed with; never sent.
    pub secret_key: Secret,
    /// What keys that end come with; sent.
    pub session_token: Option<Secret>,
}

/// Where keys for S3 are looked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct AwsLookup {
    /// Keys that come before all files: those of the environment.
    pub given: Option<AwsCredentials>,
    /// A credentials file. It need not be there.
    pub file: Option<PathBuf>,
    /// The profile in it for buckets that name none; `default` without it.
    pub profile: Option<String>,
}

impl AwsLookup {
    /// Returns the keys for a bucket that names a profile, or none. `None` if
    /// there are no keys: a bucket may be open to everybody.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or does not have a profile that was named.
    pub fn find(&self, profile: Option<&str>) -> Result<Option<AwsCredentials>> {
        if profile.is_none() && self.given.is_some() {
            return Ok(self.given.clone());
        }
        let named = profile.or(self.profile.as_deref());
        let missing = |wherein: &str| {
            Error::invalid(
                format!("profile {:?} of AWS", named.unwrap_or_default()),
                format!("has no keys in {wherein}"),
            )
        };
        let Some(file) = &self.file else {
            return match named {
                Some(_) => Err(missing("a file, of which none is known")),
                None => Ok(None),
            };
        };
        let document = file.display().to_string();
        let found = match File::open(file) {
            Ok(open) => {
                let bytes = read_open(&open, file, InputKind::Credentials)?;
                let file = AwsCredentialsFile::parse(&bytes, &document)?;
                file.profile(named.unwrap_or("default"))?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::reading(file)(error)),
        };
        match found {
            None if named.is_some() => Err(missing(&document)),
            found => Ok(found),
        }
    }
}

/// A credentials file of AWS: keys by profile.
#[derive(Debug)]
pub struct AwsCredentialsFile {
    profiles: Vec<Profile>,
    document: String,
}

#[derive(Debug, Default)]
struct Profile {
    name: String,
    access_key: Option<String>,
    secret_key: Option<Secret>,
    session_token: Option<Secret>,
}

impl AwsCredentialsFile {
    /// Reads a file's bytes; `document` names it in errors. Settings that are
    /// not keys are passed over.
    ///
    /// # Errors
    ///
    /// If a line is neither a profile nor a setting. None of it is shown.
    pub fn parse(bytes: &[u8], document: &str) -> Result<Self> {
        let text = String::from_utf8_lossy(bytes);
        let mut profiles: Vec<Profile> = Vec::new();
        for (line, number) in text.lines().zip(1..) {
            // What is indented belongs to the setting above.
            if line.trim().is_empty() || line.starts_with(['#', ';', ' ', '\t']) {
                continue;
            }
            if let Some(rest) = line.strip_prefix('[') {
                let (name, _) = rest.split_once(']').ok_or_else(|| {
                    Error::document(document, Location::Line(number), "expected a ] after [")
                })?;
                profiles.push(Profile {
                    name: name.trim().to_owned(),
                    ..Profile::default()
                });
                continue;
            }
            let (key, value) = line.split_once('=').ok_or_else(|| {
                Error::document(
                    document,
                    Location::Line(number),
                    "expected [PROFILE] or KEY = VALUE",
                )
            })?;
            let value = value.trim();
            let Some(profile) = profiles.last_mut().filter(|_| !value.is_empty()) else {
                continue;
            };
            match &*key.trim().to_ascii_lowercase() {
                "aws_access_key_id" => profile.access_key = Some(value.to_owned()),
                "aws_secret_access_key" => profile.secret_key = Some(Secret::new(value)),
                "aws_session_token" => profile.session_token = Some(Secret::new(value)),
                _ => {}
            }
        }
        Ok(Self {
            profiles,
            document: document.to_owned(),
        })
    }

    /// Returns the keys of a profile; `None` if there is no such profile or it
    /// has none. Where a profile is there twice, later settings win.
    ///
    /// # Errors
    ///
    /// If it has one key without the other.
    pub fn profile(&self, name: &str) -> Result<Option<AwsCredentials>> {
        let mut found = Profile::default();
        for profile in self.profiles.iter().filter(|profile| profile.name == name) {
            let Profile {
                access_key,
                secret_key,
                session_token,
                ..
            } = profile;
            found.access_key = access_key.clone().or(found.access_key);
            found.secret_key = secret_key.clone().or(found.secret_key);
            found.session_token = session_token.clone().or(found.session_token);
        }
        match (found.access_key, found.secret_key) {
            (None, None) => Ok(None),
            (Some(access_key), Some(secret_key)) => Ok(Some(AwsCredentials {
                access_key,
                secret_key,
                session_token: found.session_token,
            })),
            _ => Err(Error::document(
                self.document.clone(),
                Location::Key(name.to_owned()),
                "aws_access_key_id and aws_secret_access_key go together",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FILE: &str = "\
# a comment
region = nowhere
[default]
aws_access_key_id = AKIA
AWS_Secret_Access_Key=hunter2 ; with = more
s3 =
  max_concurrent_requests = 20

[ci]
aws_access_key_id = ASIA
aws_secret_access_key = hunter2
aws_session_token = hunter2token==
[half]
aws_secret_access_key = hunter2
[none]
role_arn = arn:aws:iam::1:role/x
[ci]
aws_access_key_id = ASIA2
";

    #[test]
    fn profiles_are_found() {
        let file = AwsCredentialsFile::parse(FILE.as_bytes(), "credentials").unwrap();
        let default = file.profile("default").unwrap().unwrap();
        assert_eq!(default.access_key, "AKIA");
        assert_eq!(default.secret_key.reveal(), "hunter2 ; with = more");
        assert_eq!(default.session_token, None);
        let ci = file.profile("ci").unwrap().unwrap();
        assert_eq!(ci.access_key, "ASIA2");
        assert_eq!(ci.session_token.unwrap().reveal(), "hunter2token==");
        for name in ["none", "other", ""] {
            assert_eq!(file.profile(name).unwrap(), None);
        }
        let error = file.profile("half").unwrap_err().to_string();
        assert_eq!(
            error,
            "credentials, key half: aws_access_key_id and aws_secret_access_key go together"
        );
        assert!(!format!("{file:?}").contains("hunter2"));
    }

    #[test]
    fn keys_are_looked_for() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("credentials");
        std::fs::write(&file, FILE).unwrap();
        let given = AwsCredentials {
            access_key: "given".to_owned(),
            secret_key: Secret::new("hunter2"),
            session_token: None,
        };
        let lookup = |given: Option<&AwsCredentials>, file: Option<&PathBuf>, profile| AwsLookup {
            given: given.cloned(),
            file: file.cloned(),
            profile: Option::<&str>::map(profile, str::to_owned),
        };
        let nowhere = PathBuf::from("/nowhere/credentials");
        for (lookup, profile, expected) in [
            (lookup(None, None, None), None, Ok(None)),
            (lookup(None, Some(&nowhere), None), None, Ok(None)),
            (lookup(None, Some(&file), None), None, Ok(Some("AKIA"))),
            (
                lookup(None, Some(&file), Some("ci")),
                None,
                Ok(Some("ASIA2")),
            ),
            (
                lookup(Some(&given), Some(&file), Some("ci")),
                None,
                Ok(Some("given")),
            ),
            (
                lookup(Some(&given), Some(&file), None),
                Some("ci"),
                Ok(Some("ASIA2")),
            ),
            (
                lookup(None, Some(&file), None),
                Some("x"),
                Err("profile \"x\" of AWS: has no"),
            ),
            (
                lookup(None, Some(&nowhere), None),
                Some("ci"),
                Err("has no keys in /nowhere/"),
            ),
            (
                lookup(None, None, Some("ci")),
                None,
                Err("has no keys in a file, of which"),
            ),
        ] {
            let found = lookup.find(profile);
            match (found, expected) {
                (Ok(found), Ok(expected)) => {
                    let key = found.map(|found| found.access_key);
                    assert_eq!(key.as_deref(), expected);
                }
                (Err(error), Err(expected)) => {
                    assert!(error.to_string().contains(expected), "{error}");
                }
                (found, _) => panic!("{found:?}"),
            }
        }
    }

    #[test]
    fn what_is_wrong_is_told_without_its_words() {
        for (text, expected) in [
            ("[a\n", "credentials, line 1: expected a ] after ["),
            (
                "[a]\nhunter2\n",
                "credentials, line 2: expected [PROFILE] or KEY = VALUE",
            ),
        ] {
            let error = AwsCredentialsFile::parse(text.as_bytes(), "credentials").unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }

    proptest! {
        #[test]
        fn any_file_is_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(file) = AwsCredentialsFile::parse(&bytes, "x") {
                let _ = file.profile("default");
            }
        }
    }
}
