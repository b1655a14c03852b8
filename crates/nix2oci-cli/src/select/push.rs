//! Which image goes to which names.

use std::path::{Path, PathBuf};

use nix2oci::image::{ImageForm, ImageSource, recognise};
use nix2oci::oci::{Reference, parse_name, parse_reference};

use crate::exit::{Failure, Outcome};

use super::{foreign, image_source};

/// How an image of a registry is written.
const REGISTRY: &str = "docker://";

/// What is pushed.
#[derive(Debug)]
pub(crate) enum Pushed {
    /// An image that is built of store paths, perhaps those that a closure
    /// names.
    Roots(Vec<PathBuf>),
    /// A recipe in a file.
    Recipe(PathBuf),
    /// An image that is there.
    Image(AnyImage),
}

/// An image that is there.
#[derive(Debug, Clone)]
pub(crate) enum AnyImage {
    /// A layout or an archive.
    Stored(ImageSource),
    /// An image of a registry.
    Remote(Reference),
}

impl AnyImage {
    /// Returns the registry that it is in, or that its layers are in.
    pub(super) fn host(&self) -> Option<String> {
        match self {
            Self::Remote(reference) => Some(reference.registry().to_owned()),
            Self::Stored(ImageSource::Lock { file, .. }) => {
                Some(super::lock::host(file).unwrap_or_default())
            }
            Self::Stored(_) => None,
        }
    }
}

/// A recipe, or an image that is there.
#[derive(Debug)]
pub(crate) enum RecipeOrImage {
    /// A recipe in a file.
    Recipe(PathBuf),
    /// An image.
    Image(AnyImage),
}

impl RecipeOrImage {
    /// Returns the image, if it is one.
    pub(crate) fn image(&self) -> Option<&AnyImage> {
        match self {
            Self::Image(image) => Some(image),
            Self::Recipe(_) => None,
        }
    }
}

/// Reads IMAGE, which may be a recipe or of a registry.
pub(crate) fn recipe_or_image(text: &str) -> Outcome<RecipeOrImage> {
    Ok(match any_image(text)? {
        AnyImage::Stored(ImageSource::Path(path))
            if matches!(recognise(&path), Ok(ImageForm::Recipe)) =>
        {
            RecipeOrImage::Recipe(path)
        }
        image => RecipeOrImage::Image(image),
    })
}

/// Reads IMAGE, which may be of a registry.
pub(crate) fn any_image(text: &str) -> Outcome<AnyImage> {
    Ok(match text.strip_prefix(REGISTRY) {
        Some(name) => AnyImage::Remote(remote(text, name)?),
        None => AnyImage::Stored(image_source(text)?),
    })
}

/// Splits the arguments of `push` into what is pushed and where to. With
/// `has_closure` there may be no ROOT, so that all that looks like a
/// destination is one. `config` is the file of `--config`: as a ROOT it stands
/// for what it mentions, and is no recipe although it is JSON.
pub(crate) fn push(
    arguments: &[PathBuf],
    has_closure: bool,
    config: Option<&Path>,
) -> Outcome<(Pushed, Vec<Reference>)> {
    let is_remote = |argument: &PathBuf| name_of(argument).is_some();
    let mut split = arguments
        .iter()
        .rposition(|argument| !is_remote(argument))
        .map_or(0, |last| last + 1);
    if split == 0 && arguments.len() > 1 && !has_closure {
        split = 1;
    }
    let (source, destinations) = arguments.split_at(split);
    if destinations.is_empty() {
        let failure = Failure::usage("no destination is given");
        let last = arguments.last().map(|last| last.display().to_string());
        return Err(match last.as_deref().and_then(meant_name) {
            Some(name) => failure.hint(format!("is {REGISTRY}{name} meant?")),
            None => match last.filter(|last| last.contains("://")) {
                Some(last) => failure.hint(format!(
                    "{last} is none: it begins with docker://, whatever the registry is"
                )),
                None => failure.hint("say docker://HOST/REPOSITORY[:TAG] at the end"),
            },
        });
    }
    let names = destinations
        .iter()
        .filter_map(|argument| name_of(argument))
        .map(destination)
        .collect::<Outcome<Vec<_>>>()?;
    check_one_repository(&names)?;
    if let Some(misplaced) = source.iter().skip(1).find(|argument| is_remote(argument)) {
        return Err(
            Failure::usage(format!("{} stands before a ROOT", misplaced.display()))
                .hint("destinations stand at the end"),
        );
    }
    Ok((self::source(source, config)?, names))
}

