//! What our dockerTools refuse, and what they say instead.

use super::examples;

#[test]
fn what_needs_a_virtual_machine_or_proot_is_refused_with_what_to_do() {
    let examples = examples();
    for (attribute, what, instead) in [
        ("as-root", "runAsRoot", "fakeRootCommands"),
        ("fakechroot", "enableFakechroot", "./etc"),
        ("pipeline", "layeringPipeline", "`layers`"),
        ("exported", "exportImage", "podman export"),
    ] {
        let error = examples.try_build(attribute).unwrap_err();
        assert!(error.contains(what), "{attribute}: {error}");
        assert!(error.contains(instead), "{attribute}: {error}");
    }
}
