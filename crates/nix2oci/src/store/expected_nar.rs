//! What the NAR of a store path must be.

use super::NarHash;

/// What the NAR of a store path must be, as somebody who is believed told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpectedNar {
    /// Its hash.
    pub nar_hash: NarHash,
    /// Its bytes, if they were told as well.
    pub nar_size: Option<u64>,
}
