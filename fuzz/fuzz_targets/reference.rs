#![no_main]

use libfuzzer_sys::fuzz_target;
use nix2oci::oci::{is_tag, parse_name, parse_names};

fuzz_target!(|text: &str| {
    let Ok(name) = parse_name(text) else {
        return;
    };
    let whole = name.whole();
    let again = parse_name(&whole).expect("a whole name is a name");
    assert_eq!(again.whole(), whole);
    if let Some(tag) = name.tag() {
        assert!(is_tag(tag), "{tag}");
    }
    let names = parse_names(text, &["other"]).expect("a name and a tag");
    assert!(names.iter().any(|name| name.tag() == Some("other")));
});
