//! netrc: names and passwords of machines, one file for all programs.
//!
//! ```text
//! machine example.org login me password "with space"
//! default login guest password guest
//! macdef init
//! lines up to an empty one are a macro of ftp, and skipped
//! ```
//!
//! Read as curl does: words are separated by spaces or line ends, a word may be
//! in double quotes with `\` escapes, `#` before a word begins a comment, and
//! words that are not known are passed over. Other than in curl, a value may
//! begin with `#`, as Python has it: curl sends an empty password then.
//!
//! Sources: <https://everything.curl.dev/usingcurl/netrc.html>,
//! <https://www.gnu.org/software/inetutils/manual/html_node/The-_002enetrc-file.html>.

use crate::credentials::{Credentials, Secret, server};
use crate::error::{Error, Location, Result};

/// A netrc file.
#[derive(Debug)]
pub struct Netrc {
    machines: Vec<Machine>,
}

#[derive(Debug)]
struct Machine {
    /// `None` for `default`.
    name: Option<String>,
    login: Option<String>,
    password: Option<Secret>,
}

impl Netrc {
    /// Reads a file's bytes; `document` names it in errors.
    ///
    /// # Errors
    ///
    /// If a word's value is missing, or a quote has no end. No word of the file
    /// is shown.
    pub fn parse(bytes: &[u8], document: &str) -> Result<Self> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let good = &bytes[..error.valid_up_to()];
            let line = 1 + good.iter().filter(|byte| **byte == b'\n').count() as u64;
            Error::document(document, Location::Line(line), "expected text in UTF-8")
        })?;
        let mut words = Words {
            document,
            rest: text,
            line: 1,
        };
        let mut machines: Vec<Machine> = Vec::new();
        while let Some(word) = words.keyword()? {
            match word.as_str() {
                "machine" => machines.push(Machine::new(Some(words.value("a machine's name")?))),
                "default" => machines.push(Machine::new(None)),
                "macdef" => words.skip_macro(),
                "account" => drop(words.value("an account")?),
                "login" => {
                    let login = words.value("a name")?;
                    if let Some(machine) = machines.last_mut() {
                        machine.login = Some(login);
                    }
                }
                "password" => {
                    let password = Secret::new(words.value("a password")?);
                    if let Some(machine) = machines.last_mut() {
                        machine.password = Some(password);
                    }
                }
                _ => {}
            }
        }
        Ok(Self { machines })
    }

    /// Returns the credentials for a registry, or `None` if there are none.
    ///
    /// A machine's name has no port in most files; one that has it wins. What is
    /// first in the file wins, so `default` has to be the last.
    pub fn find(&self, host: &str) -> Option<Credentials> {
        let names = server::names(host);
        let with_port = names.iter().copied();
        let without_port = names.iter().copied().map(without_port);
        let named = with_port.chain(without_port).find_map(|name| {
            self.machines.iter().find(|machine| {
                let theirs = machine.name.as_deref();
                theirs.is_some_and(|theirs| theirs.eq_ignore_ascii_case(name))
            })
        });
        // `default login anonymous` is for servers of ftp, where everybody may
        // sign in by that name. Here it would be refused where nobody need sign
        // in.
        let default = || {
            self.machines.iter().find(|machine| {
                machine.name.is_none() && machine.login.as_deref() != Some("anonymous")
            })
        };
        let machine = named.or_else(default)?;
        let password = machine.password.clone().unwrap_or_else(|| Secret::new(""));
        Some(Credentials::new(machine.login.clone()?, password))
    }
}

impl Machine {
    fn new(name: Option<String>) -> Self {
        Self {
            name,
            login: None,
            password: None,
        }
    }
}

/// Returns a host without its port and the brackets of IP version 6.
fn without_port(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    }
}

/// The words of a file.
struct Words<'t> {
    document: &'t str,
    rest: &'t str,
    line: u64,
}

