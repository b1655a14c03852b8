//! Tests of the table's text.

use data_encoding::{BASE64, HEXLOWER};
use proptest::prelude::*;

use crate::digest::Digest;
use crate::oci::{MediaType, descriptor};

use super::*;

fn layers(count: u8) -> Vec<Descriptor> {
    let layer = |n| descriptor(MediaType::ImageLayerGzip, Digest::from([n; 32]), 100);
    (0..count).map(layer).collect()
}

fn path(hash: &str, name: &str, nar_size: Option<u64>) -> TablePath {
    TablePath {
        path: StorePathPrefix::new(hash, name).unwrap(),
        nar_size,
    }
}

/// Two layers of store paths and one without.
fn table() -> ImageTable {
    let zeros = "0".repeat(32);
    let layer = |key: Option<u8>, uncompressed_size, paths| TableLayer {
        key: key.map(|n| [n; 20].into()),
        uncompressed_size,
        paths,
    };
    ImageTable {
        base_layers: 0,
        layers: vec![
            layer(
                Some(0xab),
                512 * 200,
                vec![
                    path(
                        "0123456789abcdfghijklmnpqrsvwxyz",
                        "glibc-2.40-66",
                        Some(1000),
                    ),
                    path(&zeros, "glibc-2.40-66-bin", None),
                ],
            ),
            layer(None, 513, vec![path(&zeros, "app", Some(u64::MAX))]),
            layer(Some(0xcd), 1024, Vec::new()),
        ],
    }
}

/// The table with so many digits of each hash.
fn cut_to(cut: Cut) -> ImageTable {
    let mut table = table();
    for path in table.layers.iter_mut().flat_map(|layer| &mut layer.paths) {
        let hash = &path.path.hash_prefix()[..cut.digits()];
        path.path = StorePathPrefix::new(hash, path.path.name()).unwrap();
    }
    table
}

fn bytes(table: &ImageTable, cut: Cut) -> Vec<u8> {
    let text = encode(table, cut, &layers(3)).unwrap();
    BASE64_NOPAD.decode(text.as_bytes()).unwrap()
}

fn read(bytes: &[u8]) -> Option<ImageTable> {
    decode(&BASE64_NOPAD.encode(bytes), &layers(3))
}

/// The exact bytes, part by part: a change here is a change of every image's
/// digest, and old readers need a new version.
#[test]
fn the_bytes_are_golden() {
    let hex = HEXLOWER.encode(&bytes(&table(), Cut::WHOLE));
    let digits = "00443214c74254b635cf84653a56d7c675be77df";
    let zeros = "00".repeat(20);
    let parts = [
        "01",
        "adef564d8f6fb88b9f02da5d11e17ba8",
        "03",
        &format!("05{}c801", "ab".repeat(20)),
        "028180808080808040",
        &format!("01{}02", "cd".repeat(20)),
        "7d00ffffffffffffffffff01",
        &format!("20{digits}{zeros}{zeros}"),
        "4bcfc94c4ad635d23331d03533e34a47e6e92665e671251614700100",
    ];
    assert_eq!(hex, parts.concat());
    let text = encode(&table(), Cut::SHORT, &layers(3)).unwrap();
    let expected = concat!(
        "Aa3vVk2Pb7iLnwLaXRHhe6gDBaurq6urq6urq6urq6urq6urq6uryAECgYCAgICAgEABzc3Nzc3N",
        "zc3Nzc3Nzc3Nzc3Nzc0CfQD///////////8BCABEMhTHAAAAAAAAAAAAAEvPyUxK1jXSMzHQNTPj",
        "Skfm6SZl5nElFhRwAQA",
    );
    assert_eq!(text, expected);
}

