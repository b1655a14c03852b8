//! `nix2oci cache`

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use nix2oci::binary_cache::{NarInfoCache, NarInfoCacheRemoval};
use nix2oci::layer::{CacheLimits, CacheRemoval, DirCache};
use nix2oci::oci::Timestamp;
use serde::Serialize;

use crate::args::{CacheArgs, CacheCommand};
use crate::display::measure;
use crate::exit::{Outcome, Status};
use crate::{host, output, select};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What `cache … --json` prints.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    version: u32,
    directory: String,
    /// Entries that are in the cache when the command is done.
    entries: u64,
    /// Bytes of their files.
    size: u64,
    /// When entries were used for the last time, to a day.
    oldest_use: Option<Timestamp>,
    newest_use: Option<Timestamp>,
    #[serde(flatten)]
    removed: Option<Removed>,
    nar_infos: NarInfos,
}

/// What is kept of what binary caches said.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct NarInfos {
    entries: u64,
    size: u64,
    /// When what is there was asked for.
    oldest: Option<Timestamp>,
    newest: Option<Timestamp>,
    #[serde(flatten)]
    removed: Option<Removed>,
}

/// What `prune` and `clear` removed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Removed {
    removed_entries: u64,
    removed_size: u64,
}

/// Tells of what is kept, or removes entries and tells how many.
pub(crate) fn cache(args: &CacheArgs) -> Outcome {
    let place = args.command.place();
    let cache = select::layer_cache(place.cache_dir.as_deref())?;
    let nar_infos = select::narinfo_cache(cache.dir());
    let (layers_removed, infos_removed) = match &args.command {
        CacheCommand::Info(_) => (None, None),
        CacheCommand::Prune(args) => {
            let limits = CacheLimits {
                used_since: host::system_time().checked_sub(DAY * args.unused_for),
                max_entries: args.max_entries,
            };
            let layers = cache.prune(&limits)?;
            (Some(layers), Some(nar_infos.prune(limits.used_since)?))
        }
        CacheCommand::Clear(_) => (Some(cache.clear()?), Some(nar_infos.clear()?)),
    };
    let mut report = Report::new(&cache, layers_removed)?;
    report.nar_infos = NarInfos::new(&nar_infos, infos_removed)?;
    let text = if place.json {
        output::json(&report)
    } else {
        report.to_text().into_bytes()
    };
    output::print(&text)?;
    Ok(Status::Done)
}

impl Report {
    fn new(cache: &DirCache, removal: Option<CacheRemoval>) -> Outcome<Self> {
        let info = cache.info()?;
        Ok(Self {
            version: 1,
            directory: cache.dir().display().to_string(),
            entries: info.entries,
            size: info.bytes,
            oldest_use: info.oldest_use.and_then(timestamp),
            newest_use: info.newest_use.and_then(timestamp),
            removed: removal.map(|removal| Removed {
                removed_entries: removal.entries,
                removed_size: removal.bytes,
            }),
            nar_infos: NarInfos::default(),
        })
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        let mut field = |name: &str, value: String| {
            let _ = writeln!(text, "{name:<10} {value}");
        };
        let sized = |entries: u64, bytes: u64| format!("{entries}, {}", measure::bytes(bytes));
        field("directory", self.directory.clone());
        if let Some(removed) = &self.removed {
            field(
                "removed",
                sized(removed.removed_entries, removed.removed_size),
            );
        }
        field("entries", sized(self.entries, self.size));
        for (name, time) in [
            ("oldest use", self.oldest_use),
            ("newest use", self.newest_use),
        ] {
            if let Some(time) = time {
                field(name, time.to_string());
            }
        }
        let infos = &self.nar_infos;
        if let Some(removed) = infos.removed.as_ref().filter(|r| r.removed_entries > 0) {
            let removed = sized(removed.removed_entries, removed.removed_size);
            field("narinfos", format!("{removed} removed"));
        }
        if infos.entries > 0 {
            field("narinfos", sized(infos.entries, infos.size));
        }
        text
    }
}

impl NarInfos {
    fn new(cache: &NarInfoCache, removal: Option<NarInfoCacheRemoval>) -> Outcome<Self> {
        let info = cache.info()?;
        Ok(Self {
            entries: info.entries,
            size: info.bytes,
            oldest: info.oldest.and_then(timestamp),
            newest: info.newest.and_then(timestamp),
            removed: removal.map(|removal| Removed {
                removed_entries: removal.entries,
                removed_size: removal.bytes,
            }),
        })
    }
}

/// Returns a file's time in whole seconds; `None` before 1970, which is no time
/// of a use.
fn timestamp(time: SystemTime) -> Option<Timestamp> {
    let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Timestamp::from_unix_seconds(since_1970.as_secs()).ok()
}