/// Fails unless all names are tags of one repository.
fn check_one_repository(names: &[Reference]) -> Outcome<()> {
    let place = |name: &Reference| (name.registry().to_owned(), name.repository().to_owned());
    let other = names.iter().find(|name| place(name) != place(&names[0]));
    match other {
        None => Ok(()),
        Some(other) => Err(Failure::usage(format!(
            "{REGISTRY}{} and {REGISTRY}{} are not of one repository",
            names[0].whole(),
            other.whole()
        ))
        .hint("several destinations are tags of one repository; push to each other one by itself")),
    }
}

/// Reads a destination of `build`, or nothing if it is not in a registry.
pub(crate) fn destinations(text: &str) -> Outcome<Option<Vec<Reference>>> {
    match text.strip_prefix(REGISTRY) {
        Some(name) => Ok(Some(vec![destination(name)?])),
        None => Ok(None),
    }
}

/// Finds out what is meant by arguments that are store paths, a recipe or an
/// image. `config` is as in [`push`].
pub(crate) fn source(source: &[PathBuf], config: Option<&Path>) -> Outcome<Pushed> {
    let [one] = source else {
        // A file among several may be a tar or JSON and a package all the same.
        return match source.iter().find(|path| has_transport(path)) {
            Some(image) => Err(Failure::usage(format!(
                "{} is an image, which is pushed alone",
                image.display()
            ))),
            None => Ok(Pushed::Roots(source.to_vec())),
        };
    };
    if let Some(name) = name_of(one) {
        return Ok(Pushed::Image(AnyImage::Remote(remote(
            &one.to_string_lossy(),
            name,
        )?)));
    }
    let is_image = has_transport(one) || recognise(one).is_ok();
    if !is_image || config == Some(one) {
        return Ok(Pushed::Roots(source.to_vec()));
    }
    let text = one.to_string_lossy();
    Ok(match image_source(&text)? {
        ImageSource::Path(path) if foreign::is_foreign(&path) => Pushed::Roots(vec![path]),
        ImageSource::Path(path) if matches!(recognise(&path), Ok(ImageForm::Recipe)) => {
            Pushed::Recipe(path)
        }
        source => Pushed::Image(AnyImage::Stored(source)),
    })
}

/// Returns whether an argument says that it is an image and no ROOT.
fn has_transport(argument: &Path) -> bool {
    let text = argument.to_string_lossy();
    text.split_once(':').is_some_and(|(transport, _)| {
        matches!(
            transport,
            "oci" | "archive" | "oci-archive" | "docker-archive" | "docker" | "lock"
        )
    })
}

fn name_of(argument: &Path) -> Option<&str> {
    argument.to_str()?.strip_prefix(REGISTRY)
}

/// Returns the name that somebody may have meant who wrote no `docker://`, or
/// something like it.
fn meant_name(text: &str) -> Option<&str> {
    if Path::new(text).exists() {
        return None;
    }
    let schemes = ["docker:", "https://", "http://"];
    let rest = schemes.iter().find_map(|scheme| text.strip_prefix(scheme));
    let name = rest.unwrap_or(text).trim_start_matches('/');
    let is_path = rest.is_none() && text.starts_with(['/', '.']);
    (!is_path && name.contains('/') && parse_name(name).is_ok()).then_some(name)
}

/// Returns the image of a registry that somebody may have meant who named no
/// image that can be read: the text is no file, and has a tag, a digest or a
/// registry's name, as a path that was mistyped seldom has.
pub(super) fn meant_reference(text: &str) -> Option<&str> {
    if Path::new(text).exists() || text.starts_with(['/', '.']) {
        return None;
    }
    let (first, rest) = match text.split_once('/') {
        Some((first, rest)) => (Some(first), rest),
        None => (None, text),
    };
    let is_host = first.is_some_and(|first| first == "localhost" || first.contains(['.', ':']));
    let (path, is_tagged) = match rest.split_once([':', '@']) {
        Some((path, _)) => (path, true),
        None => (rest, false),
    };
    // `app.tar:1` is the image 1 of a file that is not there.
    let files = ["tar", "gz", "tgz", "zst", "json"];
    let extension = Path::new(path).extension().and_then(|e| e.to_str());
    let is_file = extension.is_some_and(|extension| files.contains(&extension))
        || Path::new(path).exists() && !is_host;
    let is_name = (is_host || is_tagged) && !is_file;
    (is_name && parse_reference(text).is_ok()).then_some(text)
}

fn destination(name: &str) -> Outcome<Reference> {
    parse_name(name).map_err(|error| Failure::usage(format!("{REGISTRY}{name}: {error}")))
}

