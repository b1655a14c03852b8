//! `nix2oci check`

use std::collections::BTreeMap;
use std::fmt::Write as _;

use nix2oci::image::{Problem, Severity, check_against_store};
use nix2oci::{LocalStore, StoreDir};
use serde::Serialize;

use crate::args::CheckArgs;
use crate::display::{Talk, measure};
use crate::exit::{Failure, Outcome, Status};
use crate::select::RecipeOrImage;
use crate::{output, select};

/// Warnings of one rule that are told to people.
const MOST_ALIKE: usize = 5;

/// What `check --json` prints.
#[derive(Debug, Serialize)]
struct Findings<'a> {
    version: u32,
    image: &'a str,
    /// Whether there is no error; warnings alone leave an image good.
    ok: bool,
    problems: Vec<Finding>,
}

#[derive(Debug, Serialize)]
struct Finding {
    /// `error` or `warning`.
    severity: String,
    /// The rule that is broken, such as `diff-id`; stable across versions.
    rule: &'static str,
    /// Where, for people.
    place: String,
    /// What, for people.
    message: String,
}

/// Prints `ok`, or every problem of an image.
pub(crate) fn check(args: &CheckArgs, talk: &Talk) -> Outcome {
    let image = match select::recipe_or_image(&args.image)? {
        RecipeOrImage::Image(image) => image,
        RecipeOrImage::Recipe(file) => {
            let problem = format!(
                "{} is a recipe, which has no layers to check",
                file.display()
            );
            return Err(Failure::input(problem)
                .hint("push, copy, load and index make its image, and check each layer"));
        }
    };
    let cx = select::context(None, talk)?;
    let reader = select::open_image(&cx, &image, &args.registry)?;
    let mut problems = nix2oci::image::check(&cx, &reader)?;
    if args.against_store {
        let image = reader.image(&cx, args.platform.as_ref())?;
        let store_dir = StoreDir::default();
        let store = match &args.store_root {
            Some(root) => LocalStore::below(root, &store_dir),
            None => LocalStore::new(&store_dir),
        };
        problems.extend(check_against_store(
            &cx, &reader, &image, &store_dir, &store,
        )?);
    }
    let is_good = problems.iter().all(|p| p.severity() != Severity::Error);
    let text = if args.json {
        output::json(&Findings {
            version: 1,
            image: &args.image,
            ok: is_good,
            problems: problems.iter().map(finding).collect(),
        })
    } else {
        to_text(&problems, is_good).into_bytes()
    };
    // The verdict counts even if nobody reads the list to its end.
    let verdict = if is_good {
        Status::Done
    } else {
        Status::Problems
    };
    match output::print(&text) {
        Err(failure) if failure.is_worth_telling() => Err(failure),
        _ => Ok(verdict),
    }
}

fn finding(problem: &Problem) -> Finding {
    Finding {
        severity: problem.severity().to_string(),
        rule: problem.kind.rule(),
        place: problem.place.to_string(),
        message: problem.kind.to_string(),
    }
}

fn to_text(problems: &[Problem], is_good: bool) -> String {
    let mut text = String::new();
    // What one program does in every layer would hide the rest.
    let mut alike: BTreeMap<&str, usize> = BTreeMap::new();
    for problem in problems {
        if problem.severity() == Severity::Warning {
            let count = alike.entry(problem.kind.rule()).or_default();
            *count += 1;
            if *count > MOST_ALIKE {
                continue;
            }
        }
        let _ = writeln!(text, "{problem}");
    }
    for (rule, count) in alike {
        if let Some(more @ 1..) = count.checked_sub(MOST_ALIKE) {
            let more = measure::count(more, "more finding");
            let _ = writeln!(text, "warning: {more} of {rule}; --json tells them all");
        }
    }
    if is_good {
        text.push_str("ok\n");
    } else {
        let errors = problems.iter().filter(|p| p.severity() == Severity::Error);
        let _ = writeln!(text, "{}", measure::count(errors.count(), "error"));
    }
    text
}

#[cfg(test)]
mod tests {
    use nix2oci::image::{Place, ProblemKind};

    use super::*;

    #[test]
    fn warnings_of_one_rule_do_not_hide_the_rest() {
        let layer = |index: usize, kind| Problem {
            place: Place::Layer {
                index,
                digest: "sha256:x".to_owned(),
            },
            kind,
        };
        let warning = || ProblemKind::DanglingLink {
            link: "/a".to_owned(),
            target: "/b".to_owned(),
            others: 0,
        };
        let mut problems: Vec<Problem> = (0..8).map(|index| layer(index, warning())).collect();
        problems.push(layer(8, ProblemKind::Missing));
        let text = to_text(&problems, false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 8, "{text}");
        assert_eq!(
            lines[5..],
            [
                "error: layer 8 sha256:x: it is not there",
                "warning: 3 more findings of dangling-link; --json tells them all",
                "1 error"
            ]
        );
        problems.truncate(5);
        assert_eq!(to_text(&problems, true).lines().count(), 6);
    }
}
