#![no_main]

use libfuzzer_sys::fuzz_target;
use nix2oci::credentials::{Credentials, Netrc};

fuzz_target!(|bytes: &[u8]| {
    match Netrc::parse(bytes, "netrc") {
        Ok(netrc) => {
            for host in ["docker.io", "h.io:5000", "[::1]:5000", "a"] {
                if let Some(found) = netrc.find(host) {
                    assert_ne!(found, Credentials::Anonymous, "a name that is found is sent");
                }
            }
        }
        Err(error) => {
            let message = error.to_string();
            assert!(message.starts_with("netrc, line "), "{message}");
        }
    }
});
