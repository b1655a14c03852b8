//! `WWW-Authenticate`: what a registry wants to know before it answers.
//!
//! Source: RFC 9110, 11.6.1. Registries put several challenges into one header
//! or send several headers, and values without quotes that would need them;
//! what makes no sense is passed over, because the next challenge may.

/// How many challenges are looked at.
const MAX_CHALLENGES: usize = 32;

/// One way to say who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    /// In lower case: `bearer`, `basic`.
    pub(super) scheme: String,
    /// Names in lower case, in the header's order.
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// Returns a parameter; the first one if it is there twice.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, value)| &**value)
    }
}

/// Parses the value of one header.
pub(super) fn parse_challenges(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = header;
    // A scheme stands at the beginning or behind a comma.
    let mut may_be_scheme = true;
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        if let Some(after) = rest.strip_prefix(',') {
            may_be_scheme = true;
            rest = after;
            continue;
        }
        if rest.is_empty() {
            return challenges;
        }
        let (word, after) = split_word(rest);
        if word.is_empty() {
            // An equals sign or a quote where none should be.
            let mut chars = rest.chars();
            chars.next();
            rest = chars.as_str();
            continue;
        }
        let value = after
            .trim_start_matches([' ', '\t'])
            .strip_prefix('=')
            .map(|value| value.trim_start_matches([' ', '\t']));
        match (value, challenges.last_mut()) {
            (Some(value), Some(challenge)) => {
                let (value, after) = split_value(value);
                let name = word.to_ascii_lowercase();
                challenge.parameters.push((name, value));
                rest = after;
            }
            (None, _) if may_be_scheme => {
                if challenges.len() == MAX_CHALLENGES {
                    return challenges;
                }
                challenges.push(Challenge {
                    scheme: word.to_ascii_lowercase(),
                    parameters: Vec::new(),
                });
                rest = after;
            }
            // A parameter of no scheme, or the one text of a scheme such as
            // `Negotiate`.
            _ => rest = after,
        }
        may_be_scheme = false;
    }
}

fn split_word(text: &str) -> (&str, &str) {
    let end = text.find([' ', '\t', ',', '=', '"']).unwrap_or(text.len());
    text.split_at(end)
}

/// Splits off a text in quotes, or one that ends at a comma or a space.
fn split_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            c => value.push(c),
        }
    }
    // The closing quote is missing.
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Shows challenges as `scheme{name=value;…}`.
    fn shown(header: &str) -> String {
        let challenges = parse_challenges(header);
        let shown = challenges.iter().map(|challenge| {
            let parameters: Vec<_> = challenge
                .parameters
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            format!("{}{{{}}}", challenge.scheme, parameters.join(";"))
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn challenges_of_registries_are_understood() {
        for (header, expected) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/app:pull,push""#,
                "bearer{realm=https://auth.docker.io/token;service=registry.docker.io;scope=repository:library/app:pull,push}",
            ),
            (
                r#"Basic realm="Registry", Bearer realm="https://a/t",service="s""#,
                "basic{realm=Registry} bearer{realm=https://a/t;service=s}",
            ),
            (
                r#"bEARER Realm = "https://a/t" , SERVICE=s"#,
                "bearer{realm=https://a/t;service=s}",
            ),
            (
                "Bearer realm=https://a/t?x=1,service=s",
                "bearer{realm=https://a/t?x=1;service=s}",
            ),
            ("Negotiate", "negotiate{}"),
            (
                r#"Negotiate YII0abc, Basic realm="x""#,
                "negotiate{} basic{realm=x}",
            ),
            (
                r#"NTLM TlRMTVNTUAAB==, Basic realm="x""#,
                "ntlm{tlrmtvntuaab==} basic{realm=x}",
            ),
            (r#"Basic realm="a \"b\" \\c""#, r#"basic{realm=a "b" \c}"#),
            (
                r#"Basic realm="a, Bearer realm=b""#,
                "basic{realm=a, Bearer realm=b}",
            ),
            (r#"Bearer realm="open"#, "bearer{realm=open}"),
            (r#"realm="x", Basic"#, "basic{}"),
            (
                r#"Bearer error="invalid_token",realm="r""#,
                "bearer{error=invalid_token;realm=r}",
            ),
            (r#"="", ="", Basic"#, "basic{}"),
            (",,, ,", ""),
            ("", ""),
        ] {
            assert_eq!(shown(header), expected, "{header}");
        }
    }

    #[test]
    fn the_first_of_equal_parameters_counts() {
        let challenges = parse_challenges(r#"Bearer realm="a",realm="b""#);
        assert_eq!(challenges[0].parameter("realm"), Some("a"));
        assert_eq!(challenges[0].parameter("scope"), None);
    }

    #[test]
    fn many_challenges_are_cut() {
        assert_eq!(parse_challenges(&"a,".repeat(1000)).len(), MAX_CHALLENGES);
    }

    proptest! {
        #[test]
        fn any_header_is_read(header in r#"[a-cé "\\=,	]{0,60}"#) {
            for challenge in parse_challenges(&header) {
                prop_assert!(!challenge.scheme.is_empty());
                prop_assert!(!challenge.scheme.contains([' ', ',', '"', '=']));
            }
        }

        #[test]
        fn what_is_quoted_comes_back(values in prop::collection::vec("\\PC{0,12}", 1..4)) {
            let quoted: Vec<_> = values
                .iter()
                .enumerate()
                .map(|(at, value)| {
                    let value = value.replace('\\', r"\\").replace('"', "\\\"");
                    format!("p{at}=\"{value}\"")
                })
                .collect();
            let header = format!("Basic realm=x, Bearer {}", quoted.join(","));
            let challenges = parse_challenges(&header);
            prop_assert_eq!(challenges.len(), 2);
            for (at, value) in values.iter().enumerate() {
                prop_assert_eq!(challenges[1].parameter(&format!("p{at}")), Some(&**value));
            }
        }
    }
}
