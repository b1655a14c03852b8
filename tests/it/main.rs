//! Tests of the whole: laws over every implementation of a seam, and runs of
//! the command with the real tools.

mod base;
mod closure;
mod copy;
mod credentials;
mod faults;
mod floors;
mod html;
mod image_check;
mod image_read;
mod image_store_paths;
mod image_tree;
mod index;
mod index_tools;
mod layer_cache;
mod layer_tar;
mod limits;
mod load;
mod loaders;
mod lock;
mod nix;
mod nix_db;
mod plan;
mod push;
mod push_command;
mod push_end;
mod push_hostile;
mod registry_client;
mod root_tree;
mod root_tree_copies;
mod root_tree_loaders;
mod same_bytes;
mod schemas;
mod sinks;
mod tar_readers;
mod tools_read;