fn remote(text: &str, name: &str) -> Outcome<Reference> {
    parse_reference(name).map_err(|error| Failure::usage(format!("{text}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(arguments: &[&str], has_closure: bool) -> Outcome<(Pushed, Vec<String>)> {
        let arguments: Vec<PathBuf> = arguments.iter().map(PathBuf::from).collect();
        let (pushed, names) = push(&arguments, has_closure, None)?;
        Ok((pushed, names.iter().map(Reference::whole).collect()))
    }

    #[test]
    fn destinations_stand_at_the_end() {
        let (pushed, names) = split(
            &["./result", "docker://h.io/app:1", "docker://h.io/app"],
            false,
        )
        .unwrap();
        assert!(matches!(pushed, Pushed::Roots(roots) if roots.len() == 1));
        assert_eq!(names, ["h.io/app:1", "h.io/app:latest"]);

        let (pushed, names) = split(&["docker://a.io/x:1", "docker://b.io/x:1"], false).unwrap();
        assert!(
            matches!(pushed, Pushed::Image(AnyImage::Remote(from)) if from.whole() == "a.io/x:1")
        );
        assert_eq!(names, ["b.io/x:1"]);

        let (pushed, names) = split(&["docker://a.io/x:1", "docker://a.io/x:2"], true).unwrap();
        assert!(matches!(pushed, Pushed::Roots(roots) if roots.is_empty()));
        assert_eq!(names, ["a.io/x:1", "a.io/x:2"]);

        let (pushed, _) = split(&["oci:dir:1", "docker://a.io/x"], false).unwrap();
        assert!(matches!(
            pushed,
            Pushed::Image(AnyImage::Stored(ImageSource::Layout { .. }))
        ));
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        for (arguments, message) in [
            (&["./result"][..], "no destination"),
            (&["./result", "ghcr.io/team/app"], "no destination"),
            (
                &["a", "docker://h.io/x", "b", "docker://h.io/x"],
                "stands before",
            ),
            (&["oci:a", "b", "docker://h.io/x"], "pushed alone"),
            (&["a", "docker://h.io/X"], "lower case"),
            (&["a", "docker://"], "empty"),
            (
                &["a", "docker://h.io/x", "docker://h.io/y"],
                "one repository",
            ),
        ] {
            let failure = split(arguments, false).unwrap_err();
            assert!(failure.message().contains(message), "{}", failure.message());
        }
    }

    #[test]
    fn a_name_that_is_nearly_right_is_understood() {
        for text in [
            "ghcr.io/team/app:1",
            "docker:ghcr.io/team/app:1",
            "docker:/ghcr.io/team/app:1",
            "docker:///ghcr.io/team/app:1",
            "https://ghcr.io/team/app:1",
        ] {
            assert_eq!(meant_name(text), Some("ghcr.io/team/app:1"), "{text}");
        }
        for text in ["app", "./a/b", "/nix/store/x", "a b/c", "oci:a/b"] {
            assert_eq!(meant_name(text), None, "{text}");
        }
    }

    #[test]
    fn an_image_of_a_registry_is_known_without_its_scheme() {
        for text in [
            "debian:12",
            "host/app:v1",
            "localhost/app",
            "ghcr.io/team/app",
            "localhost:5000/app",
        ] {
            assert_eq!(meant_reference(text), Some(text), "{text}");
        }
        for text in [
            "app",
            "out/app",
            "out/app.tar",
            "app.tar:1",
            "h.io/app.tar",
            "./app:1",
            "/a/b:1",
            "src:1",
            "oci:",
        ] {
            assert_eq!(meant_reference(text), None, "{text}");
        }
    }

    #[test]
    fn files_are_recognised() {
        let dir = tempfile::tempdir().unwrap();
        let recipe = dir.path().join("app.json");
        std::fs::write(&recipe, "{\"version\": 1}").unwrap();
        let text = recipe.to_str().unwrap();
        let (pushed, _) = split(&[text, "docker://h.io/x"], false).unwrap();
        assert!(matches!(pushed, Pushed::Recipe(path) if path == recipe));
        // A package of JSON: the config of another image, and one of several.
        let arguments = [recipe.clone(), "docker://h.io/x".into()];
        let (pushed, _) = push(&arguments, false, Some(&recipe)).unwrap();
        assert!(matches!(pushed, Pushed::Roots(_)));
        let (pushed, _) = split(&[text, text, "docker://h.io/x"], false).unwrap();
        assert!(matches!(pushed, Pushed::Roots(roots) if roots.len() == 2));
        let program = dir.path().join("app");
        std::fs::write(&program, "#!/bin/sh\n").unwrap();
        let (pushed, _) = split(&[program.to_str().unwrap(), "docker://h.io/x"], false).unwrap();
        assert!(matches!(pushed, Pushed::Roots(_)));
    }
}
