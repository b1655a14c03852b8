//! Sizes and durations for people. JSON has bytes.

use std::time::Duration;

use nix2oci::Digest;

/// Returns a size in decimal units with one decimal, as docker shows them:
/// `999 B`, `1.2 MB`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    // What would be shown as 1000.0 is 1.0 of the next unit.
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Returns a number with commas: `1,123`.
pub(crate) fn number(n: usize) -> String {
    let digits = n.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .filter_map(|group| std::str::from_utf8(group).ok())
        .collect();
    groups.join(",")
}

/// Returns a number of things: `1 layer`, `2 layers`.
pub(crate) fn count(n: usize, noun: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {noun}{plural}")
}

/// Returns a duration: `0.4 s`, `59.9 s`, `2 min 5 s`.
pub(crate) fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 59.95 {
        format!("{seconds:.1} s")
    } else {
        let whole = seconds.round() as u64;
        format!("{} min {} s", whole / 60, whole % 60)
    }
}

/// Returns a time to wait for: `0.4 s`, `2 s`, `2 min 5 s`; rounded up, so that
/// it is never nothing.
pub(crate) fn pause(duration: Duration) -> String {
    let tenths = duration.as_millis().div_ceil(100);
    if tenths < 100 && !tenths.is_multiple_of(10) {
        return format!("{}.{} s", tenths / 10, tenths % 10);
    }
    let seconds = tenths.div_ceil(10);
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds} s"),
        (minutes, 0) => format!("{minutes} min"),
        (minutes, seconds) => format!("{minutes} min {seconds} s"),
    }
}

/// Returns as much of a digest as people compare.
pub(crate) fn short(digest: Digest) -> String {
    format!("sha256:{}", &digest.hex()[..12])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_decimal_units() {
        for (size, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (1_234_567, "1.2 MB"),
            (999_949, "999.9 kB"),
            (999_950, "1.0 MB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(bytes(size), text);
        }
    }

    #[test]
    fn counts_and_durations_read_well() {
        assert_eq!(number(0), "0");
        assert_eq!(number(1123), "1,123");
        assert_eq!(number(100_000_000), "100,000,000");
        assert_eq!(count(1, "layer"), "1 layer");
        assert_eq!(count(0, "layer"), "0 layers");
        assert_eq!(seconds(Duration::from_millis(449)), "0.4 s");
        assert_eq!(seconds(Duration::from_millis(59_949)), "59.9 s");
        assert_eq!(seconds(Duration::from_millis(59_960)), "1 min 0 s");
        assert_eq!(seconds(Duration::from_secs(125)), "2 min 5 s");
        for (milliseconds, text) in [
            (1, "0.1 s"),
            (730, "0.8 s"),
            (2000, "2 s"),
            (9_901, "10 s"),
            (12_300, "13 s"),
            (59_901, "1 min"),
            (300_000, "5 min"),
            (125_000, "2 min 5 s"),
        ] {
            assert_eq!(pause(Duration::from_millis(milliseconds)), text);
        }
    }
}
