//! `--html`: what is written, and where. `tests/it/html.rs` opens it.

use std::fs;

use super::{APP, Fixture, LIB, run};

#[test]
fn a_plan_is_also_a_page() {
    let fixture = Fixture::new();
    let (code, plain, _) = fixture.run("plan", &["result"]);
    assert_eq!(code, 0);
    let (code, stdout, stderr) = fixture.run("plan", &["result", "--html", "plan.html"]);
    assert_eq!((code, stdout), (0, plain), "{stderr}");
    assert_eq!(fixture.new_files(), ["plan.html"]);
    let page = fs::read_to_string(fixture.file("plan.html")).unwrap();
    check(&page, &[APP, LIB]);
    assert!(page.contains("<p class=\"kind\">plan</p>"), "{page}");
    assert!(page.contains("data-n=\"500\">500 B</td>"), "{page}");
    // The same again: no time and no path of the machine is in it.
    assert_eq!(
        fixture
            .run("plan", &["result", "--json", "--html", "again.html"])
            .0,
        0
    );
    assert_eq!(
        fs::read_to_string(fixture.file("again.html")).unwrap(),
        page
    );
}

#[test]
fn an_image_is_also_a_page() {
    let fixture = Fixture::new();
    let (code, digest, stderr) = fixture.run("build", &["result", "-o", "oci:image:v1"]);
    assert_eq!(code, 0, "{stderr}");
    let inspect = ["inspect", "oci:image:v1", "--html", "image.html"];
    let (code, stdout, stderr) = run(fixture.path(), &inspect);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains(APP), "{stdout}");
    let page = fs::read_to_string(fixture.file("image.html")).unwrap();
    check(&page, &[APP, LIB]);
    assert!(page.contains(digest.trim_end()), "{page}");
    assert!(page.contains("<h1>localhost/app:latest</h1>"), "{page}");
}

#[test]
fn a_difference_is_also_a_page() {
    let fixture = Fixture::new();
    for (root, image) in [(LIB, "oci:image:v1"), (APP, "oci:image:v2")] {
        let (code, _, stderr) = fixture.run("build", &[root, "-o", image]);
        assert_eq!(code, 0, "{stderr}");
    }
    let diff = ["diff", "oci:image:v1", "oci:image:v2"];
    let (_, plain, _) = run(fixture.path(), &diff);
    let arguments = [&diff[..], &["--html", "diff.html"]].concat();
    let (code, stdout, stderr) = run(fixture.path(), &arguments);
    assert_eq!((code, stdout), (0, plain), "{stderr}");
    let page = fs::read_to_string(fixture.file("diff.html")).unwrap();
    // Of hashes a manifest tells the beginning.
    check(&page, &[]);
    for text in [
        "<h1>oci:image:v1 → oci:image:v2</h1>",
        "<b>new</b> not there yet <span>1 layer, ",
        "<b>kept</b> as in the image before <span>1 layer, ",
        "<tr><th scope=\"row\">app</th><td class=\"added\">added</td>",
    ] {
        assert!(page.contains(text), "{text} in {page}");
    }
}

#[test]
fn a_page_gets_its_name_when_it_is_whole() {
    let fixture = Fixture::new();
    let (code, _, stderr) = fixture.run("plan", &["result", "--html", "no/plan.html"]);
    assert_eq!(code, 4, "{stderr}");
    assert!(stderr.contains("failed to create no/plan.html"), "{stderr}");
    let (code, stdout, stderr) = run(fixture.path(), &["inspect", "none", "--html", "image.html"]);
    assert_eq!((code, stdout.as_str()), (3, ""), "{stderr}");
    assert_eq!(fixture.new_files(), [""; 0]);
    for verb in ["plan", "inspect"] {
        let (code, stdout, stderr) = run(fixture.path(), &[verb, "result", "--html", "-"]);
        assert_eq!((code, stdout.as_str()), (2, ""));
        assert!(
            stderr.contains("--html wants standard output, which has the result"),
            "{stderr}"
        );
    }
}

/// Checks that a page is whole, loads nothing and has these store paths.
#[track_caller]
fn check(page: &str, paths: &[&str]) {
    assert!(page.starts_with("<!DOCTYPE html>\n<html lang=\"en\">"));
    assert!(page.ends_with("</script>\n</body>\n</html>\n"), "{page}");
    assert!(page.contains("content=\"default-src 'none'; style-src 'sha256-"));
    for loads in ["http:", "https:", "src=", "@import", "url("] {
        assert!(!page.contains(loads), "{loads}");
    }
    for path in paths {
        let (hash, name) = path["/nix/store/".len()..].split_once('-').unwrap();
        assert!(
            page.contains(&format!("<td class=\"hash\">{hash}</td>")),
            "{path}"
        );
        assert!(
            page.contains(&format!("<th scope=\"row\">{name}</th>")),
            "{path}"
        );
        assert!(page.contains(&format!("<b>{name}</b>")), "{path}");
    }
}
