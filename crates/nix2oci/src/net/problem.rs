//! What a server's error answer says, in words.

use serde_json::Value;

/// Characters of the server's own words that are kept.
const MAX_WORDS: usize = 200;

/// How many of the errors in one answer are told.
const MAX_ERRORS: usize = 3;

/// Puts an error answer into one line: the status, and what the body says.
///
/// A registry's form is `{"errors": [{"code", "message", "detail"}]}`
/// (distribution-spec, "Error Codes"); token servers answer with `error` and
/// `error_description` (RFC 6749, 5.2), `details` (Docker Hub) or `message`;
/// what stands in front of them with text or HTML.
pub(crate) fn problem(status: u16, content_type: Option<&str>, body: &[u8]) -> String {
    let name = reqwest::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason());
    let status = match name {
        Some(name) => format!("status {status} {name}"),
        None => format!("status {status}"),
    };
    let text = String::from_utf8_lossy(body);
    let words = match serde_json::from_str::<Value>(&text) {
        Ok(value) => json_words(&value),
        Err(_) if is_html(content_type, &text) => html_words(&text),
        Err(_) => text.into_owned(),
    };
    let words = one_line(&words);
    if words.is_empty() {
        status
    } else {
        format!("{status}: {words}")
    }
}

fn json_words(value: &Value) -> String {
    if let Some(errors) = value.get("errors").and_then(Value::as_array) {
        let mut words: Vec<_> = errors
            .iter()
            .map(error_words)
            .filter(|words| !words.is_empty())
            .collect();
        let more = words.len().saturating_sub(MAX_ERRORS);
        words.truncate(MAX_ERRORS);
        if more > 0 {
            words.push(format!("and {more} more"));
        }
        return words.join("; ");
    }
    if let Some(text) = value.as_str() {
        return text.to_owned();
    }
    ["error", "error_description", "message", "details"]
        .into_iter()
        .filter_map(|key| value.get(key).and_then(Value::as_str))
        .collect::<Vec<_>>()
        .join(": ")
}

/// Puts one of a registry's errors into words: `CODE: message (detail)`.
fn error_words(error: &Value) -> String {
    let text = |key| error.get(key).and_then(Value::as_str).unwrap_or_default();
    let (code, message) = (text("code"), text("message"));
    let mut words = match (code, message) {
        ("", message) => message.to_owned(),
        (code, "") => code.to_owned(),
        (code, message) => format!("{code}: {message}"),
    };
    let detail = match error.get("detail") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(detail)) => detail.clone(),
        Some(Value::Object(detail)) if detail.is_empty() => String::new(),
        Some(detail) => detail.to_string(),
    };
    if !detail.is_empty() && detail != message {
        words.push_str(&format!(" ({detail})"));
    }
    words
}

fn is_html(content_type: Option<&str>, text: &str) -> bool {
    content_type.is_some_and(|found| found.to_ascii_lowercase().contains("html"))
        || text.trim_start().starts_with('<')
}

/// Returns the title of a page, or its text.
fn html_words(text: &str) -> String {
    // Lower case of ASCII only, so that places stay the same.
    let lower = text.to_ascii_lowercase();
    let title = lower.find("<title").and_then(|open| {
        let start = open + lower[open..].find('>')? + 1;
        let end = start + lower[start..].find("</title")?;
        Some(&text[start..end])
    });
    if let Some(title) = title.filter(|title| !title.trim().is_empty()) {
        return title.to_owned();
    }
    let mut words = String::new();
    let mut inside = false;
    for c in text.chars() {
        match c {
            '<' => inside = true,
            '>' => {
                inside = false;
                words.push(' ');
            }
            c if !inside => words.push(c),
            _ => {}
        }
    }
    words
}

/// Puts a server's text on one line that is safe to show: without control
/// characters and those that change the direction of writing, cut to a bearable
/// length.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::new();
    let mut count = 0;
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        let is_shown = |c: &char| !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
        let word: String = word.chars().filter(is_shown).collect();
        if word.is_empty() {
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
            count += 1;
        }
        for c in word.chars() {
            if count >= MAX_WORDS {
                line.push('…');
                return line;
            }
            line.push(c);
            count += 1;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn answers_are_put_into_words() {
        let json = Some("application/json");
        for (status, content_type, body, expected) in [
            (404, None, "", "status 404 Not Found"),
            (599, None, "", "status 599"),
            (
                404,
                json,
                r#"{"errors":[{"code":"NAME_UNKNOWN","message":"repository name not known to registry","detail":{"name":"app"}}]}"#,
                r#"status 404 Not Found: NAME_UNKNOWN: repository name not known to registry ({"name":"app"})"#,
            ),
            (
                400,
                Some("text/plain"),
                r#"{"errors":[{"code":"A","message":"a","detail":null},{"code":"B","detail":{}},{"message":"c","detail":"c"},{"code":"D"},{"code":"E"}]}"#,
                "status 400 Bad Request: A: a; B; c; and 2 more",
            ),
            (401, json, r#"{"errors":[]}"#, "status 401 Unauthorized"),
            (401, json, r#"{"errors":null}"#, "status 401 Unauthorized"),
            (
                401,
                json,
                r#"{"details":"incorrect username or password"}"#,
                "status 401 Unauthorized: incorrect username or password",
            ),
            (
                400,
                json,
                r#"{"error":"invalid_grant","error_description":"token expired"}"#,
                "status 400 Bad Request: invalid_grant: token expired",
            ),
            (500, json, "[1, 2]", "status 500 Internal Server Error"),
            (
                404,
                Some("text/plain; charset=utf-8"),
                "404 page not found\n",
                "status 404 Not Found: 404 page not found",
            ),
            (
                502,
                Some("text/html"),
                "<html><head><TITLE>502 Bad\n Gateway</TITLE></head><body>nginx</body></html>",
                "status 502 Bad Gateway: 502 Bad Gateway",
            ),
            (
                503,
                None,
                "<html><body><h1>Over</h1><p>capacity</p></body></html>",
                "status 503 Service Unavailable: Over capacity",
            ),
            (
                500,
                None,
                "red\u{1b}[31m\u{202e}x\u{7}",
                "status 500 Internal Server Error: red [31mx",
            ),
        ] {
            assert_eq!(problem(status, content_type, body.as_bytes()), expected);
        }
    }

    proptest! {
        #[test]
        fn any_body_is_one_short_line(body in prop::collection::vec(any::<u8>(), 0..600)) {
            let line = problem(500, None, &body);
            prop_assert!(!line.contains(char::is_control), "{:?}", line);
            prop_assert!(line.chars().count() < MAX_WORDS + 60);
        }

        #[test]
        fn any_page_is_one_short_line(body in "[<>/titleé T]{0,80}") {
            let line = problem(500, Some("text/html"), body.as_bytes());
            prop_assert!(!line.contains(char::is_control));
        }
    }
}
