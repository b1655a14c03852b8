//! Images in which a derivation can be built by hand.

use super::{assert_prints, examples};

#[test]
fn a_derivation_is_built_in_the_container() {
    assert_prints(
        examples().podman(
            &["shell-basic", "shell-build"],
            "stream \"$shell_basic\"
             run shell-basic bash -c 'buildDerivation && $out/bin/hello'
             stream \"$shell_build\"\nrun shell-build",
        ),
        "Hello, world!\nHello, world!\n",
    );
}

/// bash reads what it is told only where it is interactive.
#[test]
fn the_shell_is_that_of_the_derivation() {
    let Some(printed) = examples().podman(
        &["shell-hook", "shell-inputs", "shell-file"],
        "stream \"$shell_hook\"\nrun --tty shell-hook
         stream \"$shell_inputs\"\nrun --tty shell-inputs
         stream \"$shell_file\"\nrun --tty shell-file",
    ) else {
        return;
    };
    let lines: Vec<_> = printed.lines().map(str::trim_end).collect();
    let expected = [
        "This is the shell hook!",
        "Hello, world!",
        "this is a string",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn commands_run_interactively_or_not() {
    let examples = examples();
    let Some(printed) = examples.podman(
        &["shell-run", "shell-command"],
        "stream \"$shell_run\"\nrun shell-run
         stream \"$shell_command\"\nrun --tty shell-command",
    ) else {
        return;
    };
    let lines: Vec<_> = printed.lines().map(str::trim_end).collect();
    assert_eq!(lines, ["not interactive", "interactive"]);
}

#[test]
fn the_home_directory_is_writable_or_does_not_exist() {
    assert_prints(
        examples().podman(
            &["shell-home", "shell-no-home"],
            "stream \"$shell_home\"\nrun shell-home
             stream \"$shell_no_home\"\nrun shell-no-home",
        ),
        "writable\nnone\n",
    );
}

#[test]
fn structured_attributes_are_refused() {
    let error = examples().try_build("shell-structured").unwrap_err();
    assert!(error.contains("has structured attributes"), "{error}");
}
