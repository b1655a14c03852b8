//! What people do by habit of other tools.

use super::*;

#[test]
fn a_name_that_promises_compression_is_warned_of() {
    let fixture = Fixture::new();
    for (name, is_warned) in [("a.tar.gz", true), ("a.tgz", true), ("a.tar", false)] {
        let (code, _, stderr) = fixture.run("build", &["result", "-o", name]);
        assert_eq!(code, 0, "{stderr}");
        let told = format!("warning: {name} is a tar that is not compressed");
        assert_eq!(stderr.contains(&told), is_warned, "{stderr}");
    }
}

#[test]
fn a_root_that_is_said_twice_lends_its_name() {
    let fixture = Fixture::new();
    let (code, _, stderr) = fixture.run("build", &["result", APP, "-o", "a.tar"]);
    assert!(
        code == 0 && stderr.contains("localhost/app:latest"),
        "{stderr}"
    );
}
