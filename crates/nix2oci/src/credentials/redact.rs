//! What a program said, as it may be shown.

/// The most characters that are shown.
const LONGEST: usize = 200;

/// The most characters of a word that may be a name and no token.
const LONGEST_NAME: usize = 31;

/// Returns a text as one line of at most 200 characters, with `…` in place of
/// what may be a secret: user names and passwords in addresses, and words as
/// long as tokens are.
///
/// It is a second fence: a credential helper has no business to say a secret in
/// a message.
pub(super) fn redact(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let words: Vec<String> = words
        .filter(|word| !word.is_empty())
        .map(redact_word)
        .collect();
    let line = words.join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn redact_word(word: &str) -> String {
    let word = match (word.find("://"), word.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 <= at => {
            format!("{}…{}", &word[..scheme + 3], &word[at..])
        }
        _ => word.to_owned(),
    };
    let mut shown = String::with_capacity(word.len());
    let mut rest = word.as_str();
    while !rest.is_empty() {
        let end = rest.find(|c| !is_of_token(c)).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        shown.push_str(if run.len() > LONGEST_NAME { "…" } else { run });
        let end = after.find(is_of_token).unwrap_or(after.len());
        let (between, after) = after.split_at(end);
        shown.push_str(between);
        rest = after;
    }
    shown
}

/// Returns whether tokens are made of such characters: base64 in both
/// spellings, without `/`, which separates names in paths.
fn is_of_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '_' | '=')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_stay_and_secrets_go() {
        for (said, shown) in [
            (
                "no such host: sts.amazonaws.com\n",
                "no such host: sts.amazonaws.com",
            ),
            ("a\r\n\tb\x1b[31m c", "a b [31m c"),
            (
                "GET https://me:hunter2@example.org/token failed",
                "GET https://…@example.org/token failed",
            ),
            (
                "token eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJkb2NrZXIuaW8iLCJzdWIiOiJ9.sig",
                "token ….….sig",
            ),
            ("key=0123456789abcdef0123456789abcdef", "…"),
            (
                "read /home/me/.aws/credentials",
                "read /home/me/.aws/credentials",
            ),
        ] {
            assert_eq!(redact(said.as_bytes()), shown);
        }
        assert_eq!(redact("é ".repeat(200).as_bytes()).chars().count(), 201);
    }

    proptest! {
        #[test]
        fn a_token_is_never_shown(
            before in ".{0,20}",
            token in "[A-Za-z0-9_-]{32,80}",
            after in ".{0,20}",
        ) {
            let shown = redact(format!("{before}{token}{after}").as_bytes());
            prop_assert!(!shown.contains(&token[..16]), "{shown}");
            prop_assert!(shown.chars().count() <= LONGEST + 1);
            prop_assert!(!shown.contains(char::is_control));
        }
    }
}
