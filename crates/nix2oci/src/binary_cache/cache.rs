//! One cache, and what it says of one store path.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;

use crate::context::{Context, Event};
use crate::error::{Error, ErrorKind, Result};
use crate::net::Answered;
use crate::store::{StoreDir, StorePath};

use super::files::{CacheFiles, Wanted};
use super::info_cache::Kept;
use super::trust::{Trust, Voucher};
use super::{MAX_NARINFO_SIZE, NarInfo, NarInfoCache};

/// How often the cancel flag is looked at while nothing comes.
pub(super) const PATIENCE: Duration = Duration::from_millis(50);

/// What a cache said of a store path, and is believed.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// Which cache, in their order.
    pub(super) cache: usize,
    pub(super) info: Arc<NarInfo>,
    /// The bytes of the narinfo.
    pub(super) info_size: u64,
    /// Why it is believed.
    pub(super) voucher: Voucher,
    /// Whether it was said a while ago.
    pub(super) is_kept: bool,
}

/// A cache that is asked.
pub(super) struct Cache {
    /// As the user would name it.
    pub(super) name: String,
    pub(super) files: Box<dyn CacheFiles>,
    pub(super) trust: Trust,
    pub(super) store_dir: StoreDir,
    pub(super) kept: Option<NarInfoCache>,
    /// It failed and is not asked any more.
    pub(super) is_down: AtomicBool,
    /// It gives a NAR only if it is not asked for others that nobody reads yet.
    pub(super) is_without_ahead: AtomicBool,
    /// What was told of it already.
    pub(super) told: Told,
}

/// What was told of a cache already: each once, not for each store path.
#[derive(Debug, Default)]
pub(super) struct Told {
    down: AtomicBool,
    passed_over: AtomicBool,
    not_kept: AtomicBool,
    broken_off: AtomicBool,
}

impl Cache {
    /// Returns what was kept of a path, if it counts and is believed: None if
    /// the cache has to be asked, `Some(None)` if it did not have it.
    pub(super) fn kept(&self, number: usize, path: &StorePath) -> Option<Option<Known>> {
        let cache = self.kept.as_ref()?;
        match cache.narinfo(&self.name, path.hash_part())? {
            Kept::Missing => Some(None),
            // What is not believed may have been signed since.
            Kept::Found(bytes) => {
                let (info, voucher) = self.read(path, &bytes).ok()?;
                Some(Some(Known {
                    cache: number,
                    info: Arc::new(info),
                    info_size: bytes.len() as u64,
                    voucher,
                    is_kept: true,
                }))
            }
        }
    }

    /// Forgets what was kept of a path.
    pub(super) fn forget(&self, path: &StorePath) {
        if let Some(cache) = &self.kept {
            cache.forget_narinfo(&self.name, path.hash_part());
        }
    }

    /// Returns the file to ask for to know of a path.
    pub(super) fn wanted(&self, path: &StorePath) -> Wanted {
        Wanted {
            name: format!("{}.narinfo", path.hash_part()),
            action: format!("tell of {}", self.store_dir.join(path)),
            limit: MAX_NARINFO_SIZE,
        }
    }

    /// Takes what the cache answered about a path, and keeps it if it is of
    /// use. That it does not say is not kept: who asks with another key tomorrow
    /// may be told.
    pub(super) fn take(
        &self,
        cx: &Context,
        number: usize,
        path: &StorePath,
        answer: Answered<Bytes>,
    ) -> Result<Option<Known>> {
        let (known, kept) = match answer {
            Answered::Withheld => return Ok(None),
            Answered::Missing => (None, Kept::Missing),
            Answered::Given(bytes) => {
                let (info, voucher) = self.read(path, &bytes)?;
                let known = Known {
                    cache: number,
                    info: Arc::new(info),
                    info_size: bytes.len() as u64,
                    voucher,
                    is_kept: false,
                };
                (Some(known), Kept::Found(bytes.into()))
            }
        };
        if let Some(cache) = &self.kept
            && let Err(error) = cache.keep_narinfo(&self.name, path.hash_part(), &kept)
            && !self.told.not_kept.swap(true, Ordering::Relaxed)
        {
            let message = format!("what {} says is not kept: {}", self.name, chain(&error));
            cx.observer.event(&Event::Warning { message: &message });
        }
        Ok(known)
    }

