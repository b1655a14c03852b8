//! One call for each of many independent things.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::context::Context;
use crate::error::Result;

use super::panicked;

/// Calls `f` for each of `items`, at most `cx.threads` at a time, and returns
/// what it returned in the order of `items`.
///
/// # Errors
///
/// After a failure no further call begins. The error of the first item, in the
/// order of `items`, of those that failed is returned. A panic in `f` is
/// [`ErrorKind::WorkerPanicked`]. `cx.cancel` is asked before each call.
pub(crate) fn for_each<T, R, F>(cx: &Context, items: &[T], f: F) -> Result<Vec<R>>
where
    T: Sync,
    R: Send,
    F: Fn(&T) -> Result<R> + Sync,
{
    let next = AtomicUsize::new(0);
    let stopped = AtomicBool::new(false);
    let results: Mutex<Vec<Option<Result<R>>>> = Mutex::new(items.iter().map(|_| None).collect());
    let work = || {
        while !stopped.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { break };
            let result = cx.cancel.check().and_then(|()| call(&f, item));
            if result.is_err() {
                stopped.store(true, Ordering::Relaxed);
            }
            // A poisoned lock is one that a panic of ours left: the slots are
            // still whole, since each is written at once.
            results.lock().unwrap_or_else(PoisonError::into_inner)[index] = Some(result);
        }
    };
    let workers = cx.threads.get().min(items.len());
    if workers <= 1 {
        work();
    } else {
        thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(work);
            }
        });
    }
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    // Only after a failure are there slots that stayed empty.
    results.into_iter().flatten().collect()
}

/// Calls `f`; a panic becomes an error.
pub(super) fn call<T, R>(f: &impl Fn(&T) -> Result<R>, item: &T) -> Result<R> {
    catch_unwind(AssertUnwindSafe(|| f(item))).unwrap_or_else(|payload| Err(panicked(&*payload)))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::error::{Error, ErrorKind};

    fn context(threads: usize) -> Context {
        Context {
            threads: NonZeroUsize::new(threads).unwrap(),
            ..Context::default()
        }
    }

    #[test]
    fn results_come_in_the_order_of_the_items() {
        let items: Vec<u64> = (0..100).collect();
        for threads in [1, 2, 8] {
            let squares = for_each(&context(threads), &items, |n| Ok(n * n)).unwrap();
            assert_eq!(squares, items.iter().map(|n| n * n).collect::<Vec<_>>());
        }
        let none: Vec<u64> = for_each(&context(4), &[], |n: &u64| Ok(*n)).unwrap();
        assert!(none.is_empty());
    }

    #[test]
    fn a_failure_stops_the_others() {
        let calls = AtomicUsize::new(0);
        let items: Vec<usize> = (0..1000).collect();
        let error = for_each(&context(1), &items, |n| {
            calls.fetch_add(1, Ordering::Relaxed);
            if *n == 3 {
                return Err(Error::invalid("item", "three"));
            }
            Ok(*n)
        })
        .unwrap_err();
        assert_eq!(error.to_string(), "item: three");
        assert_eq!(calls.load(Ordering::Relaxed), 4);
    }

    #[test]
    fn a_panic_is_an_error() {
        for threads in [1, 3] {
            let error = for_each(&context(threads), &[1, 2, 3], |n| {
                assert_ne!(*n, 2, "two");
                Ok(*n)
            })
            .unwrap_err();
            assert!(
                matches!(error.kind(), ErrorKind::WorkerPanicked { message } if message.contains("two")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_cancelled_call_does_nothing() {
        let cx = context(2);
        cx.cancel.cancel();
        let error = for_each(&cx, &[1, 2], |n| Ok(*n)).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Cancelled));
    }
}