/// What deflate makes of it does not show in three names.
#[test]
fn the_bytes_of_many_names_are_golden() {
    let names: Vec<String> = (0..5000_u32)
        .map(|n| {
            let version = Digest::of(&n.to_le_bytes()).hex();
            format!("lib{}-{}.{n}-dev", &version[..6], n % 17)
        })
        .collect();
    let names = names.join("\n") + "\n";
    assert!(names.len() > 3 << 15, "more than one window");
    let deflated = deflate(names.as_bytes());
    assert_eq!(deflated.len(), 39_806);
    assert_eq!(
        Digest::of(&deflated).hex(),
        "690fa9d6cd5f661ae3ee4c59a3b83ee3cd0ea5f6dece1fa5af6720ef5fc7cea0"
    );
    assert_eq!(inflate(&deflated, names.len()), Some(names.clone()));
    assert_eq!(inflate(&deflated, names.len() - 1), None);
}

#[test]
fn what_was_written_is_read_for_each_number_of_digits() {
    for cut in [Cut::SHORT, Cut(16), Cut(24), Cut::WHOLE] {
        assert_eq!(read(&bytes(&table(), cut)), Some(cut_to(cut)), "{cut:?}");
    }
    let none = ImageTable::default();
    let text = encode(&none, Cut::WHOLE, &[]).unwrap();
    assert_eq!(decode(&text, &[]), Some(none));
}

#[test]
fn the_plan_of_the_next_image_learns_which_paths_are_together() {
    let table = cut_to(Cut::SHORT);
    let layers = table.earlier_image().layers;
    let shown = layers
        .iter()
        .map(|paths| paths.iter().map(ToString::to_string).collect());
    let shown: Vec<Vec<String>> = shown.collect();
    let bottom = ["01234567…-glibc-2.40-66", "00000000…-glibc-2.40-66-bin"];
    assert_eq!(shown, [&bottom[..], &["00000000…-app"], &[]]);
    let largest = |layer: usize| Some(table.layers[layer].largest()?.path.name());
    assert_eq!(
        [0, 1, 2].map(largest),
        [Some("glibc-2.40-66"), Some("app"), None]
    );
}

#[test]
fn hashes_are_cut_where_there_are_many_and_they_differ() {
    let told = |count: usize, hash: &str| {
        let paths = (0..count).map(|n| path(hash, &n.to_string(), None));
        let mut table = table();
        table.layers[0].paths = paths.collect();
        table.layers[1].paths.clear();
        let text = table.to_annotation(&layers(3)).unwrap();
        let read = decode(&text, &layers(3)).unwrap();
        read.layers[0].paths[0].path.hash_prefix().len()
    };
    let hash = "1".repeat(32);
    assert_eq!([512, 513].map(|count| told(count, &hash)), [32, 8]);
    // Two of one name that begin alike.
    let mut table = table();
    let mut paths: Vec<_> = (0..600)
        .map(|n| path(&hash, &n.to_string(), None))
        .collect();
    paths.push(path(&format!("11111111{}", "0".repeat(24)), "7", None));
    table.layers[1].paths = paths;
    let text = table.to_annotation(&layers(3)).unwrap();
    assert_eq!(decode(&text, &layers(3)), Some(table));
}

#[test]
fn only_its_own_layers_text_is_read() {
    let text = encode(&table(), Cut::WHOLE, &layers(3)).unwrap();
    assert_eq!(decode(&text, &layers(3)), Some(table()));
    assert_eq!(decode(&text, &layers(2)), None);
    assert_eq!(decode(&text, &layers(4)), None);
    let mut others = layers(3);
    others.swap(0, 1);
    assert_eq!(decode(&text, &others), None);
    let padded = BASE64.encode(&bytes(&table(), Cut::WHOLE));
    assert_ne!(padded, text, "there is something to pad");
    for wrong in [
        padded,
        String::new(),
        format!("{text}\n"),
        format!(" {text}"),
        format!("{text}A"),
        text.replace('A', "-"),
        text.replacen('A', "é", 1),
        "A".repeat(MAX_TEXT + 4),
    ] {
        assert_eq!(decode(&wrong, &layers(3)), None, "{wrong:.80}");
    }
}