    /// Keeps what the cache says of itself. What cannot be kept is told with the
    /// first narinfo.
    pub(super) fn keep_info(&self, bytes: &[u8]) {
        if let Some(cache) = &self.kept {
            let _ = cache.keep_cache_info(&self.name, bytes);
        }
    }

    /// Reads and judges a narinfo.
    fn read(&self, path: &StorePath, bytes: &[u8]) -> Result<(NarInfo, Voucher)> {
        let full = self.store_dir.join(path);
        let wrong = |problem: String| ErrorKind::NarInfo {
            from: self.name.clone(),
            path: full.clone(),
            problem,
        };
        let info = NarInfo::parse(bytes, &self.store_dir).map_err(|e| wrong(e.to_string()))?;
        if info.path != *path {
            let found = self.store_dir.join(&info.path);
            return Err(wrong(format!("it is that of {found}")).into());
        }
        let voucher = self.trust.judge(&info, &self.store_dir);
        let voucher = voucher.map_err(|doubt| ErrorKind::Untrusted {
            path: full.clone(),
            from: self.name.clone(),
            problem: doubt.to_string(),
        })?;
        Ok((info, voucher))
    }

    /// Asks for a small file and waits for it.
    pub(super) fn get(&self, cx: &Context, wanted: Wanted) -> Result<Answered<Bytes>> {
        let (sender, receiver) = mpsc::channel();
        let reply = Box::new(move |answer| {
            // Whoever was cancelled does not wait any more.
            let _ = sender.send(answer);
        });
        self.files.ask(cx, wanted, reply);
        wait(cx, &receiver)?
    }

    /// Hears of an error of this cache that ends nothing, because another one
    /// may do. After some errors it is not asked any more.
    pub(super) fn failed(&self, cx: &Context, error: &Error) {
        // An answer without a status is one that makes no sense for this path.
        let is_down = matches!(
            error.kind(),
            ErrorKind::Connection { .. }
                | ErrorKind::Answer {
                    status: Some(_),
                    ..
                }
                | ErrorKind::Denied { .. }
        );
        let (told, what) = if is_down {
            self.is_down.store(true, Ordering::Relaxed);
            (&self.told.down, "is not asked any more")
        } else {
            (&self.told.passed_over, "is passed over where it fails")
        };
        if !told.swap(true, Ordering::Relaxed) {
            let message = format!("{} {what}: {}", self.name, chain(error));
            cx.observer.event(&Event::Warning { message: &message });
        }
    }

    /// Hears that a NAR of this cache could not be read to its end, and that
    /// another cache gives the rest.
    pub(super) fn broke_off(&self, cx: &Context, error: &Error) {
        if !self.told.broken_off.swap(true, Ordering::Relaxed) {
            let message = format!("another cache is asked for the rest: {}", chain(error));
            cx.observer.event(&Event::Warning { message: &message });
        }
    }

    /// Returns whether NARs may be begun that nobody reads yet.
    pub(super) fn takes_ahead(&self) -> bool {
        !self.is_down() && !self.is_without_ahead.load(Ordering::Relaxed)
    }

    pub(super) fn is_down(&self) -> bool {
        self.is_down.load(Ordering::Relaxed)
    }
}

/// Waits for an answer as long as nobody cancels.
pub(super) fn wait<T>(cx: &Context, receiver: &mpsc::Receiver<T>) -> Result<T> {
    loop {
        cx.cancel.check()?;
        match receiver.recv_timeout(PATIENCE) {
            Ok(answer) => return Ok(answer),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            // A reply is dropped only after a cancel.
            Err(mpsc::RecvTimeoutError::Disconnected) => return Err(ErrorKind::Cancelled.into()),
        }
    }
}

/// Returns an error with its causes, for a warning.
pub(super) fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
