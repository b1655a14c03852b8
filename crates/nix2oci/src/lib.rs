//! Turns Nix store closures into OCI images.
//!
//! The way from store paths to an image is one line, and each word on it is a
//! module: a [`closure`] of [`store`] paths is [`plan`]ned into [`layer`]s that
//! make an [`image`], written to a [`sink`]. [`build()`] walks it once;
//! [`push`](build::push) walks it to a [`registry`] and makes only what is not
//! there.
//!
//! ```no_run
//! use std::path::Path;
//! use std::sync::Arc;
//!
//! use nix2oci::closure::{SourceOptions, automatic, read_closure};
//! use nix2oci::image::ImageConfig;
//! use nix2oci::oci::{parse_names, parse_platform};
//! use nix2oci::sink::Archive;
//! use nix2oci::{Context, ImageSpec, LocalStore, StoreDir, build};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cx = Context::default();
//! let store_dir = StoreDir::default();
//! let root = store_dir.parse_path("/nix/store/…-hello-2.12.1")?;
//! let source = automatic(&cx, &SourceOptions::default())?;
//! let closure = read_closure(&cx, &store_dir, &[source.as_ref()], &[root])?;
//!
//! let mut config = ImageConfig::new(parse_platform("linux/amd64")?);
//! config.set_entrypoint(&["/nix/store/…-hello-2.12.1/bin/hello".to_owned()]);
//! let mut spec = ImageSpec::new(closure, Arc::new(LocalStore::new(&store_dir)), config);
//! spec.names = parse_names("example.org/hello", &["2.12.1"])?;
//!
//! let mut sink = Archive::create(Path::new("hello.tar"))?;
//! println!("{}", build(&cx, &spec, &mut sink)?.manifest_digest);
//! # Ok(())
//! # }
//! ```
//!
//! **What a caller may rely on.** The library reads no environment, home
//! directory, clock or terminal: the caller passes everything, threads,
//! progress and cancellation in the [`Context`]. The same closure and options
//! give the same bytes, on every machine and with any number of threads.
//! Memory does not grow with files or layers. Nothing has its final name before
//! the image is complete. An [`Error`] says what happened to which thing
//! ([`Error::kind`]) and what can be done about it ([`Error::class`]).
//!
//! **What a caller may replace.** Where closures come from
//! ([`ClosureSource`]), what is inside a store path ([`ContentSource`]), which
//! paths share a layer ([`LayerStrategy`]), where images go ([`ImageSink`]).
#![forbid(unsafe_code)]

#[cfg(feature = "binary-cache")]
pub mod binary_cache;
pub mod build;
pub mod closure;
pub mod content;
pub mod context;
#[cfg(feature = "net")]
pub mod credentials;
pub mod daemon;
mod decode;
pub mod digest;
pub mod error;
pub mod image;
pub mod input;
pub mod layer;
#[cfg(any(feature = "binary-cache", feature = "registry"))]
#[cfg_attr(
    not(feature = "registry"),
    expect(dead_code, unused_imports, reason = "some is for registries only")
)]
mod net;
pub mod oci;
mod parallel;
pub mod plan;
#[cfg(feature = "registry")]
pub mod registry;
pub mod sink;
pub mod store;

pub use build::{BuildReport, ImagePlan, ImageSpec, Recipe, build, resolve};
pub use closure::{Closure, ClosureSource};
pub use content::{ContentSource, LocalStore};
pub use context::{CancelFlag, Context, Event, Observer};
pub use digest::{DiffId, Digest};
pub use error::{Error, ErrorClass, ErrorKind, Result};
pub use layer::{Compression, LayerRecord, Packing};
pub use plan::{LayerPlan, LayerStrategy};
pub use sink::ImageSink;
pub use store::{NarHash, PathInfo, StoreDir, StorePath};

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
