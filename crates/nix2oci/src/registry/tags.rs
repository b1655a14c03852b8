//! The tags of a repository.

use reqwest::Method;
use serde::Deserialize;

use super::repository::{Repository, is_broken};
use crate::error::{ErrorClass, Result};

/// As many at once as registries give. ECR refuses to give more
/// (go-containerregistry#1091); others may give fewer.
const MANY: &str = "tags/list?n=1000";

/// As many at once as the registry likes.
const SOME: &str = "tags/list";

/// As many as show that there are some.
const ONE: &str = "tags/list?n=1";

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
        let many = self.list_tags(MANY, &[200, 400, 404, 413]).await?;
        if let Some(tags) = many {
            return Ok(tags);
        }
        // quay says 413 to more than it gives at once (quay#2884).
        let some = self.list_tags(SOME, &[200, 404]).await?;
        Ok(some.unwrap_or_default())
    }

    /// Returns whether there is no tag, or no such repository; `false` if the
    /// registry does not say. One request, however many tags there are.
    pub(crate) async fn has_no_tags(&self) -> Result<bool> {
        let first = || {
            let mut request = self.request(Method::GET, ONE, self.listing_tags())?;
            request.accept = &[200, 404];
            Ok(request)
        };
        let mut is_empty = false;
        let read = self.read_pages(first, |page| {
            let list = parse(&page.bytes);
            is_empty = page.status == 404 || list.is_ok_and(|tags| tags.is_empty());
            Ok(false)
        });
        match read.await {
            Ok(()) => Ok(is_empty),
            // Who may push need not be allowed to list, and to know it only
            // saves requests.
            Err(error) if !is_broken(&error) && error.class() != ErrorClass::Cancelled => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns `None` if the registry does not take the question.
    async fn list_tags(&self, path: &str, accept: &'static [u16]) -> Result<Option<Vec<String>>> {
        let first = || {
            let mut request = self.request(Method::GET, path, self.listing_tags())?;
            request.accept = accept;
            Ok(request)
        };
        let mut tags = Some(Vec::new());
        self.read_pages(first, |page| match page.status {
            404 => Ok(false),
            400 | 413 => {
                tags = None;
                Ok(false)
            }
            status => {
                let list = parse(&page.bytes)
                    .map_err(|problem| self.answered(self.listing_tags(), Some(status), problem))?;
                if let Some(tags) = &mut tags {
                    tags.extend(list);
                }
                Ok(true)
            }
        })
        .await?;
        Ok(tags)
    }

    fn listing_tags(&self) -> String {
        format!("list the tags of repository {}", self.name())
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
