//! Where what is inside store paths comes from.

use std::sync::Arc;

use nix2oci::content::{ContentOptions, content_kind, open_content};
use nix2oci::{ContentSource, Context, StoreDir};

use crate::args::{ClosureArgs, ContentArgs};
use crate::exit::{Failure, Outcome};
use crate::host;

/// Opens the content of store paths in `store_dir`.
pub(crate) fn content(
    cx: &Context,
    args: &ContentArgs,
    store_dir: &StoreDir,
) -> Outcome<Arc<dyn ContentSource>> {
    let options = ContentOptions {
        store_dir: store_dir.clone(),
        store_root: args.store_root.clone(),
        daemon_socket: host::daemon_socket(args.store_root.as_deref()),
    };
    let text = args.content.first().map_or("local", String::as_str);
    content_kind(text).map_err(Failure::misuse)?;
    Ok(open_content(cx, &options, text)?)
}

/// Returns whether content may come from anywhere but this machine's disk.
pub(crate) fn is_far(args: &ClosureArgs) -> bool {
    let contents = args.contents.content.iter();
    contents
        .filter_map(|text| content_kind(text).ok())
        .any(|(kind, _)| !kind.is_local)
}
