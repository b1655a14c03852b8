//! The terminal that bars are drawn on.

use std::fmt::{Debug, Write as _};
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use indicatif::TermLike;

/// Standard error, whose cursor rests in the first column.
///
/// Bars fill their lines to the last column. A terminal shows a key such as
/// Ctrl-C (`^C`) where the cursor is: after the last column that begins a line
/// that nobody counted, and when the bars are cleared by their number of lines,
/// one of them stays for good.
#[derive(Debug)]
pub(super) struct Screen<W = io::Stderr> {
    out: Mutex<W>,
    /// A frame that is not complete, so that none is seen half drawn.
    frame: Mutex<String>,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self::on(io::stderr())
    }
}

impl<W: Write> Screen<W> {
    fn on(out: W) -> Self {
        Self {
            out: Mutex::new(out),
            frame: Mutex::default(),
        }
    }

    /// Returns the columns and the rows, if the system knows them.
    fn size() -> Option<(u16, u16)> {
        let size = rustix::termios::tcgetwinsize(rustix::stdio::stderr()).ok()?;
        (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
    }

    fn add(&self, text: std::fmt::Arguments<'_>) -> io::Result<()> {
        let mut frame = self.frame.lock().unwrap_or_else(PoisonError::into_inner);
        frame.write_fmt(text).map_err(io::Error::other)
    }

    /// Moves the cursor (ECMA-48, CUU and its like), which by 0 is by 1.
    fn go(&self, n: usize, direction: char) -> io::Result<()> {
        if n == 0 {
            return Ok(());
        }
        self.add(format_args!("\x1b[{n}{direction}"))
    }
}

impl<W: Write + Debug + Send + Sync> TermLike for Screen<W> {
    fn width(&self) -> u16 {
        Self::size().map_or(80, |(columns, _)| columns)
    }

    fn height(&self) -> u16 {
        Self::size().map_or(24, |(_, rows)| rows)
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.go(n, 'A')
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.go(n, 'B')
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.go(n, 'C')
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.go(n, 'D')
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.add(format_args!("{text}\n"))
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.add(format_args!("{text}"))
    }

    fn clear_line(&self) -> io::Result<()> {
        self.add(format_args!("\r\x1b[2K"))
    }

    fn flush(&self) -> io::Result<()> {
        let mut frame = self.frame.lock().unwrap_or_else(PoisonError::into_inner);
        frame.push('\r');
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let written = out.write_all(frame.as_bytes()).and_then(|()| out.flush());
        frame.clear();
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cursor_rests_in_the_first_column_of_a_whole_frame() {
        let screen = Screen::on(Vec::new());
        screen.move_cursor_up(2).unwrap();
        screen.move_cursor_down(0).unwrap();
        screen.clear_line().unwrap();
        screen.write_str("one").unwrap();
        assert!(screen.out.lock().unwrap().is_empty());
        screen.flush().unwrap();
        screen.write_str("two").unwrap();
        screen.flush().unwrap();
        let written = screen.out.into_inner().unwrap();
        let expected = "\x1b[2A\r\x1b[2Kone\rtwo\r";
        assert_eq!(String::from_utf8(written).unwrap(), expected);
    }
}
