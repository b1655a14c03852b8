use std::io;
use std::sync::Arc;

use indicatif::TermLike;
use nix2oci::Digest;

use super::*;

/// Columns of the terminal below.
const COLUMNS: usize = 80;

/// A terminal that remembers its last frame.
#[derive(Debug, Clone, Default)]
struct Frames {
    now: Arc<Mutex<String>>,
    last: Arc<Mutex<String>>,
}

impl Frames {
    /// Returns the lines of the last frame, without what depends on time.
    fn lines(&self) -> Vec<String> {
        let frame: Vec<char> = self.last.lock().unwrap().chars().collect();
        let lines = frame.chunks(COLUMNS);
        lines
            .map(|line| line.iter().collect::<String>().trim_end().to_owned())
            .collect()
    }
}

impl TermLike for Frames {
    fn width(&self) -> u16 {
        COLUMNS as u16
    }

    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write_str(text)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.now.lock().unwrap().push_str(text);
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        *self.last.lock().unwrap() = std::mem::take(&mut *self.now.lock().unwrap());
        Ok(())
    }
}

fn bars(sends: bool) -> (Bars, Frames) {
    let frames = Frames::default();
    let target = ProgressDrawTarget::term_like(Box::new(frames.clone()));
    (Bars::on(target, sends, false), frames)
}

fn plan(bars: &Bars, sizes: &[u64]) {
    let labels: Vec<String> = (0..sizes.len()).map(|n| format!("path-{n}")).collect();
    bars.event(&Event::Planned {
        layers: sizes,
        labels: &labels,
    });
}

#[test]
fn a_build_has_a_bar_for_each_layer_and_none_at_the_end() {
    let (bars, frames) = bars(false);
    plan(&bars, &[1_000_000, 3_000_000]);
    bars.event(&Event::LayerStarted { layer: 1 });
    bars.event(&Event::LayerProgress {
        layer: 1,
        bytes: 1_500_000,
    });
    bars.event(&Event::LayerStarted { layer: 0 });
    let lines = frames.lines();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].starts_with("packed 0 of 2 layers"), "{lines:?}");
    assert!(lines[1].starts_with("  path-1 "), "{lines:?}");
    assert!(lines[1].ends_with("1.50 MB / 3.00 MB"), "{lines:?}");
    assert!(lines[2].starts_with("  path-0 "), "{lines:?}");

    let packed = |layer| Event::LayerPacked {
        layer,
        digest: Digest::of(b""),
        size: 1,
        uncompressed_size: 1,
    };
    bars.event(&packed(1));
    bars.event(&Event::LayerWritten { layer: 1 });
    assert_eq!(frames.lines().len(), 2);
    assert!(frames.lines()[0].starts_with("packed 1 of 2 layers"));
    assert_eq!(bars.total.position(), 3_000_000);

    bars.clear();
    assert_eq!(frames.lines(), [""; 0]);
    // A worker that has not heard of the end yet.
    bars.event(&Event::LayerProgress {
        layer: 0,
        bytes: 500_000,
    });
    bars.event(&packed(0));
    assert_eq!(frames.lines(), [""; 0]);
}

#[test]
fn a_push_shows_each_layer_packed_and_then_sent() {
    let (bars, frames) = bars(true);
    plan(&bars, &[1_000_000, 3_000_000, 500_000]);
    bars.event(&Event::LayerReused {
        layer: 0,
        digest: Digest::of(b""),
        size: 400_000,
    });
    assert_eq!(bars.total.length(), Some(3_500_000));
    bars.event(&Event::LayerStarted { layer: 1 });
    bars.event(&Event::LayerProgress {
        layer: 1,
        bytes: 1_500_000,
    });
    assert!(frames.lines()[0].starts_with("sent 0 of 2, 1 reused"));
    assert!(frames.lines()[1].ends_with("] packing"));
    assert_eq!(bars.total.position(), 750_000, "half of the half");

    bars.event(&Event::LayerPacked {
        layer: 1,
        digest: Digest::of(b""),
        size: 800_000,
        uncompressed_size: 3_000_000,
    });
    let sent = Event::LayerSent {
        layer: 1,
        bytes: 200_000,
    };
    bars.event(&sent);
    assert!(frames.lines()[1].ends_with("] 200.0 kB / 800.0 kB"));
    assert_eq!(bars.total.position(), 1_875_000);
    bars.event(&Event::LayerResent { layer: 1 });
    assert!(frames.lines()[1].ends_with("] 0 B / 800.0 kB"));
    assert_eq!(bars.total.position(), 1_500_000);
    for _ in 0..4 {
        bars.event(&sent);
    }
    assert_eq!(frames.lines().len(), 2, "packed, sent, but not answered");
    bars.event(&Event::LayerWritten { layer: 1 });
    assert_eq!(frames.lines().len(), 1);
    assert_eq!(bars.total.position(), 3_000_000);
    assert_eq!(bars.upload.position(), 1_000_000);

    // Found to be there after it was packed.
    bars.event(&Event::LayerStarted { layer: 2 });
    bars.event(&Event::LayerProgress {
        layer: 2,
        bytes: 500_000,
    });
    bars.event(&Event::LayerReused {
        layer: 2,
        digest: Digest::of(b""),
        size: 7,
    });
    assert!(frames.lines()[0].starts_with("sent 1 of 1, 2 reused"));
    let whole = (bars.total.position(), bars.total.length());
    assert_eq!(whole, (3_000_000, Some(3_000_000)));
}

