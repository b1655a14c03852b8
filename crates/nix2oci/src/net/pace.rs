//! How slow a server may be.

use std::time::Duration;

/// How slow an answer may come: at least so many bytes in so much time in which
/// the server is waited for. The time that the reader takes does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slowest {
    /// The bytes; not 0.
    pub(crate) bytes: u64,
    /// The time.
    pub(crate) time: Duration,
}

impl Default for Slowest {
    /// Some 200 bytes a second over five minutes: a fiftieth of what the slowest
    /// links have on which anybody would wait for an image.
    fn default() -> Self {
        Self {
            bytes: 64 << 10,
            time: Duration::from_secs(300),
        }
    }
}

/// Measures how an answer comes.
#[derive(Debug)]
pub(super) struct Pace {
    slowest: Slowest,
    /// Since there were enough bytes the last time.
    bytes: u64,
    waited: Duration,
}

impl Pace {
    pub(super) fn new(slowest: Slowest) -> Self {
        Self {
            slowest,
            bytes: 0,
            waited: Duration::ZERO,
        }
    }

    /// Takes note of bytes that came.
    pub(super) fn came(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        if self.bytes >= self.slowest.bytes {
            *self = Self::new(self.slowest);
        }
    }

    /// Takes note of a time in which nothing came, and returns what is wrong if
    /// it is too much.
    pub(super) fn waited(&mut self, time: Duration) -> Option<String> {
        self.waited = self.waited.saturating_add(time);
        let Slowest { bytes, time } = self.slowest;
        (self.waited > time).then(|| {
            let seconds = time.as_secs();
            format!("fewer than {bytes} bytes came in {seconds} s")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Returns after how many seconds it is too slow, if it is within 10,000.
    fn ends(bytes_per_second: usize) -> Option<u32> {
        let mut pace = Pace::new(Slowest::default());
        (1..=10_000).find(|_| {
            pace.came(bytes_per_second);
            pace.waited(SECOND).is_some()
        })
    }

    #[test]
    fn drops_are_too_slow_and_slow_links_are_not() {
        assert_eq!(ends(0), Some(301));
        assert_eq!(ends(1), Some(301));
        assert_eq!(ends(200), Some(301));
        for enough in [220, 1 << 10, 10 << 10, 100 << 10] {
            assert_eq!(ends(enough), None, "{enough}");
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        let mut pace = Pace::new(Slowest::default());
        assert_eq!(pace.waited(300 * SECOND), None);
        assert_eq!(
            pace.waited(SECOND).as_deref(),
            Some("fewer than 65536 bytes came in 300 s")
        );
        pace.came(64 << 10);
        assert_eq!(pace.waited(SECOND), None);
    }
}
