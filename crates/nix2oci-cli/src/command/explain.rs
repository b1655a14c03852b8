//! `nix2oci explain`

use std::cmp::Reverse;
use std::fmt::Write as _;

use nix2oci::Closure;
use nix2oci::closure::{ChainNode, Dominators, NamedPath, PathId};
use nix2oci::image::RootReason;
use serde::Serialize;

use crate::args::ExplainArgs;
use crate::display::{Talk, Verbosity, measure};
use crate::exit::{Failure, Outcome, Status};
use crate::select::Explained;
use crate::{output, select};

/// Lines of one kind that are printed unless more is asked for.
const SHOWN: usize = 10;

/// Lines of a tree that are printed unless more is asked for.
const SHOWN_OF_TREE: usize = 1000;

/// Store paths that an unclear name is told to fit.
const CANDIDATES: usize = 20;

/// What `explain --json` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Explanation {
    version: u32,
    path: Sized,
    /// `null` if it is no root; else `given`, or a [`RootReason`].
    root: Option<&'static str>,
    /// Whether a base has it; `null` if that is not known.
    base: Option<bool>,
    /// Chains from roots to the path, 2^64-1 if there are more.
    chains: u64,
    /// The shortest, from a root to the path.
    shortest_chain: Vec<Sized>,
    /// All of them, if that was asked for.
    tree: Option<Vec<Node>>,
    /// What refers to it directly.
    referrers: Vec<Sized>,
    /// What all chains go through, the nearest first.
    only_through: Vec<Sized>,
    /// What would go with it.
    removal: Removal,
    totals: Totals,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Sized {
    path: String,
    nar_size: Option<u64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    depth: usize,
    path: String,
    repeated: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Removal {
    /// The path itself and all that is there only because of it, without what a
    /// base has.
    paths: Vec<Sized>,
    nar_size: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Totals {
    paths: usize,
    nar_size: u64,
}

/// Prints why a store path is there.
pub(crate) fn explain(args: &ExplainArgs, talk: &Talk) -> Outcome {
    let cx = select::context(args.image.run.threads, talk)?;
    let explained = select::explained(&cx, args, talk)?;
    let path = named(&explained.closure, &args.path)?;
    let answer = Answer::new(&explained, path);
    let text = if args.json {
        output::json(&answer.document(args.all))
    } else {
        let all_lines = talk.verbosity() >= Verbosity::Verbose;
        answer.to_text(args.all, all_lines).into_bytes()
    };
    output::print(&text)?;
    Ok(Status::Done)
}

/// Returns the store path that is meant.
fn named(closure: &Closure, name: &str) -> Outcome<PathId> {
    let several = match closure.find_named(name) {
        NamedPath::One(path) => return Ok(path),
        NamedPath::Several(paths) => paths,
        NamedPath::None => {
            let failure = Failure::input(format!(
                "--path {name}: none of the {} is it",
                measure::count(closure.len(), "store path")
            ));
            let similar = closure.similar_names(name, 5);
            return Err(if similar.is_empty() {
                failure
            } else {
                failure.hint(format!("is one of these meant: {}?", similar.join(", ")))
            });
        }
    };
    let mut list = String::new();
    for path in several.iter().take(CANDIDATES) {
        let _ = write!(list, "\n  {}", closure.path(*path));
    }
    if several.len() > CANDIDATES {
        let _ = write!(list, "\n  and {} more", several.len() - CANDIDATES);
    }
    Err(Failure::input(format!(
        "--path {name} may be any of {}",
        measure::count(several.len(), "store path")
    ))
    .hint(format!("say more of the one that is meant:{list}")))
}

/// What is to be told of a store path.
struct Answer<'a> {
    explained: &'a Explained,
    path: PathId,
    chain: Vec<PathId>,
    chains: u64,
    /// What would go with it, itself included, in the closure's order; without
    /// what is of a base.
    removed: Vec<PathId>,
    /// What all chains go through, the nearest first.
    only_through: Vec<PathId>,
}

impl<'a> Answer<'a> {
    fn new(explained: &'a Explained, path: PathId) -> Self {
        let closure = &explained.closure;
        let dominators = Dominators::new(closure);
        // What a base has stays with it.
        let mut removed = dominators.dominated(path, closure);
        removed.retain(|id| explained.is_of_base(*id) != Some(true));
        Self {
            explained,
            path,
            chain: closure.shortest_chain(path),
            chains: closure.count_chains(path),
            removed,
            only_through: dominators.of(path).collect(),
        }
    }

    fn closure(&self) -> &Closure {
        &self.explained.closure
    }

    fn removed_size(&self) -> u64 {
        let sizes = self.removed.iter().map(|id| self.closure().nar_size(*id));
        sizes.sum()
    }

    fn sized(&self, id: PathId) -> Sized {
        Sized {
            path: self.closure().full_path(id),
            nar_size: self.closure().info(id).nar_size,
        }
    }

    fn document(&self, all: bool) -> Explanation {
        let sized = |ids: &[PathId]| ids.iter().map(|id| self.sized(*id)).collect();
        let tree = || {
            let tree = self.closure().chain_tree(self.path);
            let node = |node: ChainNode| Node {
                depth: node.depth,
                path: self.closure().full_path(node.path),
                repeated: node.is_repeated,
            };
            tree.into_iter().map(node).collect()
        };
        let is_root = self.closure().roots().contains(&self.path);
        let reason = self.explained.reasons.get(&self.path);
        Explanation {
            version: 1,
            path: self.sized(self.path),
            root: is_root.then(|| reason.map_or("given", |reason| reason.name())),
            base: self.explained.is_of_base(self.path),
            chains: self.chains,
            shortest_chain: sized(&self.chain),
            tree: all.then(tree),
            referrers: sized(self.closure().referrers(self.path)),
            only_through: sized(&self.only_through),
            removal: Removal {
                paths: sized(&self.largest_first(&self.removed)),
                nar_size: self.removed_size(),
            },
            totals: Totals {
                paths: self.closure().len(),
                nar_size: self.closure().total_nar_size(),
            },
        }
    }

    fn to_text(&self, all: bool, all_lines: bool) -> String {
        let closure = self.closure();
        let mut text = format!("{}\n", closure.full_path(self.path));
        let size = closure.info(self.path).nar_size;
        let size = size.map_or_else(|| "of unknown size".to_owned(), measure::bytes);
        let _ = match self.removed.len() {
            0 => writeln!(text, "{size}; without it nothing less"),
            paths => writeln!(
                text,
                "{size}; without it {} and {} less",
                measure::count(paths, "store path"),
                measure::bytes(self.removed_size())
            ),
        };
        if self.explained.is_of_base(self.path) == Some(true) {
            text.push_str("the base has it: it is not added to the image\n");
        }
        self.chains_to_text(all, all_lines, &mut text);
        let referrers = self.largest_first(closure.referrers(self.path));
        let mut section = |heading: &str, ids: &[PathId]| {
            if ids.is_empty() {
                return;
            }
            let _ = writeln!(text, "\n{heading}");
            let shown = if all_lines { ids.len() } else { SHOWN };
            for id in ids.iter().take(shown) {
                let size = measure::bytes(closure.nar_size(*id));
                let _ = writeln!(text, "  {size:>9}  {}", closure.full_path(*id));
            }
            if ids.len() > shown {
                let _ = writeln!(text, "  and {} more: -v prints all", ids.len() - shown);
            }
        };
        let heading = match referrers.len() {
            1 => "one store path refers to it:".to_owned(),
            n => format!("{n} store paths refer to it, and any of them keeps it:"),
        };
        section(&heading, &referrers);
        section(
            "all chains go through these, so that it goes with any of them:",
            &self.only_through,
        );
        let others = self.removed.iter().copied();
        let others: Vec<PathId> = others.filter(|id| *id != self.path).collect();
        section(
            "only because of it there are:",
            &self.largest_first(&others),
        );
        text
    }

    fn chains_to_text(&self, all: bool, all_lines: bool, text: &mut String) {
        let heading = match self.chains {
            _ if self.chain.len() == 1 && !all => "it is a root itself:".to_owned(),
            1 => "the only chain from a root to it:".to_owned(),
            u64::MAX if all => "all chains from roots to it, more than can be counted:".to_owned(),
            u64::MAX => {
                "a shortest chain from a root to it, of more than can be counted:".to_owned()
            }
            n if all => format!("all chains from roots to it, {n} of them:"),
            n => format!("a shortest of {n} chains from a root to it:"),
        };
        let _ = writeln!(text, "\n{heading}");
        let tree = if all {
            self.closure().chain_tree(self.path)
        } else {
            let nodes = self.chain.iter().zip(0..);
            let node = |(path, depth): (&PathId, usize)| ChainNode {
                depth,
                path: *path,
                is_repeated: false,
            };
            nodes.map(node).collect()
        };
        let shown = if all_lines { tree.len() } else { SHOWN_OF_TREE };
        for node in tree.iter().take(shown) {
            let (indent, path) = (
                "  ".repeat(node.depth + 1),
                self.closure().full_path(node.path),
            );
            let mark = if node.is_repeated { " (*)" } else { "" };
            let reason = match node.depth {
                0 => self.reason(node.path),
                _ => "",
            };
            let _ = writeln!(text, "{indent}{path}{mark}{reason}");
        }
        if tree.len() > shown {
            let more = tree.len() - shown;
            let _ = writeln!(text, "  and {more} lines more: -v prints all");
        }
        if tree.iter().any(|node| node.is_repeated) {
            text.push_str("  (*) what is below it is shown above\n");
        }
    }

    /// Returns why a path is a root, for behind it.
    fn reason(&self, root: PathId) -> &'static str {
        match self.explained.reasons.get(&root) {
            None => "",
            Some(RootReason::Config) => "  named by the config",
            Some(RootReason::Symlink) => "  a symlink leads to it",
            Some(RootReason::Unreferenced) => "  nothing refers to it",
        }
    }

    fn largest_first(&self, ids: &[PathId]) -> Vec<PathId> {
        let mut ids = ids.to_vec();
        ids.sort_by_key(|id| {
            let path = self.closure().path(*id);
            (
                Reverse(self.closure().nar_size(*id)),
                path.name(),
                path.hash_part(),
            )
        });
        ids
    }
}