#[test]
fn what_comes_from_far_away_has_a_line_while_it_comes() {
    let (bars, frames) = bars(true);
    bars.event(&Event::ClosureProgress { paths: 1 });
    bars.event(&Event::ClosureProgress { paths: 20 });
    assert_eq!(frames.lines(), ["closure: 20 store paths"]);
    bars.event(&Event::ClosureRead {
        paths: 30,
        nar_size: 5,
    });
    assert_eq!(frames.lines(), [""; 0]);
    // What the plan needs.
    bars.event(&Event::Downloaded { bytes: 1_000_000 });
    assert_eq!(frames.lines(), [""; 0]);

    plan(&bars, &[1_000_000]);
    bars.event(&Event::LayerStarted { layer: 0 });
    bars.event(&Event::Downloaded { bytes: 1_500_000 });
    let lines = frames.lines();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[1].starts_with("  downloaded   2.50 MB"), "{lines:?}");
    bars.clear();
    bars.event(&Event::Downloaded { bytes: 1 });
    assert_eq!(frames.lines(), [""; 0]);
    assert_eq!(bars.tally.downloaded(), 2_500_001);
}

#[test]
fn a_layer_that_is_sent_while_it_is_packed_says_how_much() {
    let (bars, frames) = bars(true);
    plan(&bars, &[1_000_000]);
    bars.event(&Event::LayerStarted { layer: 0 });
    bars.event(&Event::LayerProgress {
        layer: 0,
        bytes: 600_000,
    });
    bars.event(&Event::LayerSent {
        layer: 0,
        bytes: 50_000,
    });
    assert!(frames.lines()[1].ends_with("] 50.0 kB sent"));
    assert_eq!(bars.total.position(), 600_000);
}

#[test]
fn a_layer_without_a_bar_gets_one_when_there_is_room() {
    let (bars, frames) = bars(true);
    plan(&bars, &[10; 8]);
    for layer in 0..8 {
        bars.event(&Event::LayerStarted { layer });
    }
    assert_eq!(frames.lines().len(), 1 + MOST_LAYER_BARS);
    bars.event(&Event::LayerWritten { layer: 0 });
    bars.event(&Event::LayerSent { layer: 7, bytes: 5 });
    let lines = frames.lines();
    assert_eq!(lines.len(), 1 + MOST_LAYER_BARS);
    assert!(lines[MOST_LAYER_BARS].starts_with("  path-7"), "{lines:?}");
}

#[test]
fn the_count_of_layers_has_its_columns() {
    assert_eq!(finished("packed", 1, 0, 14), "packed 1 of 14 layers");
    assert_eq!(finished("sent", 1, 0, 1), "sent 1 of 1 layer");
    let longest = finished("sent", 62, 63, 125);
    assert_eq!(longest, "sent 62 of 62, 63 reused");
    assert!(longest.len() <= 26);
}

#[test]
fn a_bar_has_the_columns_for_its_label() {
    assert_eq!(prefix("glibc-2.40"), "  glibc-2.40");
    let long = prefix("python3.11-cryptography-42.0.8");
    assert_eq!(long, "  python3.11-cryptograp…");
    assert_eq!(long.chars().count(), 24);
}
