//! What every long call needs: threads, an observer, a way to stop it.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::digest::Digest;
use crate::error::{ErrorKind, Result};

/// The first argument of every long call.
///
/// Cheap to clone: clones share the observer and the cancel flag.
#[derive(Clone)]
#[non_exhaustive]
pub struct Context {
    /// Worker threads to use. Output bytes do not depend on it.
    pub threads: NonZeroUsize,
    /// Hears of progress.
    pub observer: Arc<dyn Observer>,
    /// Stops the call when set.
    pub cancel: CancelFlag,
    /// Where layers wait until they are written, for sinks that lend no
    /// directory of their own. It needs room for the compressed image, which
    /// memory-backed ones such as `/tmp` may lack.
    pub spool_dir: PathBuf,
}

impl Default for Context {
    /// As many threads as the system offers, nobody listening, the system's
    /// temporary directory.
    fn default() -> Self {
        Self {
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            observer: Arc::new(Silent),
            cancel: CancelFlag::default(),
            spool_dir: std::env::temp_dir(),
        }
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("threads", &self.threads)
            .field("cancel", &self.cancel)
            .field("spool_dir", &self.spool_dir)
            .finish_non_exhaustive()
    }
}

/// A flag that stops a long call.
///
/// Long loops ask it once per file and per buffer; what they began to write is
/// removed. Setting it is safe in a signal handler.
#[derive(Debug, Clone, Default)]
pub struct CancelFlag {
    flag: Arc<AtomicBool>,
    /// A child is cancelled with its parent.
    parent: Option<Arc<CancelFlag>>,
}

impl CancelFlag {
    /// Asks every call that holds this flag to stop. It cannot be taken back.
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }

    /// Returns whether the flag is set.
    pub fn is_cancelled(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
            || self
                .parent
                .as_ref()
                .is_some_and(|parent| parent.is_cancelled())
    }

    /// Fails with [`ErrorKind::Cancelled`] if the flag is set.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() {
            Err(ErrorKind::Cancelled.into())
        } else {
            Ok(())
        }
    }

    /// Returns the flag itself, for a signal handler to set.
    pub fn as_atomic(&self) -> &Arc<AtomicBool> {
        &self.flag
    }
}

impl Context {
    /// Returns a context of the same call whose flag is set with this one's,
    /// but not the other way round: workers stop each other by it.
    pub(crate) fn child(&self) -> Self {
        Self {
            cancel: CancelFlag {
                flag: Arc::default(),
                parent: Some(Arc::new(self.cancel.clone())),
            },
            ..self.clone()
        }
    }
}

/// Hears of progress.
///
/// Called from worker threads, several at a time; an implementation must
/// return quickly and must not call back into the library. Events of one layer
/// come in order; those of different layers come in any.
pub trait Observer: Send + Sync {
    /// Takes one event.
    fn event(&self, event: &Event<'_>);
}

/// The observer that hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _: &Event<'_>) {}
}

/// Something that happened on the way. `layer` counts from 0 in image order,
/// bottom first, and those of a base after all others; all sizes are bytes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event<'a> {
    /// More of the closure was read, from a source far away.
    ClosureProgress {
        /// Store paths that are known by now.
        paths: usize,
    },
    /// More of what is inside store paths came over the network.
    Downloaded {
        /// Bytes since the last event, as they came: compressed.
        bytes: u64,
    },
    /// The closure was read.
    ClosureRead {
        /// Store paths in it.
        paths: usize,
        /// The sum of their NAR sizes, as far as they are known.
        nar_size: u64,
    },
    /// The layers are decided; packing begins. Of an index it comes once for
    /// each of its images, whose layers are numbered on from those before.
    Planned {
        /// For each layer its expected tar size (an estimate from NAR sizes), or
        /// the size of its blob if it is only sent.
        layers: &'a [u64],
        /// For each layer what is in it, for people: the name of its largest
        /// store path, or the beginning of its digest.
        labels: &'a [String],
    },
    /// A layer's packing began.
    LayerStarted {
        /// Which.
        layer: usize,
    },
    /// More of a layer's tar was made.
    LayerProgress {
        /// Which.
        layer: usize,
        /// Bytes of tar since the last event of this layer.
        bytes: u64,
    },
    /// A layer is packed.
    LayerPacked {
        /// Which.
        layer: usize,
        /// The digest of its blob.
        digest: Digest,
        /// Bytes of its blob.
        size: u64,
        /// Bytes of its tar.
        uncompressed_size: u64,
    },
    /// A layer is where it has to be already: it is not packed, or not sent.
    LayerReused {
        /// Which.
        layer: usize,
        /// The digest of its blob.
        digest: Digest,
        /// Bytes of its blob.
        size: u64,
    },
    /// More of a layer's blob was sent.
    LayerSent {
        /// Which.
        layer: usize,
        /// Bytes of the blob since the last event of this layer.
        bytes: u64,
    },
    /// What was sent of a layer's blob is lost: it is sent again from the
    /// start.
    LayerResent {
        /// Which.
        layer: usize,
    },
    /// A request is repeated after a while.
    Retry {
        /// What failed, for people: `example.org failed to take blob …`.
        message: &'a str,
        /// How long it waits.
        wait: std::time::Duration,
        /// Which repetition it will be, counted from 1.
        attempt: u32,
        /// How many there are at most.
        attempts: u32,
    },
    /// A layer's blob is in the sink.
    LayerWritten {
        /// Which.
        layer: usize,
    },
    /// A layer of a stored image was read to see what is in it.
    LayerScanned {
        /// Which.
        layer: usize,
        /// How many there are.
        layers: usize,
    },
    /// The image has its final name.
    Committed {
        /// The digest of its manifest.
        manifest: Digest,
    },
    /// Something the user should know and that is no error.
    Warning {
        /// In words.
        message: &'a str,
    },
}
