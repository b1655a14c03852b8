//! How a blob's bytes are sent, and what is tried next when that failed.

use super::quirks::{Quirks, Seen};
use crate::error::{Error, ErrorKind};
use crate::net::may_pass;

/// A blob of more bytes goes on in chunks after it broke, so that not all of it
/// is sent again.
pub(super) const LARGE: u64 = 64 << 20;

/// How a blob's bytes are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// One `PUT`. What most registries take, and Google's only.
    Whole,
    /// One `PATCH` without `Content-Range`, and an empty `PUT`: docker's way.
    Stream,
    /// One `PATCH` with `Content-Range` for each chunk, and an empty `PUT`. It
    /// can go on where it broke off.
    Chunks,
}

/// What a failure means for what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The connection broke, or stood still.
    Broken,
    /// The registry or something before it failed.
    Failed,
    /// It wants patience.
    Busy,
    /// It does not know the session any more, or not at this place.
    Lost,
    /// The body is too large for one request.
    TooLarge,
    /// It does not take bytes in this way, or takes them for other bytes.
    Unwelcome,
    /// Nothing that sending again can change.
    Final,
}

/// Says what a failure means.
pub(super) fn trouble(error: &Error) -> Trouble {
    match error.kind() {
        ErrorKind::Connection { .. } if may_pass(error) => Trouble::Broken,
        ErrorKind::Answer {
            status: Some(status),
            ..
        } => match status {
            408 | 425 | 500 | 502 | 504 => Trouble::Failed,
            429 | 503 => Trouble::Busy,
            404 | 410 | 416 => Trouble::Lost,
            413 => Trouble::TooLarge,
            400 | 405 | 411 | 415 | 501 => Trouble::Unwelcome,
            _ => Trouble::Final,
        },
        _ => Trouble::Final,
    }
}

/// The ways that are left for one blob.
#[derive(Debug)]
pub(super) struct Ways {
    way: Way,
    size: u64,
    may_stream: bool,
    may_chunk: bool,
    may_whole: bool,
    /// Failures of this way one after the other.
    failures: u32,
}

impl Ways {
    /// Decides how a blob of `size` bytes is sent at first. Chunks are what the
    /// user may ask for.
    pub(super) fn new(size: u64, wants_chunks: bool, quirks: &Quirks, seen: &Seen) -> Self {
        let mut ways = Self {
            way: Way::Whole,
            size,
            // A stream that is refused once is refused always; it is one body.
            may_stream: quirks.streams && !seen.refuses_streams() && !seen.refuses_size(size),
            may_chunk: quirks.chunks && !seen.refuses_chunks() && size > 0,
            may_whole: !seen.refuses_size(size),
            failures: 0,
        };
        if ways.may_chunk && (wants_chunks || !ways.may_whole) {
            ways.way = Way::Chunks;
        } else if ways.may_stream && seen.refuses_wholes() {
            ways.way = Way::Stream;
        }
        ways
    }

    pub(super) fn way(&self) -> Way {
        self.way
    }