#[test]
fn what_is_cut_or_goes_on_is_no_table() {
    for cut in [Cut::SHORT, Cut::WHOLE] {
        let bytes = bytes(&table(), cut);
        for end in 0..bytes.len() {
            assert_eq!(read(&bytes[..end]), None, "{end}");
        }
        assert_eq!(read(&[&bytes[..], &[0]].concat()), None);
    }
    let none = encode(&ImageTable::default(), Cut::WHOLE, &[]).unwrap();
    let mut none = BASE64_NOPAD.decode(none.as_bytes()).unwrap();
    none.push(0);
    assert_eq!(decode(&BASE64_NOPAD.encode(&none), &[]), None);
}

/// Puts a table together by hand.
fn by_hand(layer_parts: &[u8], sizes: &[u8], digits: u8, hashes: &[u8], names: &[u8]) -> Vec<u8> {
    [
        &[VERSION][..],
        &checksum(&layers(3)),
        &[3],
        layer_parts,
        sizes,
        &[digits],
        hashes,
        names,
    ]
    .concat()
}

/// Two store paths in the first of three layers.
const TWO_PATHS: [u8; 6] = [4, 1, 0, 1, 0, 1];

#[test]
fn hostile_tables_are_none() {
    let hashes = [7; 10];
    let good = deflate(b"a\nb\n");
    let table = read(&by_hand(&TWO_PATHS, &[1, 2], 8, &hashes, &good)).unwrap();
    assert_eq!(table.layers[0].paths.len(), 2);

    let names = |names: &[u8]| by_hand(&TWO_PATHS, &[1, 2], 8, &hashes, &deflate(names));
    let stored = |block: &[u8]| by_hand(&TWO_PATHS, &[1, 2], 8, &hashes, block);
    let first_layer = |number: &[u8]| {
        let parts = [number, &[1, 0, 1, 0, 1]].concat();
        by_hand(&parts, &[1, 2], 8, &hashes, &good)
    };
    // 2^16 + 1 paths, and twice 2^63 of them.
    let many = [0x82, 0x80, 0x08];
    let absurd = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    let beyond = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
    let endless = [0x80; 11];
    for (what, bytes) in [
        ("one name less", names(b"a\n")),
        ("one name more", names(b"a\nb\nc\n")),
        ("no last newline", names(b"a\nb")),
        ("an empty name", names(b"a\n\n")),
        ("an empty name", names(b"\na\n")),
        ("a path", names(b"a\n/b\n")),
        ("a dot", names(b"a\n..\n")),
        ("a zero byte", names(b"a\nb\0\n")),
        ("no UTF-8", names(b"a\n\xff\n")),
        (
            "a long name",
            names(format!("a\n{}\n", "n".repeat(212)).as_bytes()),
        ),
        ("a bomb", names(&b"a".repeat(10 << 20))),
        ("no names", stored(&[])),
        ("no deflate", stored(&[0xff; 40])),
        (
            "a stored block that ends early",
            stored(&[1, 9, 0, 0xf6, 0xff, b'a']),
        ),
        ("two streams", stored(&[&good[..], &good].concat())),
        (
            "seven digits",
            by_hand(&TWO_PATHS, &[1, 2], 7, &hashes, &good),
        ),
        ("no digits", by_hand(&TWO_PATHS, &[1, 2], 0, &[], &good)),
        (
            "40 digits",
            by_hand(&TWO_PATHS, &[1, 2], 40, &[7; 50], &good),
        ),
        (
            "a size with a zero at its end",
            by_hand(&TWO_PATHS, &[1, 0x82, 0], 8, &hashes, &good),
        ),
        ("many paths", first_layer(&many)),
        ("absurdly many paths", first_layer(&absurd)),
        ("a number of 65 bits", first_layer(&beyond)),
        ("a number without end", first_layer(&endless)),
        ("a key that is cut", first_layer(&[5])),
    ] {
        assert_eq!(read(&bytes), None, "{what}");
    }
    let of_version = |version| {
        let mut bytes = by_hand(&TWO_PATHS, &[1, 2], 8, &hashes, &good);
        bytes[0] = version;
        read(&bytes)
    };
    assert_eq!(of_version(1), Some(table));
    assert_eq!((of_version(0), of_version(2)), (None, None));
}

