//! Many small answers at once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use bytes::Bytes;

use super::Fetcher;
use crate::context::Context;
use crate::error::Result;

/// Small answers that are fetched at once, as many as the fetcher has jobs, and
/// come in any order. Dropped, it ends those that are on their way within
/// 100 ms.
///
/// Answers that nobody has taken yet are in memory, so who starts many requests
/// with large answers takes them now and then.
pub(crate) struct Requests<K> {
    queue: Arc<Queue<K>>,
    answers: mpsc::Receiver<Answer<K>>,
    /// Started and not taken.
    open: usize,
}

type Answer<K> = (K, Result<Option<Bytes>>);

struct Queue<K> {
    fetcher: Fetcher,
    /// Of these requests: cancelled when they are dropped.
    cx: Context,
    state: Mutex<State<K>>,
}

struct State<K> {
    waiting: VecDeque<Waiting<K>>,
    running: usize,
    answers: mpsc::Sender<Answer<K>>,
}

struct Waiting<K> {
    key: K,
    target: String,
    action: String,
    limit: u64,
}

impl<K: Send + 'static> Requests<K> {
    pub(super) fn new(cx: &Context, fetcher: &Fetcher) -> Self {
        let (sender, answers) = mpsc::channel();
        Self {
            queue: Arc::new(Queue {
                fetcher: fetcher.clone(),
                cx: cx.child(),
                state: Mutex::new(State {
                    waiting: VecDeque::new(),
                    running: 0,
                    answers: sender,
                }),
            }),
            answers,
            open: 0,
        }
    }

    /// Begins a request as [`Fetcher::get`] has it. Returns at once; `key` comes
    /// back with the answer.
    pub(crate) fn start(&mut self, key: K, target: &str, action: &str, limit: u64) {
        self.open += 1;
        self.queue.lock().waiting.push_back(Waiting {
            key,
            target: target.to_owned(),
            action: action.to_owned(),
            limit,
        });
        Queue::send_next(&self.queue);
    }

    /// Waits for any answer; `None` if there is no request any more.
    pub(crate) fn next(&mut self) -> Option<(K, Result<Option<Bytes>>)> {
        self.open = self.open.checked_sub(1)?;
        // The queue has a sender, so it does not end.
        self.answers.recv().ok()
    }
}

impl<K> Drop for Requests<K> {
    fn drop(&mut self) {
        self.queue.lock().waiting.clear();
        self.queue.cx.cancel.cancel();
    }
}

impl<K> Queue<K> {
    fn lock(&self) -> std::sync::MutexGuard<'_, State<K>> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Send + 'static> Queue<K> {
    /// Sends the next request if there are not too many on their way; each that
    /// ends sends another one.
    fn send_next(queue: &Arc<Self>) {
        let jobs = queue.fetcher.jobs();
        let next = {
            let mut state = queue.lock();
            if state.running == jobs {
                return;
            }
            let Some(next) = state.waiting.pop_front() else {
                return;
            };
            state.running += 1;
            next
        };
        let Waiting {
            key,
            target,
            action,
            limit,
        } = next;
        let (fetch, cx) = (queue.fetcher.shared(), queue.cx.clone());
        let again = Arc::clone(queue);
        queue.fetcher.runtime().run(
            &queue.cx.cancel,
            async move { fetch.get(&cx, &target, &action, limit).await },
            move |result| {
                {
                    let mut state = again.lock();
                    state.running -= 1;
                    // Nobody waits for it any more if it cannot be sent.
                    let _ = state.answers.send((key, result));
                }
                Self::send_next(&again);
            },
        );
    }
}

#[cfg(test)]
#[path = "requests_tests.rs"]
mod tests;
