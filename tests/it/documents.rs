//! The documents for users: their links lead somewhere, and the commands in them
//! have the options that the help has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix2oci_tests::command::{nix2oci, repository, run};

fn documents() -> Vec<PathBuf> {
    let cli = repository().join("crates/nix2oci-cli");
    let mut all = vec![
        repository().join("README.md"),
        cli.join("JSON.md"),
        cli.join("ROOT-TREE.md"),
    ];
    let pages = fs::read_dir(repository().join("docs")).unwrap();
    all.extend(pages.map(|page| page.unwrap().path()));
    assert!(all.len() > 5, "{all:?}");
    all
}

/// The lines of a document, each with the language of the code that it is in.
fn lines(text: &str) -> Vec<(Option<&str>, &str)> {
    let mut code = None;
    let mut lines = Vec::new();
    for line in text.lines() {
        match (code, line.trim_start().strip_prefix("```")) {
            (None, Some(language)) => code = Some(language),
            (Some(_), Some("")) => code = None,
            (_, None) => lines.push((code, line)),
            (Some(_), Some(_)) => panic!("a block begins in a block: {line}"),
        }
    }
    assert_eq!(code, None, "the last block does not end");
    lines
}

/// What GitHub calls a heading in links.
fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = heading.chars().filter_map(|c| match c {
        ' ' => Some('-'),
        '-' | '_' => Some(c),
        c => c.is_alphanumeric().then_some(c),
    });
    kept.collect()
}

fn headings(path: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(path).unwrap();
    let lines = lines(&text).into_iter();
    let headings = lines.filter(|(code, line)| code.is_none() && line.starts_with('#'));
    headings.map(|(_, line)| anchor(line)).collect()
}

#[test]
fn links_lead_to_files_and_headings() {
    let mut links = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for (code, line) in lines(&text) {
            let targets = line.split("](").skip(1).filter(|_| code.is_none());
            for target in targets.filter_map(|rest| rest.split(')').next()) {
                if target.starts_with("http") {
                    continue;
                }
                links += 1;
                let (file, heading) = target.split_once('#').unwrap_or((target, ""));
                let file = match file {
                    "" => document.clone(),
                    file => document.parent().unwrap().join(file),
                };
                let name = document.display();
                assert!(file.exists(), "{name}: {target} leads nowhere");
                assert!(
                    heading.is_empty() || headings(&file).contains(heading),
                    "{name}: {target} leads to no heading"
                );
            }
        }
    }
    assert!(links > 10, "{links}");
}

/// A heading that is not alone is shown as text.
#[test]
fn headings_have_empty_lines_around_them() {
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        let lines = lines(&text);
        for neighbours in lines.windows(2) {
            let [(_, before), (code, heading)] = neighbours else {
                unreachable!("windows of two")
            };
            let is_heading = code.is_none() && heading.starts_with('#');
            let name = document.display();
            assert!(!is_heading || before.is_empty(), "{name}: {heading}");
        }
    }
}

#[test]
fn commands_have_the_options_of_the_help() {
    let mut helps: BTreeMap<String, String> = BTreeMap::new();
    let mut options = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for (code, line) in lines(&text) {
            let command = line.strip_prefix("$ ").unwrap_or(line);
            let (Some("sh" | "console"), Some(command)) = (code, command.strip_prefix("nix2oci "))
            else {
                continue;
            };
            let mut words = command.split([' ', '=', '|', '#']);
            let verb = words.next().unwrap().to_owned();
            let help = helps
                .entry(verb)
                .or_insert_with_key(|verb| run(Command::new(nix2oci()).args(["help", verb])));
            let own = command.split(" | ").next().unwrap().split([' ', '=']);
            for option in own.filter(|word| word.starts_with("--")) {
                let known = help.split_whitespace().map(|word| {
                    let end = word.find([',', '[', '=']).unwrap_or(word.len());
                    &word[..end]
                });
                let name = document.display();
                assert!({ known }.any(|word| word == option), "{name}: {line}");
                options += 1;
            }
        }
    }
    assert!(options > 30, "{options}");
}