#[test]
fn a_table_that_is_too_long_is_left_out() {
    // Digits that nobody foresees: five bits each that deflate cannot save.
    let name = |n: u32| {
        let digest = |m: u32| Digest::of(&[n.to_le_bytes(), m.to_le_bytes()].concat());
        let text = |m| nix32::encode(digest(m).as_bytes());
        format!("{}{}{}{}", text(0), text(1), text(2), text(3))
    };
    let told = |count: u32| {
        let mut table = table();
        let paths = (0..count).map(|n| path("00000000", &name(n), None));
        table.layers[0].paths = paths.collect();
        table.layers[1].paths.clear();
        let text = encode(&table, Cut::SHORT, &layers(3))?;
        assert_eq!(decode(&text, &layers(3)), Some(table));
        Some(text.len())
    };
    let fits = told(10_000).unwrap();
    assert!((MAX_TEXT / 10 * 9..=MAX_TEXT).contains(&fits), "{fits}");
    assert_eq!(told(11_500), None);
}

proptest! {
    #[test]
    fn any_number_survives(number: u64, shift in 0..64_u32) {
        let number = number >> shift;
        let mut bytes = Vec::new();
        put_number(&mut bytes, number);
        prop_assert!(bytes.len() <= 10);
        let mut rest = bytes.as_slice();
        prop_assert_eq!(take_number(&mut rest), Some(number));
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn any_digits_survive(bytes in proptest::collection::vec(any::<[u8; 5]>(), 0..5)) {
        let bytes = bytes.concat();
        let mut again = Vec::new();
        put_digits(&mut again, &digits(&bytes));
        prop_assert_eq!(again, bytes);
    }

    /// One table has one text but for the deflate stream: what is read from
    /// changed bytes is another table, or none.
    #[test]
    fn changed_bytes_are_another_table_or_none(
        changes in proptest::collection::vec((17..150_usize, any::<u8>()), 1..4),
    ) {
        let whole = bytes(&table(), Cut::WHOLE);
        let mut changed = whole.clone();
        for (at, byte) in changes {
            if let Some(place) = changed.get_mut(at) {
                *place = byte;
            }
        }
        if let Some(read) = read(&changed) {
            let names = whole.len() - deflate(b"glibc-2.40-66\nglibc-2.40-66-bin\napp\n").len();
            let is_same = changed[..names] == whole[..names];
            prop_assert!(is_same || read != table());
        }
    }
}

/// An image on a base says how many layers are the base's; others are as they
/// were before there were bases.
#[test]
fn the_layers_of_the_base_are_counted() {
    let layers = layers(3);
    let on_none = encode(&table(), Cut::WHOLE, &layers).unwrap();
    for base_layers in 1..=3 {
        let table = ImageTable {
            base_layers,
            ..table()
        };
        let text = encode(&table, Cut::WHOLE, &layers).unwrap();
        assert_eq!(decode(&text, &layers), Some(table));
        let bytes = |text: &str| BASE64_NOPAD.decode(text.as_bytes()).unwrap();
        let mut bytes_of_table = bytes(&text);
        assert_eq!(bytes_of_table[0], 2);
        // Behind version, checksum and the number of layers.
        assert_eq!(usize::from(bytes_of_table[18]), base_layers);
        for wrong in [0, 4] {
            bytes_of_table[18] = wrong;
            assert_eq!(decode(&BASE64_NOPAD.encode(&bytes_of_table), &layers), None);
        }
        bytes_of_table.remove(18);
        bytes_of_table[0] = 1;
        assert_eq!(bytes_of_table, bytes(&on_none));
    }
}
