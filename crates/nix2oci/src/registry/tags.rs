//! The tags of a repository.

use reqwest::Method;
use serde::Deserialize;

use super::repository::Repository;
use crate::error::Result;

/// ECR refuses to list more than 1000 at once (go-containerregistry#1091).
const FIRST_PAGE: &str = "tags/list?n=1000";

#[derive(Deserialize)]
struct TagList {
    /// `null` where there are none (rust-oci-client#277).
    #[serde(default)]
    tags: Option<Vec<String>>,
}

impl Repository {
    /// Lists all tags, in the registry's order: none if there is no such
    /// repository. One request for each thousand, or as few as the registry
    /// puts in one page.
    pub async fn tags(&self) -> Result<Vec<String>> {
        let action = || format!("list the tags of repository {}", self.name());
        let first = || {
            let mut request = self.request(Method::GET, FIRST_PAGE, action())?;
            request.accept = &[200, 404];
            Ok(request)
        };
        let mut tags = Vec::new();
        self.read_pages(first, |page| {
            if page.status == 404 {
                return Ok(false);
            }
            let list = parse(&page.bytes)
                .map_err(|problem| self.answered(action(), Some(page.status), problem))?;
            tags.extend(list);
            Ok(true)
        })
        .await?;
        Ok(tags)
    }
}

fn parse(page: &[u8]) -> Result<Vec<String>, String> {
    serde_json::from_slice::<TagList>(page)
        .map(|list| list.tags.unwrap_or_default())
        .map_err(|error| format!("what it answers is no list of tags: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// rust-oci-client#277.
    #[test]
    fn no_tags_may_be_null_or_missing() {
        for page in [
            r#"{"name":"app","tags":null}"#,
            r#"{"name":"app"}"#,
            r#"{"name":"app","tags":[]}"#,
        ] {
            assert_eq!(parse(page.as_bytes()), Ok(Vec::new()), "{page}");
        }
        assert_eq!(
            parse(br#"{"name":"app","tags":["b","a"]}"#),
            Ok(vec!["b".to_owned(), "a".to_owned()])
        );
        assert!(parse(b"<html>").unwrap_err().contains("no list of tags"));
    }
}
