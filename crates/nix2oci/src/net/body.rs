//! Bytes on their way, in pieces.

use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context as Task, Poll};

use bytes::Bytes;
use futures_core::Stream;
use tokio::sync::mpsc;

use crate::error::{Error, ErrorKind, Result};

/// A body, piece by piece. After an error nothing follows.
pub(crate) type BodyStream = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// Bytes in a piece.
const PIECE: usize = 256 * 1024;

/// Pieces that are read ahead of the network, for each body.
const AHEAD: usize = 2;

/// Makes a body of a reader whose calls may block. It is read on a thread of
/// its own, from when the body is first asked for; errors of the reader are
/// made into errors by `failed`.
pub(crate) fn read_pieces(
    reader: Box<dyn Read + Send>,
    failed: impl Fn(io::Error) -> Error + Send + 'static,
) -> BodyStream {
    Box::pin(Pieces {
        reader: Some((reader, Box::new(failed))),
        pieces: None,
    })
}

struct Pieces {
    /// Until it starts.
    reader: Option<(Box<dyn Read + Send>, Failed)>,
    /// Filled by the thread; an empty piece is the end.
    pieces: Option<mpsc::Receiver<Result<Bytes>>>,
}

type Failed = Box<dyn Fn(io::Error) -> Error + Send>;

impl Stream for Pieces {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Option<Self::Item>> {
        if let Some((reader, failed)) = self.reader.take() {
            let (sender, receiver) = mpsc::channel(AHEAD);
            tokio::task::spawn_blocking(move || pump(reader, &failed, &sender));
            self.pieces = Some(receiver);
        }
        let Some(pieces) = &mut self.pieces else {
            return Poll::Ready(None);
        };
        let piece = match std::task::ready!(pieces.poll_recv(task)) {
            Some(Ok(piece)) if !piece.is_empty() => return Poll::Ready(Some(Ok(piece))),
            Some(Ok(_)) => None,
            Some(Err(error)) => Some(Err(error)),
            // A body must not look complete because its reader panicked.
            None => Some(Err(ErrorKind::WorkerPanicked {
                message: "the reader of a body ended early".to_owned(),
            }
            .into())),
        };
        self.pieces = None;
        Poll::Ready(piece)
    }
}

/// Reads pieces until the end, an error, or until nobody wants them any more.
fn pump(mut reader: Box<dyn Read + Send>, failed: &Failed, to: &mpsc::Sender<Result<Bytes>>) {
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        let read = reader.by_ref().take(PIECE as u64).read_to_end(&mut piece);
        let result = read.map(|_| Bytes::from(piece)).map_err(failed);
        let is_last = result.as_ref().map_or(true, Bytes::is_empty);
        if to.blocking_send(result).is_err() || is_last {
            return;
        }
    }
}
