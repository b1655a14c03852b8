//! Whole pages; `tests/it/html.rs` opens them in a browser.

use super::*;

fn page(name: &str) -> Page {
    let path = |n: u32, size, state| Path {
        path: format!("/nix/store/{n:032}-{name}-1.{n}"),
        size,
        state,
    };
    let package = |name: &str, change, before: &[&str], after: &[&str]| Package {
        name: name.to_owned(),
        change,
        before: before.iter().copied().map(str::to_owned).collect(),
        after: after.iter().copied().map(str::to_owned).collect(),
        growth: None,
    };
    let glibc = Path {
        path: format!("/nix/store/{:032}-glibc-2.40", 1),
        size: Some(2000),
        state: None,
    };
    let layer = |label: &str, size, state, paths| Layer {
        label: label.to_owned(),
        size: Some(size),
        why: format!("needed by {name}"),
        state,
        paths,
    };
    Page {
        kind: Kind::Difference,
        heading: name.to_owned(),
        summary: format!("a node pulls 3.0 kB for {name}"),
        figures: vec![("3.0 kB".to_owned(), name.to_owned())],
        facts: vec![(name.to_owned(), name.to_owned())],
        measure: "bytes of the blob",
        layers: vec![
            layer("1", 2000, Some(State::Kept), vec![glibc]),
            layer(
                "2",
                3000,
                Some(State::New),
                vec![
                    path(2, Some(1000), None),
                    path(3, Some(2000), Some(State::Again)),
                ],
            ),
            layer("old 2", 900, Some(State::Gone), vec![path(4, None, None)]),
            layer("3", 10, Some(State::Exists), Vec::new()),
        ],
        packages: vec![
            Package {
                name: name.to_owned(),
                change: Change::Changed,
                before: vec!["1.0".to_owned()],
                after: vec!["1.1".to_owned(), name.to_owned()],
                growth: Some(-1_500_000),
            },
            package("new", Change::Added, &[], &["1"]),
            package("old", Change::Removed, &["1"], &[]),
            package("same", Change::Rebuilt, &["1"], &["1"]),
        ],
    }
}

/// Returns the tags with their attributes' names and, of attributes, the values
/// that no name is in; panics if an element is not closed.
fn tags(html: &str) -> Vec<String> {
    const VOID: [&str; 4] = ["meta", "link", "input", "!DOCTYPE"];
    let mut open: Vec<&str> = Vec::new();
    let mut tags = Vec::new();
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        rest = &rest[start + 1..];
        let end = rest.find('>').expect("a tag ends");
        let tag = &rest[..end];
        rest = &rest[end + 1..];
        tags.push(tag.to_owned());
        let element = tag.split(' ').next().expect("a tag has a name");
        if let Some(closed) = element.strip_prefix('/') {
            assert_eq!(open.pop(), Some(closed), "in {tags:?}");
        } else if !VOID.contains(&element) {
            open.push(element);
            if let Some(raw) = ["style", "script"].iter().find(|raw| **raw == element) {
                let end = rest.find(&format!("</{raw}>")).expect("it is closed");
                rest = &rest[end..];
            }
        }
    }
    assert!(open.is_empty(), "{open:?}");
    tags
}

#[test]
fn no_name_becomes_a_part_of_the_page() {
    let plain = page("app").to_html();
    for hostile in [
        "</script><script>alert(1)</script>",
        "</style><img src=x onerror=alert(1)>",
        "\"onmouseover=\"alert(1)",
        "'onmouseover='alert(1)",
        "<!--",
        "]]>&lt;b&gt;&#60;b>",
        "{{ 7 * 7 }}{% raw %}",
        "\u{2028}\u{2029}\u{0}\r\n",
        "\u{202e}gpj.exe\u{2066}",
    ] {
        let html = page(hostile).to_html();
        // Names change how many letters a label has room for, and no other tag.
        let without_room = |html: &str| -> Vec<String> {
            let tags = tags(html).into_iter();
            tags.map(|tag| tag.split(" room").next().unwrap_or_default().to_owned())
                .collect()
        };
        assert_eq!(without_room(&html), without_room(&plain), "{hostile:?}");
        let unseen = |c: char| c.is_control() && c != '\n';
        assert!(!html.contains(unseen), "{hostile:?}");
        assert!(!html.contains(['\u{2028}', '\u{202e}', '\u{2066}']));
    }
}

#[test]
fn a_page_loads_nothing() {
    let html = page("app").to_html();
    for tag in tags(&html) {
        for attribute in [" src=", " style=", " on", " srcset=", " action="] {
            assert!(!tag.contains(attribute), "{tag}");
        }
        if let Some((_, link)) = tag.split_once(" href=\"") {
            assert!(
                link.starts_with("#l") || link.starts_with("data:,"),
                "{tag}"
            );
        }
    }
    for text in [view::STYLE, view::SCRIPT] {
        for loads in [
            "url(",
            "@import",
            "http:",
            "https:",
            "fetch(",
            "innerHTML",
            "eval(",
            "</",
        ] {
            assert!(!text.contains(loads), "{loads}");
        }
    }
}

#[test]
fn a_difference_tells_what_changed() {
    let html = page("app").to_html();
    for text in [
        "<td class=\"changed\">changed</td><td>1.0</td><td>1.1, app</td><td class=\"number\" data-n=\"-1500000\">\u{2212}1.5 MB</td>",
        "<td class=\"added\">added</td><td></td><td>1</td>",
        "<td class=\"removed\">removed</td><td>1</td><td></td>",
        "<td class=\"rebuilt\">rebuilt</td><td>1</td><td>1</td>",
        "<b>new</b> not there yet <span>1 layer, 3.0 kB</span>",
        "<b>again</b> unchanged, but in a new layer <span>1 store path, 2.0 kB</span>",
        "<i class=\"swatch is-gone\"></i>gone</td>",
        "class=\"cell is-again room3\"",
        "<a href=\"#l2\">old 2</a>",
    ] {
        assert!(html.contains(text), "{text}");
    }
}

#[test]
fn a_page_is_a_function_of_what_it_shows() {
    assert_eq!(page("app").to_html(), page("app").to_html());
    let empty = Page {
        layers: Vec::new(),
        packages: Vec::new(),
        ..page("app")
    };
    assert!(tags(&empty.to_html()).len() > 20);
}

#[test]
fn colours_have_the_names_of_states() {
    for state in State::ALL {
        let rule = format!(".is-{} {{", state.name());
        assert!(view::STYLE.contains(&rule), "{rule}");
    }
}
