//! Closures made by hand, as text.

/// Returns the base name and the full path of a store path.
pub fn store_path(n: usize, name: &str) -> (String, String) {
    let base = format!("{n:032}-{name}");
    let path = format!("/nix/store/{base}");
    (base, path)
}

/// Returns a text reference graph.
pub fn graph(paths: &[(String, Vec<String>)]) -> String {
    let mut text = String::new();
    for (path, references) in paths {
        text.push_str(&format!("{path}\n\n{}\n", references.len()));
        for reference in references {
            text.push_str(&format!("{reference}\n"));
        }
    }
    text
}
