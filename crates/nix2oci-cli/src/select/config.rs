//! The image's config and names, from a document and the options on top of it.

use std::path::Path;

use nix2oci::StorePath;
use nix2oci::image::{BaseImage, ImageConfig};
use nix2oci::input::{InputKind, read_file};
use nix2oci::oci::{Platform, Reference, parse_names};

use crate::args::ConfigArgs;
use crate::args::values::{Created, Words};
use crate::exit::{Failure, Outcome};
use crate::host;

use super::read_document;

/// Reads `--config` and applies the options. The platform is the base's if
/// nothing else is said.
pub(super) fn config(args: &ConfigArgs, base: Option<&BaseImage>) -> Outcome<ImageConfig> {
    let of_base = || base.map(|base| base.platform().clone());
    let platform = args.platform.clone().or_else(of_base);
    let platform = platform.map_or_else(host::platform, Ok)?;
    let mut config = match &args.config {
        Some(path) => document(path, platform)?,
        None => ImageConfig::new(platform),
    };
    apply(args, &mut config, base)?;
    Ok(config)
}

/// Applies the options to a config, which inherits from that of the base.
pub(super) fn apply(
    args: &ConfigArgs,
    config: &mut ImageConfig,
    base: Option<&BaseImage>,
) -> Outcome<()> {
    if let Some(platform) = &args.platform {
        config.platform = platform.clone();
    }
    config.created = match (args.created, config.created) {
        (Some(Created::At(time)), _) => Some(time),
        (Some(Created::Now), _) => Some(host::now()),
        // What the document says counts more than the environment.
        (None, Some(time)) => Some(time),
        (None, None) => Some(host::source_date()?),
    };
    if let Some(author) = &args.author {
        config.author = Some(author.clone());
    }
    if let Some(annotation) = args.annotation.iter().find(|a| a.starts_with("index:")) {
        return Err(Failure::usage(format!(
            "--annotation {annotation}: there is no index to annotate, since an image of one \
             platform has a manifest only"
        ))
        .hint("leave out index: to annotate the manifest"));
    }
    for file in &args.env_file {
        env_file(file, config)?;
    }
    if let Some(name) = args.env.iter().find(|assignment| !assignment.contains('=')) {
        return Err(without_value("--env", name));
    }
    edit(args, config).map_err(Failure::misuse)?;
    // An empty list stands for none where there is one to be inherited.
    if base.is_none() {
        if Words::are_empty(&args.entrypoint) {
            config.config.remove("Entrypoint");
        }
        if Words::are_empty(&args.cmd) {
            config.config.remove("Cmd");
        }
    }
    Ok(())
}

fn document(path: &Path, platform: Platform) -> Outcome<ImageConfig> {
    let (name, bytes) = read_document(path, InputKind::Config)?;
    Ok(ImageConfig::from_json(&name, &bytes, platform)?)
}

