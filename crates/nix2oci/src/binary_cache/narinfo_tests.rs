//! Narinfos of Nix 2.8.0, and others.

use crate::store::StoreDir;

use super::super::keys::PublicKeys;
use super::*;

/// `nix copy --to file://…` of Nix 2.8.0, signed by `nix store sign`.
const PLAIN: &str = "\
StorePath: /nix/store/71kyls5bs4myp09691zfpr4lsyx5vm1b-plain
URL: nar/0f5ic4bwqfrqzdvbpddyw5z6x5rav32di5w619i4p3l5znhnriig.nar.xz
Compression: xz
FileHash: sha256:0f5ic4bwqfrqzdvbpddyw5z6x5rav32di5w619i4p3l5znhnriig
FileSize: 172
NarHash: sha256:0bwrk7a6zp607s0j34ki0v3bhk07qdpls18cbmg023g6c7yz146y
NarSize: 168
References: 1qqz4gdfn09vxajyvzqfhw3fsf14chrg-self
Deriver: zv6f2z72v76sa7sp11xdhlilf6db4y12-plain.drv
Sig: other.example-1:eNmQNjPXxhFq063IjQ6y1337iuBMRCSHYr4XRghdmDREX0ro1PWlPGdwlWSn1fLIK07FAnSEOh5L8C5Hu3xUDQ==
Sig: test.example-1:yI8U1GaHZZq2OUw6Sa53SUrmrOckHmxYVhtB9N7wGK1CM3AmYg9C6qBVzk9jaGZdJLBYFH1dhRbHnrrK1wPLDA==
";

/// The same; it refers to itself and to another one.
const SELF: &str = "\
StorePath: /nix/store/xxvzbxpd7rcv76zhq6acszickwh25wsc-self
URL: nar/1qql5qz83awj7jzpj53rpggycj6ppnsrrqarmrjgfjfnkicdglfh.nar.xz
Compression: xz
FileHash: sha256:1qql5qz83awj7jzpj53rpggycj6ppnsrrqarmrjgfjfnkicdglfh
FileSize: 212
NarHash: sha256:18abi7mc0yzpla74g2f1p7jvlb6pai5xk56wpa2pgg5rb5kc46b4
NarSize: 216
References: xb8ii0lxb25janp5c690dyh06mwjncy3-text.conf xxvzbxpd7rcv76zhq6acszickwh25wsc-self
Sig: test.example-1:WHuTCWz1Jjc5QxoX5NUeuhvXWRHXcfTUDSiMCvyUGqOo/Du8azPZfs9x93YlkLxE0oziii3yoY4eJdPsk2IQAQ==
CA: fixed:r:sha256:02003h4hnc1ngq23phqm4pxx0xcxrrc535l9rwkyj9wi1zqhykan
";

const TEST_KEY: &str = "test.example-1:7RZb+aZBffpdbHe3cFTkXB9MQYb1Sa5k3bzShZyfTOw=";
const OTHER_KEY: &str = "other.example-1:pa09uD9If++6uefofkqJ30v3GCsO63r8QwlzIYbyPfc=";

fn parse(text: &str) -> Result<NarInfo, String> {
    NarInfo::parse(text.as_bytes(), &StoreDir::default()).map_err(|error| error.to_string())
}

/// Returns `PLAIN` with another value of a field.
fn with(key: &str, value: &str) -> String {
    let change = |line: &str| match line.split_once(": ") {
        Some((other, _)) if other == key => format!("{key}: {value}\n"),
        _ => format!("{line}\n"),
    };
    PLAIN.lines().map(change).collect()
}

