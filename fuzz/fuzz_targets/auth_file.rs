#![no_main]

use libfuzzer_sys::fuzz_target;
use nix2oci::credentials::{AuthFile, AuthFileForm, Credentials, Finding};

/// Hosts and repositories to ask for.
const ASKED: &[(&str, &str)] = &[
    ("docker.io", "library/app"),
    ("h.io", "team/app"),
    ("localhost:5000", ""),
];

fuzz_target!(|bytes: &[u8]| {
    for form in [AuthFileForm::Current, AuthFileForm::Legacy] {
        let file = match AuthFile::parse(bytes, "auth.json", form) {
            Ok(file) => file,
            Err(error) => {
                let message = error.to_string();
                assert!(message.starts_with("auth.json"), "{message}");
                continue;
            }
        };
        for (host, repository) in ASKED {
            match file.find(host, repository) {
                Ok(Some(Finding::Known(Credentials::Anonymous))) => {
                    panic!("an entry that says nothing is none")
                }
                Ok(Some(Finding::Ask { helper, .. })) => assert!(!helper.is_empty()),
                Ok(_) => {}
                Err(error) => {
                    let message = error.to_string();
                    assert!(message.starts_with("auth.json, key "), "{message}");
                }
            }
        }
    }
});