/// Sets the variables of a file in the format of `docker run --env-file`: a
/// variable on each line, as it is, without quotes that are taken away.
fn env_file(file: &Path, config: &mut ImageConfig) -> Outcome<()> {
    let bytes = read_file(file, InputKind::Config)?;
    let refuse = |line: usize, problem: &str| {
        Failure::input(format!("{}, line {line}: {problem}", file.display()))
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| refuse(1, "the file is not UTF-8"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.split_once('=') {
            None => {
                return Err(without_value(
                    &format!("--env-file {}", file.display()),
                    line,
                ));
            }
            Some((name, _)) if name.contains(char::is_whitespace) => {
                return Err(refuse(number, "the name has a space in it"));
            }
            Some(_) => config
                .set_env(line)
                .map_err(|error| refuse(number, &error.to_string()))?,
        }
    }
    Ok(())
}

/// Refuses a variable without a value: docker takes that of its own environment.
fn without_value(option: &str, name: &str) -> Failure {
    Failure::usage(format!(
        "{option}: {name:?} has no value, expected NAME=VALUE"
    ))
    .hint(
        "the environment of this command is not looked at, since the image would depend on it: \
         --env NAME=\"$NAME\" takes a value of the shell",
    )
}

fn edit(args: &ConfigArgs, config: &mut ImageConfig) -> nix2oci::Result<()> {
    if !args.entrypoint.is_empty() {
        let words = Words::join(&args.entrypoint);
        config.set_entrypoint(&words);
    }
    if !args.cmd.is_empty() {
        let words = Words::join(&args.cmd);
        config.set_cmd(&words);
    }
    for assignment in &args.env {
        config.set_env(assignment)?;
    }
    if let Some(dir) = &args.workdir {
        config.set_working_dir(dir)?;
    }
    if let Some(user) = &args.user {
        config.set_user(user)?;
    }
    for assignment in &args.label {
        config.set_label(assignment)?;
    }
    for port in &args.expose {
        config.add_exposed_port(port)?;
    }
    for dir in &args.volume {
        config.add_volume(dir)?;
    }
    if let Some(signal) = &args.stop_signal {
        config.set_stop_signal(signal)?;
    }
    for annotation in &args.annotation {
        let assignment = annotation.strip_prefix("manifest:").unwrap_or(annotation);
        config.set_annotation(assignment)?;
    }
    Ok(())
}

/// Joins `--name` and the `--tag`s.
pub(super) fn names(args: &ConfigArgs) -> Outcome<Vec<Reference>> {
    names_of(args.name.as_deref(), &args.tag)
}

/// The same, of verbs that take these two alone.
pub(super) fn names_of(name: Option<&str>, tags: &[String]) -> Outcome<Vec<Reference>> {
    match name {
        None => Ok(Vec::new()),
        Some(name) => parse_names(name, tags).map_err(|error| {
            let failure = Failure::usage(format!("--name: {error}"));
            match name.split_once("://") {
                Some((_, name)) => failure.hint(format!("a name has no scheme: say {name}")),
                None => failure,
            }
        }),
    }
}

/// Names an image after its root if nothing else was said, as podman names what
/// is built here: `hello-2.12.1` becomes `localhost/hello:2.12.1`. Without a
/// name containerd and k3s import nothing.
///
/// Name and version are parted as Nix does it: the version begins after the
/// first dash that no letter follows. Tags of the user take the version's place.
pub(super) fn default_names(root: &StorePath, tags: &[String]) -> Vec<Reference> {
    let full = root.name();
    let version = full
        .match_indices('-')
        .map(|(at, _)| at)
        .find(|at| full[at + 1..].starts_with(|c: char| !c.is_ascii_alphabetic()));
    let (name, version) = match version {
        Some(at) => (&full[..at], &full[at + 1..]),
        None => (full, "latest"),
    };
    let name = repository_name(name);
    let tag: String = version
        .chars()
        .map(|c| match c {
            '+' | '=' | '?' => '_',
            c => c,
        })
        .collect();
    // What is left of an odd name may be no reference: then there is none.
    let name = match tags {
        [] => format!("localhost/{name}:{tag}"),
        _ => format!("localhost/{name}"),
    };
    parse_names(&name, tags).unwrap_or_default()
}

/// Returns lower-case letters and digits with single separators between them.
fn repository_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars().map(|c| c.to_ascii_lowercase()) {
        let is_separator = !c.is_ascii_alphanumeric();
        if !is_separator {
            out.push(c);
        } else if out.ends_with(|last: char| last.is_ascii_alphanumeric()) {
            out.push(if matches!(c, '.' | '_') { c } else { '-' });
        }
    }
    out.truncate(out.trim_end_matches(['-', '.', '_']).len());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_lends_its_name() {
        for (path, name) in [
            ("hello-2.12.1", "localhost/hello:2.12.1"),
            ("app-v1", "localhost/app-v1:latest"),
            (
                "python3.11-numpy-1.26.0+b1",
                "localhost/python3.11-numpy:1.26.0_b1",
            ),
            ("GTK+-Demo-3", "localhost/gtk-demo:3"),
            ("._odd__name_", "localhost/odd_name:latest"),
        ] {
            let path = format!("0123456789abcdfghijklmnpqrsvwxyz-{path}");
            let names = default_names(&path.parse().unwrap(), &[]);
            let names: Vec<_> = names.iter().map(Reference::whole).collect();
            assert_eq!(names, [name]);
        }
        let path = "0123456789abcdfghijklmnpqrsvwxyz-hello-2.12.1";
        let names = default_names(&path.parse().unwrap(), &["a".into(), "b".into()]);
        let names: Vec<_> = names.iter().map(Reference::whole).collect();
        assert_eq!(names, ["localhost/hello:a", "localhost/hello:b"]);
        let path = "0123456789abcdfghijklmnpqrsvwxyz-_?=";
        assert!(default_names(&path.parse().unwrap(), &[]).is_empty());
    }
}
