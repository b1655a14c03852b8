//! Benches of each floor. `cargo bench -p nix2oci-benches -- plan` runs those of
//! one of them, `--quick` makes it short.
//!
//! One program, since it takes minutes to link one.

mod closure;
mod content;
mod digest;
mod layer;
mod plan;
mod sink;
mod whole;

use criterion::{criterion_group, criterion_main};

criterion_group!(
    floors,
    digest::digest,
    closure::closure,
    plan::plan,
    content::content,
    layer::layer,
    sink::sink,
    whole::whole
);
criterion_main!(floors);
