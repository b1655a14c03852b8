//! Support for the tests: what stands in for a store, images made by hand,
//! readers that share no code with the library, registries and binary caches
//! (real ones and ones that fail on request), and a bad network in front.

pub mod browser;
pub mod cache_server;
pub mod certificates;
pub mod chaos_proxy;
pub mod command;
pub mod docker_registry;
pub mod fake_registry;
mod fixture_store;
pub mod handmade_closure;
pub mod handmade_image;
pub mod http_server;
pub mod image_files;
mod isolated;
mod memory_store;
pub mod nginx;
pub mod nix_cache;
mod nix_daemon;
pub mod request_log;
mod tree;

pub use browser::Browser;
pub use cache_server::CacheServer;
pub use chaos_proxy::ChaosProxy;
pub use docker_registry::DockerRegistry;
pub use fake_registry::FakeRegistry;
pub use fixture_store::FixtureStore;
pub use http_server::HttpServer;
pub use isolated::Isolated;
pub use memory_store::{MemoryStore, Node};
pub use nginx::Nginx;
pub use nix_cache::{CacheKey, NixCache};
pub use nix_daemon::NixDaemon;
pub use tree::{Object, Tree};
