//! `nix2oci check`

use std::fmt::Write as _;

use nix2oci::image::{Problem, Severity};
use serde::Serialize;

use crate::args::CheckArgs;
use crate::display::{Talk, measure};
use crate::exit::{Outcome, Status};
use crate::{output, select};

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
    let image = select::any_image(&args.image)?;
    let cx = select::context(None, talk)?;
    let reader = select::open_image(&cx, &image, &args.registry)?;
    let problems = nix2oci::image::check(&cx, &reader)?;
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
    for problem in problems {
        let _ = writeln!(text, "{problem}");
    }
    if is_good {
        text.push_str("ok\n");
    } else {
        let errors = problems.iter().filter(|p| p.severity() == Severity::Error);
        let _ = writeln!(text, "{}", measure::count(errors.count(), "error"));
    }
    text
}
