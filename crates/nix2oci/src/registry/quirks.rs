//! What is known of registries before they are asked, and what they showed.
//!
//! A registry that can be told by its host has a row in [`ROWS`], with the
//! evidence for it. All others are taken at their word: what one refuses is
//! kept in [`Seen`] and not tried on it again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const MIB: u64 = 1 << 20;

/// Something that a registry does otherwise than the specification has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quirk {
    /// A blob is one `PUT` and nothing else: neither chunks nor one `PATCH`.
    WholeBlobsOnly,
    /// A chunk has at most so many bytes.
    MaxChunk(u64),
    /// There is no referrers API, and asking for it leads astray.
    NoReferrers,
}

/// A quirk of some hosts.
#[derive(Debug)]
pub(super) struct Row {
    /// Hosts; `*.` stands for one or more names.
    pub(super) hosts: &'static [&'static str],
    pub(super) quirk: Quirk,
    /// Where it was seen.
    #[cfg_attr(not(test), expect(dead_code, reason = "it is for people and tests"))]
    pub(super) evidence: &'static [&'static str],
}

/// The largest chunk that ghcr.io takes. An on-premises GitHub, whose host
/// tells nothing, says so by 416.
pub(super) const SMALL_CHUNK: u64 = 4 * MIB;

/// All that is known by host.
pub(super) const ROWS: &[Row] = &[
    Row {
        hosts: &["gcr.io", "*.gcr.io", "*.pkg.dev"],
        quirk: Quirk::WholeBlobsOnly,
        evidence: &[
            "dotnet/sdk-container-builds#287",
            "kitops#777",
            "kitops#780",
            "skopeo#1101",
        ],
    },
    Row {
        hosts: &["ghcr.io"],
        quirk: Quirk::MaxChunk(SMALL_CHUNK),
        evidence: &["rust-oci-client#35", "ocx-sh/ocx#237", "openai/tart#159"],
    },
    Row {
        hosts: &["ghcr.io"],
        quirk: Quirk::NoReferrers,
        evidence: &["actions/attest-build-provenance#71", "artifacthub/hub#4785"],
    },
];

/// What a client does for a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quirks {
    /// Whether a blob may come in one `PATCH` before its digest is known.
    pub(super) streams: bool,
    /// Whether a blob may come in several.
    pub(super) chunks: bool,
    /// Bytes that a chunk may have.
    pub(super) max_chunk: Option<u64>,
    /// Whether the referrers API is worth a request.
    pub(super) referrers: bool,
}

impl Quirks {
    /// Returns what is known of a host, which may have a port.
    pub(super) fn of(host: &str) -> Self {
        let mut quirks = Self {
            streams: true,
            chunks: true,
            max_chunk: None,
            referrers: true,
        };
        for row in ROWS {
            if !row.hosts.iter().any(|pattern| matches(pattern, host)) {
                continue;
            }
            match row.quirk {
                Quirk::WholeBlobsOnly => {
                    quirks.streams = false;
                    quirks.chunks = false;
                }
                Quirk::MaxChunk(bytes) => quirks.max_chunk = Some(bytes),
                Quirk::NoReferrers => quirks.referrers = false,
            }
        }
        quirks
    }
}

/// Returns whether a host, with or without a port, is one of a pattern's.
fn matches(pattern: &str, host: &str) -> bool {
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    let name = name.to_ascii_lowercase();
    match pattern.strip_prefix('*') {
        Some(suffix) => name.len() > suffix.len() && name.ends_with(suffix),
        None => name == pattern,
    }
}

/// What a registry showed of itself while it was talked to.
#[derive(Debug)]
pub(super) struct Seen {
    wholes_refused: AtomicBool,
    streams_refused: AtomicBool,
    chunks_refused: AtomicBool,
    /// Bytes of the smallest body that was refused for its size.
    too_large: AtomicU64,
    tags_one_by_one: AtomicBool,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            wholes_refused: AtomicBool::new(false),
            streams_refused: AtomicBool::new(false),
            chunks_refused: AtomicBool::new(false),
            too_large: AtomicU64::new(u64::MAX),
            tags_one_by_one: AtomicBool::new(false),
        }
    }
}

// Each is a hint that stands alone: nothing is read because of it, so no order
// with other memory is needed.
impl Seen {
    /// Remembers that a blob in one `PATCH` was taken that was not in one
    /// `PUT`.
    pub(super) fn refused_whole(&self) {
        self.wholes_refused.store(true, Ordering::Relaxed);
    }

    pub(super) fn refuses_wholes(&self) -> bool {
        self.wholes_refused.load(Ordering::Relaxed)
    }

    pub(super) fn refused_stream(&self) {
        self.streams_refused.store(true, Ordering::Relaxed);
    }

    pub(super) fn refuses_streams(&self) -> bool {
        self.streams_refused.load(Ordering::Relaxed)
    }

    pub(super) fn refused_chunk(&self) {
        self.chunks_refused.store(true, Ordering::Relaxed);
    }

    pub(super) fn refuses_chunks(&self) -> bool {
        self.chunks_refused.load(Ordering::Relaxed)
    }

    /// Remembers that a body of so many bytes was too large.
    pub(super) fn refused_size(&self, bytes: u64) {
        self.too_large.fetch_min(bytes, Ordering::Relaxed);
    }

    pub(super) fn refuses_size(&self, bytes: u64) -> bool {
        bytes >= self.too_large.load(Ordering::Relaxed)
    }

    /// Remembers that one request does not set several tags.
    pub(super) fn refused_tags(&self) {
        self.tags_one_by_one.store(true, Ordering::Relaxed);
    }

    pub(super) fn refuses_tags(&self) -> bool {
        self.tags_one_by_one.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Quirks = Quirks {
        streams: true,
        chunks: true,
        max_chunk: None,
        referrers: true,
    };

    #[test]
    fn every_row_names_its_evidence() {
        for row in ROWS {
            assert!(!row.hosts.is_empty(), "{row:?}");
            assert!(row.evidence.iter().all(|e| e.contains('#')), "{row:?}");
            assert!(!row.evidence.is_empty(), "{row:?}");
        }
    }

    /// dotnet/sdk-container-builds#287, kitops#777, skopeo#1101.
    #[test]
    fn google_takes_whole_blobs_only() {
        for host in [
            "gcr.io",
            "eu.gcr.io",
            "europe-docker.pkg.dev",
            "Europe-Docker.PKG.dev:443",
        ] {
            let quirks = Quirks::of(host);
            assert!(!quirks.streams && !quirks.chunks, "{host}");
        }
        for host in ["pkg.dev", "notgcr.io", "gcr.io.example", "example.org"] {
            assert_eq!(Quirks::of(host), PLAIN, "{host}");
        }
    }

    /// rust-oci-client#35, ocx-sh/ocx#237, openai/tart#159.
    #[test]
    fn github_takes_small_chunks() {
        assert_eq!(Quirks::of("ghcr.io").max_chunk, Some(4 << 20));
        assert!(Quirks::of("ghcr.io").streams);
    }

    /// artifacthub/hub#4785: the request is sent on to github.com, which then
    /// wants patience.
    #[test]
    fn github_is_not_asked_for_referrers() {
        assert!(!Quirks::of("ghcr.io").referrers);
        assert!(Quirks::of("docker.io").referrers);
    }

    #[test]
    fn the_smallest_refused_size_counts() {
        let seen = Seen::default();
        assert!(!seen.refuses_size(u64::MAX - 1));
        seen.refused_size(100);
        seen.refused_size(500);
        assert!(seen.refuses_size(100) && !seen.refuses_size(99));
    }
}
