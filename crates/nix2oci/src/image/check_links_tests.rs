//! What a container would find where links lead.

use std::sync::Arc;

use super::*;
use crate::layer::EntryVisitor as _;
use crate::layer::tar_read::{Member, MemberKind};

const A: &str = "nix/store/00000000000000000000000000000000-a";
const B: &str = "nix/store/00000000000000000000000000000001-b";

/// An entry: a path, and what it holds if it is a link.
type Entry<'a> = (&'a str, Option<&'a str>);

fn census(entries: &[Entry<'_>]) -> Census {
    let mut census = Census::new(&StoreDir::default(), &Arc::default());
    for (path, link) in entries {
        let member = Member {
            owner: (0, 0),
            path: path.as_bytes().to_vec(),
            link: link.unwrap_or_default().as_bytes().to_vec(),
            kind: match link {
                Some(_) => MemberKind::Symlink,
                None => MemberKind::File,
            },
            size: 0,
            mode: 0o444,
            is_executable: false,
            offset: 0,
        };
        census.entry(&member, path.as_bytes());
    }
    census.finish()
}

/// Returns for each finding its layer and its words.
fn found(layers: &[&[Entry<'_>]]) -> Vec<String> {
    let layers: Vec<Census> = layers.iter().map(|entries| census(entries)).collect();
    let layers: Vec<&Census> = layers.iter().collect();
    let (cx, effort) = (Context::default(), Effort::default());
    let found = check_links(&cx, &StoreDir::default(), &layers, &effort).unwrap();
    assert!(!effort.is_spent());
    found
        .iter()
        .map(|(at, kind)| format!("{at} {kind}"))
        .collect()
}

#[test]
fn a_link_into_a_store_path_that_is_not_there_is_found() {
    let to_b = format!("/{B}/bin/b");
    let file = (&*format!("{A}/bin/a"), None);
    let link = (&*format!("{A}/bin/b"), Some(&*to_b));
    let more = ("bin/b", Some(&*to_b));
    assert_eq!(
        found(&[&[file, link, more], &[more]]),
        [
            format!("0 /{A}/bin/b leads into /{B}, which is not in the image"),
            format!("1 /bin/b leads into /{B}, which is not in the image"),
        ]
    );
    let others = [file, link, ("x", Some(&*to_b)), ("y", Some(&*to_b))];
    assert_eq!(
        found(&[&others]),
        [format!(
            "0 /{A}/bin/b leads into /{B}, which is not in the image, and 2 more links of the layer"
        )]
    );
    assert_eq!(found(&[&others, &[(&to_b[1..], None)]]), [""; 0]);
    assert_eq!(
        found(&[&[more]]),
        [""; 0],
        "a store that is mounted is meant"
    );
}

#[test]
fn a_link_to_a_file_that_is_not_there_is_found() {
    let file = (&*format!("{B}/share/b/file"), None);
    for (target, is_there) in [
        ("share/b/file", true),
        ("share/b", true),
        ("share/c", false),
        ("", true),
    ] {
        let target = format!("/{B}/{target}");
        let found = found(&[&[file], &[("etc/x", Some(&target))]]);
        let expected = format!("1 /etc/x leads to {target}, which is not there");
        assert_eq!(found.first(), (!is_there).then_some(&expected), "{target}");
    }
    // Relative, and over a link within the other store path.
    let relative = "../../00000000000000000000000000000001-b/lib/file";
    let link = (&*format!("{A}/bin/x"), Some(relative));
    let through = (&*format!("{B}/lib"), Some("share/b"));
    assert_eq!(found(&[&[file, through, link]]), [""; 0]);
    assert_eq!(found(&[&[file, link]]).len(), 1);
    // A store path's own links, links that leave the store, and loops.
    for (link, target) in [
        (format!("{A}/lib/own"), "nothing".to_owned()),
        (format!("{A}/etc"), "/etc".to_owned()),
        ("up".to_owned(), "../../../x".to_owned()),
    ] {
        assert_eq!(found(&[&[file, (&link, Some(&target))]]), [""; 0], "{link}");
    }
    let (one, two) = (format!("{B}/one"), format!("{B}/two"));
    let into_loop = format!("/{B}/one/x");
    let looped = [
        (&*one, Some("two")),
        (&*two, Some("one")),
        ("x", Some(&*into_loop)),
    ];
    assert_eq!(found(&[&looped]).len(), 1);
}

#[test]
fn what_a_layer_above_deletes_or_gives_counts() {
    let file = (&*format!("{B}/bin/b"), None);
    let to_b = format!("/{B}/bin/b");
    let link = ("bin/b", Some(&*to_b));
    let kept = (&*format!("{A}/x"), None);
    let below: &[Entry<'_>] = &[file, link, kept];
    assert_eq!(found(&[below]), [""; 0]);
    for (marks, count) in [
        (&[(&*format!("{B}/bin/.wh.b"), None)][..], 1),
        (&[(&*format!("{B}/.wh.bin"), None)], 1),
        (&[(&*format!("{B}/bin/.wh..wh..opq"), None)], 1),
        // The link is gone as well, or something else is there.
        (&[(&*format!("{B}/.wh.bin"), None), ("bin/.wh.b", None)], 0),
        (&[(&*format!("{B}/.wh.bin"), None), ("bin/b", None)], 0),
        (&[(".wh..wh..opq", None)], 0),
        // It comes back.
        (&[(&*format!("{B}/bin/.wh.b"), None), file], 0),
    ] {
        assert_eq!(found(&[below, marks]).len(), count, "{marks:?}");
    }
    // A layer above gives it again.
    let deleted: &[Entry<'_>] = &[(&format!("{B}/.wh.bin"), None)];
    assert_eq!(found(&[below, deleted, &[file]]), [""; 0]);
}

#[test]
fn links_that_no_linux_can_make_are_not_followed() {
    let deep = format!("/{A}{}", "/x".repeat(500_000));
    let layer = census(&[(A, None), ("bin", Some(&deep)), ("lib", Some("x"))]);
    let links: Vec<&[u8]> = layer.links.keys().map(Vec::as_slice).collect();
    assert_eq!(links, [b"lib"]);
}

#[test]
fn links_are_followed_until_no_step_is_left() {
    // Each leads over forty others, and the last to a path that is not there.
    let mut entries: Vec<(String, Option<String>)> = vec![(A.to_owned(), None)];
    let deep = "x/".repeat(1900);
    for at in 0..40 {
        let target = format!("{}/{deep}x", at + 1);
        entries.push((format!("{B}/{at}"), Some(target)));
    }
    for at in 0..20 {
        entries.push((format!("etc/{at}"), Some(format!("/{B}/0/y"))));
        entries.push((format!("bin/{at}"), Some(format!("/{B}/40/{deep}"))));
    }
    let entries = entries
        .iter()
        .map(|(p, link)| (p.as_str(), link.as_deref()));
    let layer = census(&Vec::from_iter(entries));
    let follow = |steps| {
        let (cx, effort) = (Context::default(), Effort(Cell::new(steps)));
        let found = check_links(&cx, &StoreDir::default(), &[&layer], &effort).unwrap();
        (found.len(), effort.is_spent())
    };
    // A name of the store is judged first, so nothing is told by mistake.
    assert_eq!(follow(1), (0, true));
    assert_eq!(follow(1000), (0, true));
    assert_eq!(follow(MAX_STEPS), (1, false));
}
