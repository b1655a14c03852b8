//! Images on top of others.

use super::{assert_prints, examples};

#[test]
fn images_on_top_of_layered_images_run() {
    assert_prints(
        examples().podman(
            &["layered-on-top", "layered-on-top-layered"],
            "load \"$layered_on_top\"\nrun layered-on-top
             load \"$layered_on_top_layered\"\nrun layered-on-top-layered
             run layered-on-top cat /extraCommands",
        ),
        "hello\nhello\n(extraCommand)\n",
    );
}

#[test]
fn the_layers_of_the_base_count() {
    assert_prints(
        examples().podman(
            &["layered-bulk-layer"],
            "load \"$layered_bulk_layer\"
             layers layered-bulk-layer | wc -l
             run layered-bulk-layer ls /bin/hello",
        ),
        "4\n/bin/hello\n",
    );
}

#[test]
fn layers_of_the_base_are_below_in_their_order() {
    assert_prints(
        examples().podman(
            &["layers-order"],
            "load \"$layers_order\"
             run l3 cat /tmp/layer1 /tmp/layer2 /tmp/layer3",
        ),
        "layer1\nlayer2\nlayer3\n",
    );
}

#[test]
fn a_base_with_one_layer_twice_keeps_both() {
    assert_prints(
        examples().podman(
            &["repeated-layer"],
            "load \"$repeated_layer\"
             run repeated-layer /bin/bash -c 'echo \"$(< /repeated)\"'
             layers repeated-layer | head -n 2 | uniq --count | awk '{ print $1 }'",
        ),
        "repeated\n2\n",
    );
}

#[test]
fn the_environment_is_inherited_and_each_variable_is_there_once() {
    let examples = examples();
    let variables = "grep -E '^(FROM|LAST)' | sort";
    let expected = "FROM_CHILD=true\nFROM_PARENT=true\nLAST_LAYER=child\n";
    assert_prints(
        examples.podman(
            &["environment", "environment-layered"],
            &format!(
                "load \"$environment\"\nrun child /bin/env | {variables}
                 load \"$environment_layered\"\nrun child-layered /bin/env | {variables}
                 podman inspect --type image --format '{{{{range .Config.Env}}}}{{{{println .}}}}{{{{end}}}}' \\
                     child-layered | {variables}"
            ),
        ),
        &expected.repeat(3),
    );
}

#[test]
fn a_base_is_found_by_its_name_in_an_archive_of_several() {
    assert_prints(
        examples().podman(&["by-name"], "load \"$by_name\"\nrun by-name redis-cli"),
        "redis-cli\n",
    );
}
