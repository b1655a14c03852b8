//! Texts in messages.

use std::fmt;

/// A text in quotes, as errors show it: not more of it than a line holds, since
/// a wrong file may be one long line of anything.
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 80;
        let mut shown = 0;
        let fits = |c: &char| {
            shown += c.escape_debug().count();
            shown <= LONGEST
        };
        let start: String = self.0.chars().take_while(fits).collect();
        let more = if start.len() < self.0.len() {
            "…"
        } else {
            ""
        };
        write!(f, "{start:?}{more}")
    }
}
