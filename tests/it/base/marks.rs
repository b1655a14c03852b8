//! Who looks at an image on a base is told what is of the base.

use std::path::Path;
use std::process::Command;

use nix2oci_tests::command::{nix2oci, run};
use nix2oci_tests::handmade_image::{Codec, in_dir};
use serde_json::{Value, json};

use super::command::{build, distribution, without_entrypoint};

fn text(arguments: &[&str]) -> String {
    run(Command::new(nix2oci()).args(arguments))
}

fn json_of(arguments: &[&str]) -> Value {
    let mut arguments = arguments.to_vec();
    arguments.push("--json");
    serde_json::from_str(&text(&arguments)).unwrap()
}

/// Returns what is told of each layer.
fn marks(document: &Value) -> Value {
    let layers = document["layers"].as_array().unwrap().iter();
    layers.map(|layer| layer["base"].clone()).collect()
}

#[test]
fn verbs_tell_which_layers_and_store_paths_are_of_the_base() {
    let foreign = in_dir(&distribution(Codec::Gzip).layout());
    let foreign = foreign.path.to_str().unwrap();
    let place = tempfile::tempdir().unwrap();
    let arguments = without_entrypoint();
    let on = |from: &str, more: &[&str], to: &str| {
        let more = [&["--from", from], more].concat();
        let built = build(&arguments, &more, &place.path().join(to));
        built.to_str().unwrap().to_owned()
    };
    let image = on(foreign, &[], "image.tar");
    let alone = build(&arguments, &[], &place.path().join("alone.tar"));
    let alone = alone.to_str().unwrap();
    let next = on(&image, &["--label", "a=b"], "next.tar");

    let of = |base: usize, own: usize| {
        let marks = [vec![true; base], vec![false; own]].concat();
        json!(marks)
    };
    let own = json_of(&["inspect", alone])["layers"]
        .as_array()
        .unwrap()
        .len();
    assert_eq!(marks(&json_of(&["inspect", &image])), of(2, own));
    assert_eq!(marks(&json_of(&["inspect", alone])), of(0, own));
    let unknown = Value::Null;
    assert_eq!(
        marks(&json_of(&["inspect", foreign])),
        json!([unknown, unknown])
    );
    let told = text(&["inspect", &image]);
    assert_eq!(told.matches("  of the base\n").count(), 2, "{told}");
    let page = place.path().join("page.html");
    text(&["inspect", &image, "--html", page.to_str().unwrap()]);
    assert!(read(&page).contains("of the base: layer 0"));

    let diff = json_of(&["diff", alone, &image]);
    assert_eq!(marks(&diff), of(2, own));
    let told = text(&["diff", alone, &image]);
    assert_eq!(told.matches("  of the base, ").count(), 2, "{told}");

    // All of the image is of the base of the next one.
    assert_eq!(marks(&json_of(&["inspect", &next])), of(2 + own, 0));
    let told = "the base has it: it is not added to the image\n";
    let explain = |image: &str| {
        let arguments = ["explain", image, "--path", "greeting.txt"];
        (
            json_of(&arguments)["base"].clone(),
            text(&arguments).contains(told),
        )
    };
    assert_eq!(explain(&next), (json!(true), true));
    // The image is no smaller without what its base has.
    let words = ["explain", &next, "--path", "greeting.txt"];
    assert!(text(&words).contains("144 B; without it nothing less\n"));
    let removal = json_of(&words)["removal"].clone();
    assert_eq!(removal, json!({"paths": [], "narSize": 0}));
    assert_eq!(explain(&image), (json!(false), false));
    let mut roots: Vec<&str> = vec!["explain"];
    let of_closure = arguments[1..].iter().map(String::as_str);
    let of_closure = of_closure.take_while(|argument| *argument != "--name");
    roots.extend(of_closure);
    roots.extend(["--path", "greeting.txt"]);
    assert_eq!(json_of(&roots)["base"], json!(false));
    roots.extend(["--from", &image]);
    assert_eq!(json_of(&roots)["base"], json!(true));
}

fn read(page: &Path) -> String {
    std::fs::read_to_string(page).unwrap()
}
