//! The pipeline with a task that can fail anywhere, under a watchdog.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::error::ErrorClass;

const BLOCK: usize = 8;
/// A pipeline that hangs is told from one that works.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is called when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Worker,
    Output,
    Produce,
    Transform,
    Consume,
    Finish,
    Deliver,
}

const STEPS: [Step; 7] = [
    Step::Worker,
    Step::Output,
    Step::Produce,
    Step::Transform,
    Step::Consume,
    Step::Finish,
    Step::Deliver,
];

#[derive(Debug, Clone, Copy)]
enum Trap {
    Error,
    Panic,
    Cancel,
}

/// Jobs of so many bytes each, all bytes of job n being n; a block is
/// transformed by adding 1 to each byte.
struct Toy {
    sizes: Vec<usize>,
    /// At which step, at which of its calls, what happens.
    trap: Option<(Step, usize, Trap)>,
    calls: AtomicUsize,
    cx: Context,
    /// Blocks that a producer filled or that wait to be consumed.
    alive: AtomicUsize,
    most_alive: AtomicUsize,
    finished: AtomicUsize,
}

impl Toy {
    fn new(threads: usize, sizes: Vec<usize>) -> Self {
        Self {
            sizes,
            trap: None,
            calls: AtomicUsize::new(0),
            cx: Context {
                threads: NonZeroUsize::new(threads).unwrap(),
                ..Context::default()
            },
            alive: AtomicUsize::new(0),
            most_alive: AtomicUsize::new(0),
            finished: AtomicUsize::new(0),
        }
    }

    fn step(&self, step: Step) -> Result<()> {
        let Some((at, call, trap)) = self.trap else {
            return Ok(());
        };
        if at != step || self.calls.fetch_add(1, Ordering::Relaxed) != call {
            return Ok(());
        }
        match trap {
            Trap::Error => Err(Error::invalid("the trap", "it sprang")),
            Trap::Panic => panic!("the trap sprang"),
            Trap::Cancel => {
                self.cx.cancel.cancel();
                Ok(())
            }
        }
    }

    fn run(&self) -> Result<Vec<(usize, Vec<u8>)>> {
        let mut delivered = Vec::new();
        let jobs = (0..self.sizes.len()).collect();
        run(&self.cx, self, jobs, |job, bytes| {
            self.step(Step::Deliver)?;
            delivered.push((job, bytes));
            Ok(())
        })?;
        delivered.sort();
        Ok(delivered)
    }
}

impl Task for Toy {
    type Worker = ();
    type Output = Vec<u8>;
    type Produced = usize;
    type Done = Vec<u8>;

    fn block_size(&self) -> usize {
        BLOCK
    }

    fn worker(&self) -> Result<()> {
        self.step(Step::Worker)
    }

    fn output(&self, _: usize) -> Result<Vec<u8>> {
        self.step(Step::Output)?;
        Ok(Vec::new())
    }

    fn produce(&self, cx: &Context, job: usize, blocks: &mut dyn Blocks) -> Result<usize> {
        for _ in 0..self.sizes[job] {
            cx.cancel.check()?;
            let block = blocks.current()?;
            if block.len == 0 {
                let alive = self.alive.fetch_add(1, Ordering::Relaxed) + 1;
                self.most_alive.fetch_max(alive, Ordering::Relaxed);
            }
            block.bytes[block.len] = job as u8;
            block.len += 1;
            blocks.hand_on()?;
        }
        self.step(Step::Produce)?;
        Ok(self.sizes[job])
    }

    fn transform(&self, (): &mut (), from: &mut Buffer, to: &mut Buffer) -> Result<()> {
        self.step(Step::Transform)?;
        to.reset(from.len);
        for (to, from) in to.bytes.iter_mut().zip(from.filled()) {
            *to = from.wrapping_add(1);
        }
        to.len = from.len;
        Ok(())
    }