    /// Decides what is tried after trouble, or returns `None` if there is
    /// nothing left. How often is the caller's to count.
    pub(super) fn after(&mut self, trouble: Trouble) -> Option<Way> {
        self.failures += 1;
        let large = self.size > LARGE;
        let next = match (trouble, self.way) {
            (Trouble::Final, _) => return None,
            (Trouble::Broken | Trouble::Failed, Way::Whole | Way::Stream)
                if large && self.may_chunk =>
            {
                Way::Chunks
            }
            // Harbor answered 500 to every blob in one PUT where a project has
            // a quota (harbor#11647); Artifactory wants a PATCH in some
            // versions (containerd#3533). Once may be chance.
            (Trouble::Failed | Trouble::Lost, Way::Whole)
                if self.failures > 1 && self.may_stream =>
            {
                Way::Stream
            }
            (Trouble::Broken | Trouble::Failed | Trouble::Busy | Trouble::Lost, way) => way,
            (Trouble::TooLarge, Way::Whole | Way::Stream) => {
                self.may_whole = false;
                self.may_stream = false;
                if !self.may_chunk {
                    return None;
                }
                Way::Chunks
            }
            (Trouble::TooLarge, Way::Chunks) => return None,
            // Docker Hub answered 400 to large blobs in one PUT that it took
            // in one PATCH (atlanhq/application-sdk#2020).
            (Trouble::Unwelcome, Way::Whole) => {
                self.may_whole = false;
                if !self.may_stream {
                    return None;
                }
                Way::Stream
            }
            (Trouble::Unwelcome, Way::Stream) => {
                self.may_stream = false;
                if !self.may_whole {
                    return None;
                }
                Way::Whole
            }
            // Google under a name of its user's: no host tells.
            (Trouble::Unwelcome, Way::Chunks) => {
                self.may_chunk = false;
                if !self.may_whole {
                    return None;
                }
                Way::Whole
            }
        };
        if next != self.way {
            self.way = next;
            self.failures = 0;
        }
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: u64 = 1 << 20;
    const BIG: u64 = LARGE + 1;

    fn ways(host: &str, size: u64, wants_chunks: bool) -> Ways {
        Ways::new(size, wants_chunks, &Quirks::of(host), &Seen::default())
    }

    fn answer(status: u16) -> Error {
        ErrorKind::Answer {
            host: String::new(),
            action: String::new(),
            status: Some(status),
            problem: String::new(),
        }
        .into()
    }

    #[test]
    fn statuses_are_understood() {
        for (status, expected) in [
            (404, Trouble::Lost), // distribution 2.8.2, an old state
            (416, Trouble::Lost), // apple/containerization#790
            (413, Trouble::TooLarge),
            (400, Trouble::Unwelcome),
            (500, Trouble::Failed),
            (429, Trouble::Busy),
            (507, Trouble::Final),
        ] {
            assert_eq!(trouble(&answer(status)), expected, "{status}");
        }
        assert_eq!(trouble(&ErrorKind::Cancelled.into()), Trouble::Final);
    }

    #[test]
    fn a_blob_is_one_put_unless_chunks_are_wanted_and_borne() {
        for (host, size, wants, expected) in [
            ("example.org", BIG, false, Way::Whole),
            ("example.org", BIG, true, Way::Chunks),
            ("example.org", 0, true, Way::Whole),
            ("europe-docker.pkg.dev", BIG, true, Way::Whole), // kitops#777
        ] {
            assert_eq!(ways(host, size, wants).way(), expected, "{host} {size}");
        }
        let seen = Seen::default();
        seen.refused_size(100);
        let quirks = Quirks::of("example.org");
        assert_eq!(Ways::new(100, false, &quirks, &seen).way(), Way::Chunks);
        assert_eq!(Ways::new(99, false, &quirks, &seen).way(), Way::Whole);
    }

    #[test]
    fn what_comes_next_is_as_the_table_says() {
        use Trouble::*;
        for (host, size, troubles, expected) in [
            ("e.org", SMALL, &[Broken, Broken][..], Some(Way::Whole)),
            ("e.org", BIG, &[Broken], Some(Way::Chunks)),
            ("e.org", BIG, &[Busy, Busy], Some(Way::Whole)),
            ("e.org", SMALL, &[Lost], Some(Way::Whole)),
            ("e.org", SMALL, &[TooLarge], Some(Way::Chunks)),
            ("e.org", SMALL, &[TooLarge, TooLarge], None),
            ("e.org", SMALL, &[Final], None),
            // harbor#11647, containerd#3533
            ("e.org", SMALL, &[Failed, Failed], Some(Way::Stream)),
            ("e.org", SMALL, &[Lost, Lost], Some(Way::Stream)),
            // atlanhq/application-sdk#2020
            ("docker.io", SMALL, &[Unwelcome], Some(Way::Stream)),
            ("docker.io", SMALL, &[Unwelcome, Unwelcome], None),
            // dotnet/sdk-container-builds#287
            (
                "x.pkg.dev",
                BIG,
                &[Broken, Failed, Failed],
                Some(Way::Whole),
            ),
            ("x.pkg.dev", BIG, &[TooLarge], None),
            ("x.pkg.dev", BIG, &[Unwelcome], None),
        ] {
            let mut ways = ways(host, size, false);
            let next = troubles.iter().map(|trouble| ways.after(*trouble)).last();
            assert_eq!(next, Some(expected), "{host} {size} {troubles:?}");
        }
        let mut asked = ways("registry.example", BIG, true);
        assert_eq!(asked.after(Unwelcome), Some(Way::Whole));
        assert_eq!(asked.after(Unwelcome), Some(Way::Stream));
        assert_eq!(asked.after(Unwelcome), None);
    }

    #[test]
    fn ways_that_were_refused_do_not_come_back() {
        for first in [Trouble::Unwelcome, Trouble::TooLarge] {
            let mut ways = ways("example.org", BIG, false);
            let mut steps = 0;
            while ways.after(first).is_some() {
                steps += 1;
                assert!(steps <= 3, "{first:?} goes round");
            }
        }
    }
}