impl Words<'_> {
    /// Returns the next word that is not in a comment.
    fn keyword(&mut self) -> Result<Option<String>> {
        loop {
            self.skip_space();
            if !self.rest.starts_with('#') {
                return self.next();
            }
            self.skip_line();
        }
    }

    fn next(&mut self) -> Result<Option<String>> {
        self.skip_space();
        if self.rest.is_empty() {
            return Ok(None);
        }
        if self.rest.starts_with('"') {
            return self.quoted().map(Some);
        }
        let end = self.rest.find(is_space).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(Some(word.to_owned()))
    }

    /// Returns the word that must follow.
    fn value(&mut self, expected: &str) -> Result<String> {
        let line = self.line;
        self.next()?.ok_or_else(|| {
            let expected = format!("expected {expected}, found the end of the file");
            Error::document(self.document, Location::Line(line), expected)
        })
    }

    fn quoted(&mut self) -> Result<String> {
        let mut word = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            let c = match c {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(word);
                }
                '\n' => break,
                '\\' => match chars.next() {
                    Some((_, 'n')) => '\n',
                    Some((_, 'r')) => '\r',
                    Some((_, 't')) => '\t',
                    Some((_, c)) => c,
                    None => break,
                },
                c => c,
            };
            word.push(c);
        }
        Err(Error::document(
            self.document,
            Location::Line(self.line),
            "a quoted word has no end on its line",
        ))
    }

    /// Skips a macro: it ends with an empty line, or with the file.
    fn skip_macro(&mut self) {
        self.skip_line();
        while !self.rest.is_empty() && !self.rest.starts_with(['\n', '\r']) {
            self.skip_line();
        }
    }

    fn skip_line(&mut self) {
        let end = self.rest.find('\n').map_or(self.rest.len(), |end| {
            self.line += 1;
            end + 1
        });
        self.rest = &self.rest[end..];
    }

    fn skip_space(&mut self) {
        let end = self.rest.find(|c| !is_space(c)).unwrap_or(self.rest.len());
        self.line += self.rest[..end].matches('\n').count() as u64;
        self.rest = &self.rest[end..];
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn netrc(text: &str) -> Netrc {
        Netrc::parse(text.as_bytes(), "netrc").unwrap()
    }

    fn found(netrc: &Netrc, host: &str) -> Option<(String, String)> {
        match netrc.find(host)? {
            Credentials::Password { user, password } => Some((user, password.reveal().to_owned())),
            other => panic!("{other:?}"),
        }
    }

    fn pair(user: &str, password: &str) -> Option<(String, String)> {
        Some((user.to_owned(), password.to_owned()))
    }

    #[test]
    fn machines_have_names_and_passwords() {
        let netrc = netrc(
            "# machine comment.io login no password no\n\
             machine one.io login me password #pw#1 \t # login no\n\
             \n\
             machine two.io\r\n\tlogin\n  you account x\n  password \"a \\\"b\\\" \\\\c\\td\"\n\
             machine h:5000 login port password p\n\
             machine h login host password p\n\
             default login any password one\n",
        );
        assert_eq!(found(&netrc, "one.io"), pair("me", "#pw#1"));
        assert_eq!(found(&netrc, "ONE.io:443"), pair("me", "#pw#1"));
        assert_eq!(found(&netrc, "two.io"), pair("you", "a \"b\" \\c\td"));
        assert_eq!(found(&netrc, "h:5000"), pair("port", "p"));
        assert_eq!(found(&netrc, "h:5001"), pair("host", "p"));
        assert_eq!(found(&netrc, "comment.io"), pair("any", "one"));
    }

    #[test]
    fn macros_are_skipped() {
        let netrc = netrc(
            "machine a.io login a password a\nmacdef init\nmachine no.io login x\npassword y\n\n\
             machine b.io login b password b\nmacdef last\nquit",
        );
        assert_eq!(found(&netrc, "a.io"), pair("a", "a"));
        assert_eq!(found(&netrc, "b.io"), pair("b", "b"));
        assert_eq!(found(&netrc, "no.io"), None);
    }

    #[test]
    fn docker_hub_and_addresses_are_found() {
        let netrc = netrc(
            "machine registry-1.docker.io login hub password p\n\
             machine ::1 login six password p\n\
             default login anonymous password me@example.org\n",
        );
        assert_eq!(found(&netrc, "docker.io"), pair("hub", "p"));
        assert_eq!(found(&netrc, "[::1]:5000"), pair("six", "p"));
        assert_eq!(found(&netrc, "other.io"), None, "anonymous is for ftp");
    }

    #[test]
    fn the_first_machine_wins_and_a_login_is_needed() {
        let netrc = netrc(
            "machine a.io login first password 1 machine a.io login second password 2\n\
             machine b.io password alone\nmachine c.io login alone\n",
        );
        assert_eq!(found(&netrc, "a.io"), pair("first", "1"));
        assert_eq!(found(&netrc, "b.io"), None);
        assert_eq!(found(&netrc, "c.io"), pair("alone", ""));
    }

    #[test]
    fn errors_name_the_line_and_no_word() {
        for (text, told) in [
            (
                &b"machine a\nlogin"[..],
                "netrc, line 2: expected a name, found the end of the file",
            ),
            (
                b"machine",
                "netrc, line 1: expected a machine's name, found the end of the file",
            ),
            (
                b"machine a login b\npassword \"hunter2\n",
                "netrc, line 2: a quoted word has no end on its line",
            ),
            (b"machine a\n\xff", "netrc, line 2: expected text in UTF-8"),
        ] {
            let error = Netrc::parse(text, "netrc").unwrap_err();
            assert_eq!(error.to_string(), told);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            if let Err(error) = Netrc::parse(&bytes, "netrc") {
                prop_assert!(error.to_string().starts_with("netrc"), "{error}");
            }
        }

        #[test]
        fn no_password_is_shown(
            secret in "[a-z]{12}",
            text in "(machine|default|login|password|macdef|account|#|\"|\\\\| |\n|SECRET){0,24}",
        ) {
            let text = text.replace("SECRET", &secret);
            let told = match Netrc::parse(text.as_bytes(), "netrc") {
                Ok(netrc) => netrc.machines.iter().map(|m| format!("{:?}", m.password)).collect(),
                Err(error) => format!("{error:?} {error}"),
            };
            prop_assert!(!told.contains(&secret), "{told}");
        }

        #[test]
        fn a_quoted_password_comes_back(password in "[^\n]{0,20}") {
            let quoted = password.replace('\\', "\\\\").replace('"', "\\\"");
            let netrc = netrc(&format!("machine a.io login me password \"{quoted}\"\n"));
            prop_assert_eq!(found(&netrc, "a.io"), pair("me", &password));
        }
    }
}
