#![no_main]

use libfuzzer_sys::fuzz_target;
use nix2oci::build::Recipe;

fuzz_target!(|bytes: &[u8]| {
    match Recipe::parse(bytes, "document") {
        Ok(recipe) => {
            let json = recipe.to_json();
            let again = Recipe::parse(&json, "again").expect("what was written is read");
            assert_eq!(again.to_json(), json);
        }
        Err(error) => {
            let message = error.to_string();
            assert!(message.starts_with("document"), "{message}");
        }
    }
});