fn without(key: &str) -> String {
    let lines = PLAIN.lines().filter(|line| !line.starts_with(key));
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn a_narinfo_of_nix_is_read() {
    let info = parse(PLAIN).unwrap();
    assert_eq!(info.path.as_str(), "71kyls5bs4myp09691zfpr4lsyx5vm1b-plain");
    assert_eq!(info.references.len(), 1);
    assert!(!info.refers_to_itself);
    assert_eq!((info.nar_size, info.file_size), (168, Some(172)));
    assert_eq!(info.download_size(), 172);
    assert_eq!(
        info.deriver.as_ref().unwrap().as_str(),
        "zv6f2z72v76sa7sp11xdhlilf6db4y12-plain.drv"
    );
    assert_eq!(info.signatures.len(), 2);
    assert_eq!(info.content_address, None);
    let path_info = info.path_info();
    assert_eq!(path_info.nar_hash, Some(info.nar_hash));
    assert_eq!(path_info.nar_size, Some(168));
}

#[test]
fn signatures_of_nix_are_right() {
    for (text, keys) in [(PLAIN, &[TEST_KEY, OTHER_KEY][..]), (SELF, &[TEST_KEY])] {
        let info = parse(text).unwrap();
        for key in keys {
            let keys: PublicKeys = key.parse().unwrap();
            let fingerprint = info.fingerprint(&StoreDir::default());
            assert!(
                keys.verify(fingerprint.as_bytes(), &info.signatures),
                "{key}"
            );
            let elsewhere = info.fingerprint(&"/other/store".parse().unwrap());
            assert!(!keys.verify(elsewhere.as_bytes(), &info.signatures));
        }
    }
}

#[test]
fn each_field_that_matters_is_signed() {
    let keys: PublicKeys = format!("{TEST_KEY} {OTHER_KEY}").parse().unwrap();
    let store_dir = StoreDir::default();
    let verifies = |text: &str| {
        let info = parse(text).unwrap();
        let fingerprint = info.fingerprint(&store_dir);
        keys.verify(fingerprint.as_bytes(), &info.signatures)
    };
    let zero = "sha256:0000000000000000000000000000000000000000000000000000";
    for (key, value) in [
        (
            "StorePath",
            "/nix/store/71kyls5bs4myp09691zfpr4lsyx5vm1b-plane",
        ),
        (
            "StorePath",
            "/nix/store/81kyls5bs4myp09691zfpr4lsyx5vm1b-plain",
        ),
        ("NarHash", zero),
        ("NarSize", "169"),
        ("References", ""),
        ("References", "1qqz4gdfn09vxajyvzqfhw3fsf14chrg-selfie"),
        (
            "References",
            "1qqz4gdfn09vxajyvzqfhw3fsf14chrg-self 71kyls5bs4myp09691zfpr4lsyx5vm1b-plain",
        ),
    ] {
        assert!(!verifies(&with(key, value)), "{key}: {value}");
    }
    for (key, value) in [
        ("URL", "nar/elsewhere.nar"),
        ("FileHash", zero),
        ("FileSize", "1"),
        ("Deriver", "unknown-deriver"),
        (
            "NarHash",
            "sha256-3pDw/WHmDQFeXQwFTW/DB0y4xgZxkiGBPsDcb9SZmS8=",
        ),
    ] {
        assert!(verifies(&with(key, value)), "{key}: {value}");
    }
}

#[test]
fn what_nix_leaves_out_may_be_missing() {
    let info = parse(&without("Compression")).unwrap();
    assert_eq!(info.compression, NarCompression::Bzip2);
    let info = parse(&with("Compression", "")).unwrap();
    assert_eq!(info.compression, NarCompression::Bzip2);
    let info = parse(&without("File")).unwrap();
    assert_eq!((info.file_hash.as_ref(), info.file_size), (None, None));
    assert_eq!(info.download_size(), 168);
    assert_eq!(parse(&with("FileSize", "0")).unwrap().file_size, None);
    assert!(parse(&without("References")).unwrap().references.is_empty());
    assert!(
        parse(&with("References", " "))
            .unwrap()
            .references
            .is_empty()
    );
    for text in [with("Deriver", "unknown-deriver"), without("Deriver")] {
        assert_eq!(parse(&text).unwrap().deriver, None);
    }
    let strange = format!("{PLAIN}Provenance: {{\"a\": 1}}\nSystem: x\nSig: nonsense\nCA: new:1\n");
    assert_eq!(parse(&strange), parse(PLAIN));
}

#[test]
fn what_is_missing_or_wrong_is_told() {
    let twice = format!("{PLAIN}NarSize: 168\n");
    for (text, told) in [
        (String::new(), "StorePath is missing"),
        (without("URL"), "URL is missing"),
        (without("NarHash"), "NarHash is missing"),
        (without("NarSize"), "NarSize is missing"),
        (with("NarSize", "0"), "NarSize is 0"),
        (
            with("NarSize", "-1"),
            "line 7: NarSize is \"-1\", expected bytes",
        ),
        (with("NarSize", "+1"), "expected bytes"),
        (with("NarSize", "99999999999999999999"), "expected bytes"),
        (with("Compression", "lzma"), "line 3: Compression: "),
        (with("NarHash", "sha512:00"), "line 6: NarHash: "),
        (with("FileHash", "x"), "line 4: FileHash: "),
        (
            with(
                "StorePath",
                "/gnu/store/71kyls5bs4myp09691zfpr4lsyx5vm1b-plain",
            ),
            "not in the store",
        ),
        (with("References", "../x"), "line 8: References: "),
        (with("Deriver", "x"), "line 9: Deriver: "),
        (twice, "line 12: NarSize is there twice"),
        (
            "<html>\n".to_owned(),
            "line 1: expected \"KEY: VALUE\", found \"<html>\"",
        ),
        (PLAIN.trim_end().to_owned(), "something is cut off"),
    ] {
        let error = parse(&text).unwrap_err();
        assert!(error.contains(told), "{error}");
    }
    let mut bytes = PLAIN.as_bytes().to_vec();
    bytes[70] = 0xff;
    let error = NarInfo::parse(&bytes, &StoreDir::default()).unwrap_err();
    assert_eq!(error.to_string(), "line 2: expected text in UTF-8");
}

/// Whatever is cut off, it is an error.
#[test]
fn a_part_is_no_narinfo_or_lacks_signatures_only() {
    let whole = parse(PLAIN).unwrap();
    for end in 0..PLAIN.len() {
        if let Ok(info) = parse(&PLAIN[..end]) {
            assert!(info.signatures.len() < 2, "{end}");
            assert_eq!(info.nar_hash, whole.nar_hash);
        }
    }
}

#[test]
fn a_url_stays_in_the_cache() {
    for url in [
        "nar/x.nar.xz",
        "x",
        "nar/x.nar?hash=abc&a=b:c/../d",
        "a/b/c",
        "a..b/...c",
    ] {
        assert_eq!(parse(&with("URL", url)).unwrap().url, url);
    }
    let url = "https://other.example.org/nar/x";
    assert!(parse(&with("URL", url)).unwrap().url_is_absolute());
    let long = "x".repeat(MAX_URL_LEN + 1);
    for url in [
        "",
        "/nar/x",
        "nar//x",
        "../x",
        "nar/../../x",
        "nar/..",
        "nar/%2e%2E/x",
        "nar/.%2e/x",
        "nar/a%2f..%2fb",
        "nar/..\\x",
        "./x",
        "nar/",
        "ftp://example.org/x",
        "HTTPS://example.org/x",
        "https://example.org/x y",
        "file:///etc/passwd",
        "nar/x y",
        "nar/x#y",
        "nar/\u{1}",
        "nar/ä",
        &long,
    ] {
        let error = parse(&with("URL", url)).unwrap_err();
        assert!(error.starts_with("line 2: URL is "), "{error}");
        assert!(error.len() < 300, "{error}");
    }
}

#[test]
fn many_signatures_are_cut() {
    let signature = PLAIN.lines().last().unwrap();
    let text = format!("{PLAIN}{}", format!("{signature}\n").repeat(1000));
    assert_eq!(parse(&text).unwrap().signatures.len(), MAX_SIGNATURES);
}

proptest::proptest! {
    /// Whatever is changed: what is read holds together, and nothing that a
    /// signature is of can change under it.
    #[test]
    fn a_changed_narinfo_is_an_error_or_one_that_holds(
        changes in proptest::collection::vec((0..PLAIN.len(), 0u8..128), 1..4),
        end in 0..2 * PLAIN.len(),
    ) {
        let mut bytes = PLAIN.as_bytes().to_vec();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        bytes.truncate(end.max(1));
        let store_dir = StoreDir::default();
        if let Ok(info) = NarInfo::parse(&bytes, &store_dir) {
            assert!(bytes.ends_with(b"\n") && info.nar_size > 0);
            assert!(check_url(&info.url).is_ok());
            assert!(info.references.is_sorted() && !info.references.contains(&info.path));
            let keys: PublicKeys = format!("{TEST_KEY} {OTHER_KEY}").parse().unwrap();
            let fingerprint = info.fingerprint(&store_dir);
            if keys.verify(fingerprint.as_bytes(), &info.signatures) {
                assert_eq!(fingerprint, parse(PLAIN).unwrap().fingerprint(&store_dir));
            }
        }
    }
}
