//! `--next`: a command line for images of several platforms.
//!
//! What shapes an image belongs to the part in which it stands, as with curl's
//! option of that name. What is of the whole, such as the output, may stand in
//! any part, but in one only.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

use clap::FromArgMatches as _;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args as _, Command as Clap, CommandFactory as _, Error, Parser as _};

use super::{Cli, Command, ImageArgs};

/// What parts the images.
const NEXT: &str = "--next";

/// The verbs that build images.
const VERBS: [&str; 4] = ["build", "push", "resolve", "plan"];

/// Options of an image that are of the whole index all the same.
const SHARED: [&str; 4] = ["name", "tag", "threads", "verify"];

/// The positional arguments.
const ROOTS: &str = "roots";

/// Images behind `--next`.
#[derive(Debug, Default)]
pub(crate) struct NextParts {
    /// What the parts after the first say of their images.
    pub(crate) images: Vec<ImageArgs>,
    /// What all parts say of the index: `KEY=VALUE`.
    pub(crate) annotations: Vec<String>,
}

impl Cli {
    /// Reads a command line.
    pub(crate) fn parse_parts(arguments: Vec<OsString>) -> Result<Self, Error> {
        let rest = arguments.iter().position(|argument| argument == "--");
        let (read, rest) = arguments.split_at(rest.unwrap_or(arguments.len()));
        let mut parts: Vec<Vec<OsString>> = read
            .split(|argument| argument == NEXT)
            .map(<[_]>::to_vec)
            .collect();
        if parts.len() == 1 {
            return Self::try_parse_from(arguments);
        }
        if let Some(last) = parts.last_mut() {
            last.extend_from_slice(rest);
        }
        join(parts)
    }
}

fn join(parts: Vec<Vec<OsString>>) -> Result<Cli, Error> {
    let mut parts = parts.into_iter();
    let mut first = parts.next().unwrap_or_default();
    let mut lenient = VERBS.into_iter().fold(Cli::command(), |cli, verb| {
        cli.mut_subcommand(verb, lenient)
    });
    let matches = lenient.try_get_matches_from_mut(&first)?;
    let (verb, own) = match matches.subcommand() {
        Some((verb, own)) if VERBS.contains(&verb) => (verb.to_owned(), own),
        _ => {
            let problem = "--next parts the images of `build`, `push`, `resolve` and `plan`, and of \
                           no other verb\n";
            return Err(Error::raw(ErrorKind::UnknownArgument, problem));
        }
    };
    let command = lenient
        .find_subcommand(&verb)
        .expect("a verb that was found is there")
        .clone();
    let of_image = image_options();
    let is_shared = |id: &str| !of_image.contains(id);
    let mut given: BTreeMap<String, usize> = shared(&command, own, &is_shared)
        .into_keys()
        .map(|option| (option, 1))
        .collect();
    let mut next = NextParts::default();
    let parts: Vec<_> = parts.collect();
    let count = parts.len();
    for (at, part) in parts.into_iter().enumerate() {
        let typed = [OsString::from("nix2oci"), OsString::from(&verb)];
        let matches = lenient.try_get_matches_from_mut(typed.into_iter().chain(part))?;
        let own = matches
            .subcommand_matches(&verb)
            .expect("the verb was typed above");
        for (option, words) in shared(&command, own, &is_shared) {
            if let Some(before) = given.insert(option.clone(), at + 2) {
                let problem = format!(
                    "{option} stands in part {before} and in part {} of the command line; it is \
                     for all of them, and so once\n",
                    at + 2
                );
                return Err(Error::raw(ErrorKind::ArgumentConflict, problem));
            }
            first.extend(words);
        }
        let mut image = ImageArgs::from_arg_matches(own)?;
        // Where they go stands at the end of a push.
        if verb == "push" && at + 1 == count {
            let is_remote = |root: &std::path::PathBuf| {
                root.to_str()
                    .is_some_and(|root| root.starts_with("docker://"))
            };
            let places = image.roots.iter().rev().take_while(|root| is_remote(root));
            let kept = image.roots.len() - places.count();
            first.extend(image.roots.drain(kept..).map(OsString::from));
        }
        next.images.push(image);
    }
    let mut cli = Cli::try_parse_from(first)?;
    let (image, slot) = match &mut cli.command {
        Command::Build(args) => (&mut args.image, &mut args.next_parts),
        Command::Push(args) => (&mut args.image, &mut args.next_parts),
        Command::Resolve(args) => (&mut args.image, &mut args.next_parts),
        Command::Plan(args) => (&mut args.image, &mut args.next_parts),
        _ => unreachable!("the verb is one of those above"),
    };
    for part in std::iter::once(&mut *image).chain(&mut next.images) {
        part.config.annotation.retain(|text| {
            let of_index = text.strip_prefix("index:");
            next.annotations.extend(of_index.map(str::to_owned));
            of_index.is_none()
        });
    }
    for part in &mut next.images {
        part.run.verify = image.run.verify;
        part.run.threads = image.run.threads;
    }
    *slot = next;
    Ok(cli)
}

