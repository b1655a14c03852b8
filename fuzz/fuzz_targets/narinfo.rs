//! A narinfo, and what else is said of binary caches.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nix2oci::StoreDir;
use nix2oci::binary_cache::{CacheUrl, ContentAddress, NarInfo, PublicKeys};

fuzz_target!(|bytes: &[u8]| {
    let store_dir = StoreDir::default();
    match NarInfo::parse(bytes, &store_dir) {
        Ok(info) => {
            assert!(bytes.ends_with(b"\n"), "a narinfo that is cut is none");
            assert!(info.nar_size > 0);
            assert!(info.references.is_sorted() && !info.references.contains(&info.path));
            let is_elsewhere = ["http://", "https://"].iter().any(|at| info.url.starts_with(at));
            let path = info.url.split('?').next().unwrap_or_default();
            assert!(is_elsewhere || !path.starts_with('/'));
            assert!(is_elsewhere || path.split('/').all(|name| !matches!(name, "" | "." | "..")));
            let fingerprint = info.fingerprint(&store_dir);
            assert!(fingerprint.starts_with(&format!("1;{};", store_dir.join(&info.path))));
            assert_eq!(info.path_info().nar_hash, Some(info.nar_hash));
            if let Some(address) = &info.content_address {
                let shown: ContentAddress = address.to_string().parse().expect("what is shown");
                assert_eq!(shown, *address);
                let name = info.path.name();
                let itself = info.refers_to_itself;
                let path = address.store_path(&store_dir, name, &info.references, itself);
                assert!(path.is_none_or(|path| path.name() == name));
            }
        }
        Err(error) => assert!(error.to_string().len() < 1000, "{error}"),
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(keys) = text.parse::<PublicKeys>() {
        let shown: Vec<_> = keys.iter().map(ToString::to_string).collect();
        assert_eq!(shown.join(" ").parse(), Ok(keys));
    }
    if let Ok(url) = text.parse::<CacheUrl>() {
        let shown = url.to_string();
        // In a path an @ says nothing of who asks.
        let authority = shown.split('/').nth(2).unwrap_or_default();
        assert!(url.host().is_none() || !authority.contains('@'), "{shown}");
        assert!(url.host().is_none() || !shown.contains('?'), "{shown}");
        assert!(url.host().is_some() || url.folder().is_some_and(|folder| folder.is_absolute()));
    }
});
