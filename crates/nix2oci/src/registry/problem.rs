//! What a registry's error answer says, in words.

/// Puts an error answer into one line.
pub(crate) fn problem(status: u16, _content_type: Option<&str>, _body: &[u8]) -> String {
    let words = reqwest::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason());
    match words {
        Some(words) => format!("status {status} {words}"),
        None => format!("status {status}"),
    }
}
