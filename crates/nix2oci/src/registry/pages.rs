//! Lists that come in pages, each naming the next in `Link` (RFC 8288).

use reqwest::Url;

use super::repository::{Read, Repository};
use super::request::{Request, Target};
use crate::error::Result;

/// Bytes that a page may have.
const MAX_PAGE: u64 = 4 << 20;

/// Pages that are read of one list.
const MAX_PAGES: usize = 1000;

/// Bytes that all pages of a list may have.
const MAX_LIST: u64 = 64 << 20;

impl Repository {
    /// Reads all pages of a list. `take` is given each and says whether to go
    /// on.
    pub(super) async fn read_pages(
        &self,
        first: impl Fn() -> Result<Request>,
        mut take: impl FnMut(&Read) -> Result<bool>,
    ) -> Result<()> {
        let mut page: Option<String> = None;
        let mut bytes = 0;
        for _ in 0..MAX_PAGES {
            let request = || {
                let mut request = first()?;
                if let Some(page) = &page {
                    request.target = Target::Api(page.clone());
                }
                Ok(request)
            };
            let read = self.read(request, MAX_PAGE).await?;
            bytes += read.bytes.len() as u64;
            if bytes > MAX_LIST {
                let problem = format!("the list has more than {MAX_LIST} bytes");
                return Err(self.answered(first()?.action, Some(read.status), problem));
            }
            if !take(&read)? {
                return Ok(());
            }
            let links = read.headers.get_all("link");
            let next = links
                .iter()
                .filter_map(|link| link.to_str().ok())
                .find_map(next_page);
            let Some(next) = next else {
                return Ok(());
            };
            let next = below_api(&read.url, next)
                .filter(|next| page.as_ref() != Some(next))
                .ok_or_else(|| {
                    let problem = "it names a next page that is none of its own";
                    self.answered(
                        first().map_or_else(|_| String::new(), |r| r.action),
                        Some(read.status),
                        problem,
                    )
                })?;
            page = Some(next);
        }
        let problem = format!("the list has more than {MAX_PAGES} pages");
        Err(self.answered(first()?.action, None, problem))
    }
}

/// Returns the path and query of the next page's address if it is one of this
/// registry's API.
///
/// Of an address in full only these count: registries behind a proxy name
/// themselves by hosts and schemes that lead nowhere.
fn below_api(base: &Url, next: &str) -> Option<String> {
    let url = base.join(next).ok()?;
    if !url.path().starts_with("/v2/") {
        return None;
    }
    Some(match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    })
}

/// Returns the target of the link whose relation is `next`.
fn next_page(header: &str) -> Option<&str> {
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (target, after) = rest.strip_prefix('<')?.split_once('>')?;
        let (is_next, after) = parameters(after);
        if is_next {
            return Some(target);
        }
        rest = after;
    }
}

/// Reads the parameters of one link up to the comma that ends it; returns
/// whether they make it the next page, and what follows.
fn parameters(text: &str) -> (bool, &str) {
    let mut is_next = false;
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let Some(parameter) = rest.strip_prefix(';') else {
            // The end, a comma, or rubbish, which is skipped up to one.
            return (is_next, rest.find(',').map_or("", |at| &rest[at..]));
        };
        let end = parameter.find(['=', ';', ',']).unwrap_or(parameter.len());
        let name = parameter[..end].trim();
        rest = &parameter[end..];
        let Some(value) = rest.strip_prefix('=') else {
            continue;
        };
        let value = value.trim_start();
        let relations;
        (relations, rest) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => value.split_at(value.find([';', ',']).unwrap_or(value.len())),
        };
        let says_next = relations
            .split_ascii_whitespace()
            .any(|relation| relation.eq_ignore_ascii_case("next"));
        is_next |= name.eq_ignore_ascii_case("rel") && says_next;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_next_page_is_found_in_every_spelling() {
        for (header, expected) in [
            (
                r#"</v2/app/tags/list?n=2&last=b>; rel="next""#,
                Some("/v2/app/tags/list?n=2&last=b"),
            ),
            ("</v2/a>;rel=next", Some("/v2/a")),
            (r#"</v2/a>; REL = "prev NEXT""#, Some("/v2/a")),
            (
                r#"</v2/a>; title="a, b; rel=next"; rel=next"#,
                Some("/v2/a"),
            ),
            (r#"</v2/p>; rel="prev", </v2/n>; rel="next""#, Some("/v2/n")),
            (r#"</v2/a,b>; rel="next""#, Some("/v2/a,b")),
            (r#"</v2/a>; rel="prev""#, None),
            (r#"</v2/a>; title="rel=next""#, None),
            (r#"</v2/a>; rel="nextish""#, None),
            ("</v2/a>", None),
            ("/v2/a; rel=next", None),
            ("", None),
        ] {
            assert_eq!(next_page(header), expected, "{header}");
        }
    }

    #[test]
    fn a_page_stays_with_its_registry() {
        let base = Url::parse("https://example.org/v2/app/tags/list?n=2").unwrap();
        for (next, expected) in [
            ("/v2/app/tags/list?last=b", Some("/v2/app/tags/list?last=b")),
            ("list?last=b", Some("/v2/app/tags/list?last=b")),
            ("?last=b", Some("/v2/app/tags/list?last=b")),
            (
                "http://inside:5000/v2/app/tags/list?last=b",
                Some("/v2/app/tags/list?last=b"),
            ),
            ("https://other.example/login", None),
            ("../../../../metrics", None),
        ] {
            assert_eq!(below_api(&base, next).as_deref(), expected, "{next}");
        }
    }

    proptest! {
        #[test]
        fn any_header_is_borne(header in ".{0,80}", parts in "[<>;,=\" a-z]{0,60}") {
            let _ = next_page(&header);
            let _ = next_page(&parts);
        }

        #[test]
        fn a_link_survives_others_around_it(
            before in prop::collection::vec("</[a-z,;]{0,9}>; (rel=\"prev\"|title=\"[a-z,; ]{0,9}\"|type=x)", 0..4),
            target in "/v2/[a-z0-9/?&=%.-]{0,30}",
        ) {
            let mut links = before;
            links.push(format!("<{target}>; rel=\"next\""));
            let header = links.join(", ");
            prop_assert_eq!(next_page(&header), Some(target.as_str()));
        }
    }
}
