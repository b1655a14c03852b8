//! Work that is done ahead of who needs it.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::context::Context;
use crate::error::Result;

use super::for_each::call;

/// How far work goes ahead.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lead {
    /// Items that are worked on at once.
    pub(crate) threads: usize,
    /// Items that are worked on or wait for who needs them.
    pub(crate) items: usize,
}

/// What was done ahead, in the order of the items.
pub(crate) struct Ahead<'a, R> {
    shared: &'a Shared<R>,
    /// The item that comes next.
    next: usize,
    len: usize,
}

struct Shared<R> {
    state: Mutex<State<R>>,
    changed: Condvar,
}

struct State<R> {
    /// Items whose work began.
    begun: usize,
    /// Items that were taken.
    taken: usize,
    done: BTreeMap<usize, Result<R>>,
    is_over: bool,
}

impl<R> Shared<R> {
    fn state(&self) -> MutexGuard<'_, State<R>> {
        // Every change of the state is one step, so that no panic breaks it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&'a self, state: MutexGuard<'a, State<R>>) -> MutexGuard<'a, State<R>> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends all work when it is dropped, with a panic as well.
struct Stop<'a, R>(&'a Shared<R>, Context);

impl<R> Drop for Stop<'_, R> {
    fn drop(&mut self) {
        self.1.cancel.cancel();
        self.0.state().is_over = true;
        self.0.changed.notify_all();
    }
}

/// Calls `f` for each of `items`, in their order and on threads of its own,
/// while `main` runs on this one and takes what comes of it.
///
/// What `main` does not take is dropped; the context that `f` gets is cancelled
/// when `main` is done.
///
/// # Errors
///
/// Those of `main`, which gets those of `f`. After the first no further call
/// begins. A panic in `f` is [`ErrorKind::WorkerPanicked`](crate::ErrorKind).
pub(crate) fn ahead<T, R, F, O>(
    cx: &Context,
    items: &[T],
    lead: Lead,
    f: F,
    main: impl FnOnce(&mut Ahead<'_, R>) -> Result<O>,
) -> Result<O>
where
    T: Sync,
    R: Send,
    F: Fn(&Context, &T) -> Result<R> + Sync,
{
    let shared = Shared {
        state: Mutex::new(State {
            begun: 0,
            taken: 0,
            done: BTreeMap::new(),
            is_over: false,
        }),
        changed: Condvar::new(),
    };
    let child = cx.child();
    let work = || {
        let mut state = shared.state();
        loop {
            if state.is_over || state.begun == items.len() {
                return;
            }
            if state.begun >= state.taken + lead.items {
                state = shared.wait(state);
                continue;
            }
            let item = state.begun;
            state.begun += 1;
            drop(state);
            let checked = child.cancel.check();
            let result = checked.and_then(|()| call(&|item| f(&child, item), &items[item]));
            state = shared.state();
            // Those before it have begun: what is asked for does come.
            state.is_over |= result.is_err();
            state.done.insert(item, result);
            shared.changed.notify_all();
        }
    };
    thread::scope(|scope| {
        for _ in 0..lead.threads.min(items.len()) {
            scope.spawn(work);
        }
        let _stop = Stop(&shared, child.clone());
        main(&mut Ahead {
            shared: &shared,
            next: 0,
            len: items.len(),
        })
    })
}

impl<R> Ahead<'_, R> {
    /// Waits for what came of the next item. None at the end, and after an
    /// error.
    pub(crate) fn next(&mut self) -> Option<Result<R>> {
        while self.next < self.len {
            if let Some(result) = self.ready() {
                return Some(result);
            }
            let state = self.shared.state();
            if !state.done.contains_key(&self.next) {
                drop(self.shared.wait(state));
            }
        }
        None
    }

    /// Returns what came of the next item, if it is done.
    pub(crate) fn ready(&mut self) -> Option<Result<R>> {
        let mut state = self.shared.state();
        let result = state.done.remove(&self.next)?;
        state.taken += 1;
        self.next = if result.is_ok() {
            self.next + 1
        } else {
            self.len
        };
        self.shared.changed.notify_all();
        Some(result)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::error::{Error, ErrorKind};

    const LEAD: Lead = Lead {
        threads: 3,
        items: 4,
    };

    #[test]
    fn results_come_in_order_and_are_never_too_many() {
        let items: Vec<usize> = (0..50).collect();
        let (begun, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = |_: &Context, n: &usize| {
            let begun = begun.fetch_add(1, Ordering::SeqCst) + 1;
            assert!(begun <= taken.load(Ordering::SeqCst) + LEAD.items + 1);
            Ok(*n)
        };
        let all = ahead(&Context::default(), &items, LEAD, work, |ahead| {
            let mut all = Vec::new();
            while let Some(n) = ahead.next() {
                taken.fetch_add(1, Ordering::SeqCst);
                all.push(n?);
            }
            assert!(ahead.ready().is_none());
            Ok(all)
        });
        assert_eq!(all.unwrap(), items);
        let none = ahead(&Context::default(), &[], LEAD, work, |ahead| {
            Ok(ahead.next().is_none())
        });
        assert!(none.unwrap());
    }

    #[test]
    fn an_error_comes_in_its_turn_and_ends_the_work() {
        let items: Vec<usize> = (0..1000).collect();
        let calls = AtomicUsize::new(0);
        let work = |_: &Context, n: &usize| {
            calls.fetch_add(1, Ordering::Relaxed);
            assert_ne!(*n, 7, "seven");
            match n {
                5 => Err(Error::invalid("item", "five")),
                n => Ok(*n),
            }
        };
        let mut taken = Vec::new();
        let error = ahead(&Context::default(), &items, LEAD, work, |ahead| {
            while let Some(n) = ahead.next() {
                taken.push(n?);
            }
            Ok(())
        });
        assert_eq!(error.unwrap_err().to_string(), "item: five");
        assert_eq!(taken, [0, 1, 2, 3, 4]);
        assert!(calls.load(Ordering::Relaxed) < 20);
        let panicked = ahead(&Context::default(), &[7], LEAD, work, |ahead| {
            ahead.next().expect("there is one item")
        });
        let panicked = panicked.unwrap_err();
        assert!(matches!(panicked.kind(), ErrorKind::WorkerPanicked { .. }));
    }

    /// Whoever waits for its turn, or works, is let go.
    #[test]
    fn nothing_goes_on_when_nobody_needs_it() {
        let items: Vec<usize> = (0..1000).collect();
        let work = |cx: &Context, n: &usize| {
            if *n == 0 {
                return Ok(*n);
            }
            loop {
                cx.cancel.check()?;
                thread::yield_now();
            }
        };
        let first = ahead(&Context::default(), &items, LEAD, work, |ahead| {
            ahead.next().expect("there are items")
        });
        assert_eq!(first.unwrap(), 0);
    }
}
