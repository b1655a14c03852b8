//! `Warning` headers: what a registry wants the user to know.
//!
//! Source: distribution-spec, "Warnings": `Warning: 299 - "text"`.

use crate::net::one_line;

/// How many warnings of one answer are told.
const MAX_WARNINGS: usize = 8;

/// Returns the texts in the value of one header. Other codes than 299 are
/// about caches, and left out.
pub(super) fn parse_warnings(header: &str) -> Vec<String> {
    let mut texts = Vec::new();
    let mut rest = header;
    while texts.len() < MAX_WARNINGS {
        let Some(open) = rest.find('"') else { break };
        let before = rest[..open].rsplit(',').next().unwrap_or_default();
        let Some((text, after)) = split_quoted(&rest[open + 1..]) else {
            break;
        };
        rest = after;
        // A date in quotes may follow, which has no code before it.
        let is_warning = before.split_whitespace().next() == Some("299");
        let text = one_line(&text);
        if is_warning && !text.is_empty() {
            texts.push(text);
        }
    }
    texts
}

/// Splits after the closing quote.
fn split_quoted(text: &str) -> Option<(String, &str)> {
    let mut quoted = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((quoted, &text[at + 1..])),
            '\\' => quoted.push(chars.next()?.1),
            c => quoted.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_are_found() {
        for (header, expected) in [
            (r#"299 - "Your token expires""#, &["Your token expires"][..]),
            (r#"299 - "a, \"b\"", 299 - "c""#, &[r#"a, "b""#, "c"]),
            (
                r#"299 - "old" "Sun, 06 Nov 1994 08:49:37 GMT", 299 - "new""#,
                &["old", "new"],
            ),
            (r#"110 cache "Response is stale""#, &[]),
            (r#"299 - """#, &[]),
            (r#"299 - "open"#, &[]),
            ("299 - none", &[]),
            ("", &[]),
        ] {
            assert_eq!(parse_warnings(header), expected, "{header}");
        }
        let many = r#"299 - "x","#.repeat(100);
        assert_eq!(parse_warnings(&many).len(), MAX_WARNINGS);
    }

    proptest! {
        #[test]
        fn any_header_is_read(header in r#"(299 - |["\\,a é]){0,30}"#) {
            parse_warnings(&header);
        }

        #[test]
        fn what_is_quoted_comes_back(text in "[a-zé,\"\\\\]{1,30}") {
            let quoted = text.replace('\\', r"\\").replace('"', "\\\"");
            prop_assert_eq!(parse_warnings(&format!("299 - \"{quoted}\"")), [text]);
        }
    }
}
