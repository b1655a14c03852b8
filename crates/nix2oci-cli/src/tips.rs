//! What options of other tools are called here.

use clap::Error;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Options that people type by habit of docker, podman and skopeo, and what has
/// their meaning here.
const TIPS: &[(&str, &str)] = &[
    ("-t", "--name says the image's name, --tag a tag of it"),
    ("-e", "--env NAME=VALUE sets a variable"),
    ("-l", "--label KEY=VALUE sets a label"),
    (
        "-u",
        "--user says who the program runs as, --creds who signs in",
    ),
    ("-w", "--workdir says the working directory"),
    ("-p", "--expose says a port, --platform the platform"),
    (
        "-f",
        "there is no build file: --config and --root-tree say what it would",
    ),
    (
        "--file",
        "there is no build file: --config and --root-tree say what it would",
    ),
    (
        "--dest-creds",
        "--creds USER:PASSWORD is for the registry of the destination",
    ),
    (
        "--src-creds",
        "--creds USER:PASSWORD is for the registry that is read",
    ),
    (
        "--username",
        "--creds USER:PASSWORD, or --creds USER --creds-stdin, signs in",
    ),
    (
        "--password",
        "--creds-stdin reads the password from standard input",
    ),
    (
        "--dest-tls-verify",
        "--tls-verify=false is for all registries of the command",
    ),
    (
        "--src-tls-verify",
        "--tls-verify=false is for all registries of the command",
    ),
    (
        "--dry-run",
        "`nix2oci plan` shows what would be built, with --against what a push would send",
    ),
    (
        "--healthcheck",
        "Healthcheck is a field of the file that --config names",
    ),
    (
        "--health-cmd",
        "Healthcheck is a field of the file that --config names",
    ),
    (
        "--health-interval",
        "Healthcheck is a field of the file that --config names",
    ),
    (
        "--health-timeout",
        "Healthcheck is a field of the file that --config names",
    ),
    (
        "--health-retries",
        "Healthcheck is a field of the file that --config names",
    ),
];

/// Names our option where another tool's was typed, instead of saying how it would
/// be passed as a value.
pub(crate) fn with_tip(mut error: Error) -> Error {
    if error.kind() != ErrorKind::UnknownArgument {
        return error;
    }
    let Some(ContextValue::String(typed)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let name = typed.split('=').next().unwrap_or(typed);
    let Some((_, tip)) = TIPS.iter().find(|(option, _)| *option == name) else {
        return error;
    };
    let tip = ContextValue::StyledStrs(vec![(*tip).into()]);
    error.insert(ContextKind::Suggested, tip);
    // What is spelled alike is not what is meant.
    error.remove(ContextKind::SuggestedArg);
    error
}