/// Lets a part lack what another one has.
fn lenient(command: Clap) -> Clap {
    let ids: Vec<String> = command
        .get_arguments()
        .filter(|argument| argument.is_required_set())
        .map(|argument| argument.get_id().to_string())
        .collect();
    ids.into_iter().fold(command, |command, id| {
        command.mut_arg(id, |argument| argument.required(false))
    })
}

/// Returns what an image has in its own part.
fn image_options() -> BTreeSet<String> {
    let command = ImageArgs::augment_args(Clap::new("image"));
    let ids = command
        .get_arguments()
        .map(|argument| argument.get_id().to_string());
    ids.filter(|id| !SHARED.contains(&&**id)).collect()
}

/// Returns the options of a part that are for all, each as it would be typed.
fn shared(
    command: &Clap,
    matches: &ArgMatches,
    is_shared: &dyn Fn(&str) -> bool,
) -> BTreeMap<String, Vec<OsString>> {
    let mut found = BTreeMap::new();
    for argument in command.get_arguments() {
        let id = argument.get_id().as_str();
        let is_typed = matches.try_contains_id(id).unwrap_or(false)
            && matches.value_source(id) == Some(ValueSource::CommandLine);
        let Some(long) = argument.get_long() else {
            continue;
        };
        if id == ROOTS || !is_shared(id) || !is_typed {
            continue;
        }
        let option = format!("--{long}");
        let mut words = Vec::new();
        if argument.get_action().takes_values() {
            for value in matches.get_raw(id).into_iter().flatten() {
                let mut word = OsString::from(format!("{option}="));
                word.push(value);
                words.push(word);
            }
        } else {
            let count = match argument.get_action() {
                clap::ArgAction::Count => usize::from(matches.get_count(id)),
                _ => 1,
            };
            words.extend(std::iter::repeat_n(OsString::from(&option), count));
        }
        found.insert(option, words);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, String> {
        let arguments = line.split(' ').map(OsString::from).collect();
        Cli::parse_parts(arguments).map_err(|error| error.to_string())
    }

    #[test]
    fn each_part_has_its_own_image_and_the_output_is_of_all() {
        let line = "nix2oci build a --platform linux/amd64 --env A=1 --annotation index:k=v \
                    --next b c --platform linux/arm64 --annotation m=1 --threads 2 --json \
                    -vv -o out.tar --name app";
        let cli = parse(line).unwrap();
        assert_eq!(cli.talk.verbose, 2);
        let Command::Build(args) = cli.command else {
            panic!("another verb");
        };
        assert_eq!(args.output, "out.tar");
        assert!(args.json);
        assert_eq!(args.image.roots, ["a"].map(std::path::PathBuf::from));
        assert_eq!(args.image.config.env, ["A=1"]);
        assert_eq!(args.image.config.name.as_deref(), Some("app"));
        assert_eq!(args.image.run.threads.unwrap().get(), 2);
        assert_eq!(args.next_parts.annotations, ["k=v"]);
        let [second] = &args.next_parts.images[..] else {
            panic!("{:?}", args.next_parts);
        };
        assert_eq!(second.roots, ["b", "c"].map(std::path::PathBuf::from));
        assert!(second.config.env.is_empty());
        assert_eq!(second.config.annotation, ["m=1"]);
        assert!(args.image.config.annotation.is_empty());
    }

    #[test]
    fn the_destinations_of_a_push_stand_at_the_end() {
        let cli = parse("nix2oci push a --next b docker://h/x:1 docker://h/x:2").unwrap();
        let Command::Push(args) = cli.command else {
            panic!("another verb");
        };
        let roots = ["a", "docker://h/x:1", "docker://h/x:2"].map(std::path::PathBuf::from);
        assert_eq!(args.image.roots, roots);
        assert_eq!(
            args.next_parts.images[0].roots,
            [std::path::PathBuf::from("b")]
        );
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        for (line, problem) in [
            ("nix2oci build a --next b", "--output"),
            (
                "nix2oci build a -o x --next b -o y",
                "--output stands in part 1 and in part 2",
            ),
            (
                "nix2oci build a --next b -o x --next c --name n --next d --name n",
                "part 3",
            ),
            ("nix2oci check a --next b", "of no other verb"),
            ("nix2oci build a --next b --no-such -o x", "--no-such"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(problem), "{line}: {error}");
        }
        // It may be a value, and what is behind -- is none of ours.
        assert!(parse("nix2oci build a -o x --cmd=--next").is_ok());
        assert!(parse("nix2oci build -o x -- --next").is_ok());
    }
}
