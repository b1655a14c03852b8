//! The command `nix2oci`: Nix store closures to OCI images.
//!
//! - [`args`]: what was typed; [`select`]: what is meant
//! - [`command`]: one file for each verb
//! - [`report`]: the JSON documents; [`output`], [`stdout`]: where results are written
//! - [`html`]: the page of `--html`
//! - [`display`]: progress; [`exit`], [`hints`]: exit codes, errors and what to try
//! - [`host`], [`signal`], [`program`]: the machine around, and other programs on it
#![forbid(unsafe_code)]

mod args;
mod command;
mod display;
mod exit;
mod hints;
mod host;
mod html;
mod output;
mod program;
mod report;
mod select;
mod signal;
mod stdout;
mod tips;

use std::process::ExitCode;

use args::{Cli, Command};
use display::Talk;
use exit::{Outcome, Status};

fn main() -> ExitCode {
    match Cli::parse_parts(std::env::args_os().collect()) {
        Ok(cli) => run(&cli).into(),
        Err(error) => {
            let error = tips::with_tip(error);
            // Help goes to standard output and is done; if nobody reads it any
            // more, there is nobody to tell.
            let _ = error.print();
            if error.use_stderr() {
                Status::Usage.into()
            } else {
                Status::Done.into()
            }
        }
    }
}

fn run(cli: &Cli) -> Status {
    let talk = Talk::new(&cli.talk, cli.command.sends());
    dispatch(&cli.command, &talk).unwrap_or_else(|failure| {
        if failure.is_worth_telling() {
            talk.failed(&failure);
        }
        failure.status()
    })
}

fn dispatch(command: &Command, talk: &Talk) -> Outcome {
    match command {
        Command::Build(args) => command::build(args, talk),
        Command::Push(args) => command::push(args, talk),
        Command::Resolve(args) => command::resolve(args, talk),
        Command::Layer(args) => command::layer(args, talk),
        Command::Plan(args) => command::plan(args, talk),
        Command::Simulate(args) => command::simulate(args, talk),
        Command::Copy(args) => command::copy(args, talk),
        Command::Index(args) => command::index(args, talk),
        Command::Lock(args) => command::lock(args, talk),
        Command::Load(args) => command::load(args, talk),
        Command::Inspect(args) => command::inspect(args, talk),
        Command::Diff(args) => command::diff(args, talk),
        Command::Explain(args) => command::explain(args, talk),
        Command::Check(args) => command::check(args, talk),
        Command::Cache(args) => command::cache(args),
        Command::Completions(args) => command::completions(args),
        Command::Man(args) => command::man(args),
    }
}