    fn consume(&self, output: &mut Vec<u8>, bytes: &[u8]) -> Result<()> {
        self.step(Step::Consume)?;
        output.extend_from_slice(bytes);
        self.alive.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }

    fn finish(&self, _: usize, produced: usize, output: Vec<u8>) -> Result<Vec<u8>> {
        self.step(Step::Finish)?;
        assert_eq!(produced, output.len());
        self.finished.fetch_add(1, Ordering::Relaxed);
        Ok(output)
    }
}

/// Runs on another thread and panics if that takes forever.
fn watched<R: Send + 'static>(what: String, f: impl FnOnce() -> R + Send + 'static) -> R {
    let (done, result) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let _ = done.send(f());
    });
    match result.recv_timeout(PATIENCE) {
        Ok(result) => {
            thread.join().expect("it sent its result");
            result
        }
        Err(error) => panic!("{what}: {error}"),
    }
}

#[test]
fn every_job_comes_out_whole_and_in_order() {
    let sizes = vec![
        0,
        1,
        BLOCK - 1,
        BLOCK,
        BLOCK + 1,
        100 * BLOCK,
        3,
        1000 * BLOCK + 5,
        0,
    ];
    let expected: Vec<_> = sizes
        .iter()
        .enumerate()
        .map(|(job, size)| (job, vec![(job as u8).wrapping_add(1); *size]))
        .collect();
    for threads in [1, 2, 3, 8] {
        let sizes = sizes.clone();
        let (found, most_alive) = watched(format!("{threads} threads"), move || {
            let toy = Toy::new(threads, sizes);
            (toy.run().unwrap(), toy.most_alive.into_inner())
        });
        assert_eq!(found, expected, "{threads} threads");
        let bound = 2 * threads + 2;
        assert!(
            most_alive <= bound,
            "{most_alive} blocks, {threads} threads"
        );
    }
}

#[test]
fn no_jobs_are_done_at_once() {
    let none = watched("no jobs".to_owned(), || Toy::new(4, Vec::new()).run());
    assert_eq!(none.unwrap(), []);
}

#[test]
fn whatever_fails_wherever_everybody_stops() {
    for step in STEPS {
        for trap in [Trap::Error, Trap::Panic, Trap::Cancel] {
            for threads in [1, 2, 8] {
                for call in [0, 5, 30] {
                    // Each thread begins one worker.
                    let call = if step == Step::Worker { 0 } else { call };
                    let what = format!("{trap:?} in {step:?} {call}, {threads} threads");
                    let (result, finished, jobs) = watched(what.clone(), move || {
                        let jobs = if call == 30 { 400 } else { 40 };
                        let mut toy = Toy::new(threads, vec![5 * BLOCK; jobs]);
                        toy.trap = Some((step, call, trap));
                        (toy.run().map(|_| ()), toy.finished.into_inner(), jobs)
                    });
                    let error = result.expect_err(&what);
                    match trap {
                        Trap::Error => assert_eq!(error.to_string(), "the trap: it sprang"),
                        Trap::Panic => {
                            let text = "a worker thread panicked: the trap sprang";
                            assert_eq!(error.to_string(), text);
                        }
                        Trap::Cancel => assert_eq!(error.class(), ErrorClass::Cancelled),
                    }
                    // The deliverer may lag behind the workers, and one worker
                    // may do all before another begins.
                    let is_prompt = !matches!(step, Step::Worker | Step::Deliver);
                    assert!(!is_prompt || finished < jobs, "{what}: all was done");
                }
            }
        }
    }
}

#[test]
fn a_thread_that_falls_asleep_while_another_fails_wakes_up() {
    // The two windows are narrow: many short runs.
    watched("many failing runs".to_owned(), || {
        for run in 0..3000 {
            let mut toy = Toy::new(2, vec![BLOCK; 3]);
            toy.trap = Some((STEPS[run % 6], run % 2, Trap::Error));
            drop(toy.run());
        }
    });
}
