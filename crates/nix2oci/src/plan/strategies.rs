//! The table of strategies, by name.

use std::sync::Arc;

use crate::error::{Error, Result};

use super::{Cost, Largest, LayerStrategy, Popularity, Single};

/// A line of [`STRATEGIES`].
#[derive(Debug, Clone, Copy)]
pub struct StrategyEntry {
    /// Its name, as in `--layers`.
    pub name: &'static str,
    /// What may follow the name and a colon, as help shows it, such as `N`;
    /// `None` if nothing may.
    pub argument: Option<&'static str>,
    /// What it does, in one line for people.
    pub help: &'static str,
    /// Makes it. Gets the argument, if one was given, only if `argument` says
    /// that there may be one.
    pub make: fn(argument: Option<&str>) -> Result<Arc<dyn LayerStrategy>>,
}

/// All strategies that have a name. An embedder can pass its own without one.
pub const STRATEGIES: &[StrategyEntry] = &[
    StrategyEntry {
        name: "cost",
        argument: None,
        help: "the fewest bytes to send in the next releases, by what depends on what",
        make: |_| Ok(Arc::new(Cost)),
    },
    StrategyEntry {
        name: "largest",
        argument: None,
        help: "the largest store paths apart, each with what only it needs (nixpkgs' auto-layer)",
        make: |_| Ok(Arc::new(Largest)),
    },
    StrategyEntry {
        name: "popularity",
        argument: None,
        help: "the store paths that most others need alone, all else together (nixpkgs' popularity contest)",
        make: |_| Ok(Arc::new(Popularity)),
    },
    StrategyEntry {
        name: "single",
        argument: None,
        help: "everything in one layer",
        make: |_| Ok(Arc::new(Single)),
    },
];

/// The strategy to take if none is asked for: its name in [`STRATEGIES`].
pub const DEFAULT_STRATEGY: &str = "cost";

/// Returns the strategy that `spec` names, `NAME` or `NAME:ARGUMENT`.
///
/// # Errors
///
/// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if there is no
/// such strategy, or if the argument is not one that it takes.
pub fn strategy(spec: &str) -> Result<Arc<dyn LayerStrategy>> {
    let (name, argument) = match spec.split_once(':') {
        Some((name, argument)) => (name, Some(argument)),
        None => (spec, None),
    };
    let refuse = |problem| Error::invalid(format!("layer strategy {spec:?}"), problem);
    let entry = STRATEGIES
        .iter()
        .find(|entry| entry.name == name)
        .ok_or_else(|| {
            let names: Vec<&str> = STRATEGIES.iter().map(|entry| entry.name).collect();
            refuse(format!("expected one of {}", names.join(", ")))
        })?;
    if entry.argument.is_none() && argument.is_some() {
        return Err(refuse(format!("{name} takes no argument")));
    }
    (entry.make)(argument)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_strategy_is_found_by_its_name() {
        for entry in STRATEGIES {
            assert_eq!(strategy(entry.name).unwrap().name(), entry.name);
        }
        assert_eq!(strategy(DEFAULT_STRATEGY).unwrap().name(), "cost");
    }

    #[test]
    fn names_are_in_order_and_plain() {
        assert!(STRATEGIES.is_sorted_by(|a, b| a.name < b.name));
        for entry in STRATEGIES {
            assert!(
                entry
                    .name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b == b'-')
            );
        }
    }

    #[test]
    fn what_is_not_a_strategy_is_refused() {
        let error = |spec| strategy(spec).err().unwrap().to_string();
        assert_eq!(
            error("bigest"),
            "layer strategy \"bigest\": expected one of cost, largest, popularity, single"
        );
        assert_eq!(
            error(""),
            "layer strategy \"\": expected one of cost, largest, popularity, single"
        );
        assert_eq!(
            error("largest:9"),
            "layer strategy \"largest:9\": largest takes no argument"
        );
        assert_eq!(
            error("single:"),
            "layer strategy \"single:\": single takes no argument"
        );
    }
}
