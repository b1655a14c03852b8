//! A bad network in front of a registry.
//!
//! Each request meets a [`Mishap`] or none, drawn by a generator that is
//! seeded: request number `n` of seed `s` meets the same one in every run.
//! (Which request has which number depends on the client, if it sends several
//! at a time.) What passes, passes unchanged: distribution makes its locations
//! from the `Host` that the client sent, so they lead through the proxy again.

mod upstream;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::http_server::{Answer, HttpServer, Request, lock};
use crate::request_log::{Log, fits};

use upstream::{Upstream, UpstreamAnswer};

/// How often what goes wrong.
///
/// The chances are in percent of the requests and must not exceed 100 together;
/// what they leave passes.
#[derive(Debug, Clone)]
pub struct ChaosOptions {
    /// [`Mishap::Delay`].
    pub delay: u8,
    /// [`Mishap::ResetBefore`].
    pub reset_before: u8,
    /// [`Mishap::ResetInBody`].
    pub reset_in_body: u8,
    /// [`Mishap::LoseAnswer`].
    pub lose_answer: u8,
    /// [`Mishap::Refuse`].
    pub refuse: u8,
    /// [`Mishap::Truncate`].
    pub truncate: u8,
    /// [`Mishap::Stall`].
    pub stall: u8,
    /// The longest delay.
    pub longest_delay: Duration,
    /// How long a stalled request stands still.
    pub stall_time: Duration,
    /// So many mishaps happen, then everything passes. For clients that give up
    /// after some attempts, who could otherwise be unlucky.
    pub most: u64,
}

impl Default for ChaosOptions {
    /// Something goes wrong with two requests of five, for ever.
    fn default() -> Self {
        Self {
            delay: 10,
            reset_before: 5,
            reset_in_body: 5,
            lose_answer: 5,
            refuse: 10,
            truncate: 2,
            stall: 3,
            longest_delay: Duration::from_millis(50),
            stall_time: Duration::from_millis(500),
            most: u64::MAX,
        }
    }
}

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mishap {
    /// It passes, but later.
    Delay(Duration),
    /// The connection is reset before the registry hears of the request.
    ResetBefore,
    /// The connection to the client is reset after so many thousandths of the
    /// body, fewer than 1000, reached the registry, and the one to the registry
    /// ends there. Without a body: like [`Mishap::ResetBefore`].
    ResetInBody(u16),
    /// The registry does what it is asked for, the client gets a reset.
    LoseAnswer,
    /// The registry hears of nothing, the client gets this status, perhaps with
    /// `Retry-After` in seconds.
    Refuse(u16, Option<u8>),
    /// The connection is closed in the middle of the answer's body. An answer
    /// without one passes.
    Truncate,
    /// It stands still for a while after the first half of its body, then goes
    /// on.
    Stall(Duration),
}

impl Mishap {
    /// Returns its name without its values, for counting.
    pub fn name(self) -> &'static str {
        match self {
            Self::Delay(_) => "delay",
            Self::ResetBefore => "reset before",
            Self::ResetInBody(_) => "reset in body",
            Self::LoseAnswer => "lost answer",
            Self::Refuse(..) => "refusal",
            Self::Truncate => "truncated answer",
            Self::Stall(_) => "stall",
        }
    }
}

impl ChaosOptions {
    /// Nothing goes wrong.
    pub fn none() -> Self {
        Self {
            delay: 0,
            reset_before: 0,
            reset_in_body: 0,
            lose_answer: 0,
            refuse: 0,
            truncate: 0,
            stall: 0,
            ..Self::default()
        }
    }

    /// Returns what goes wrong with a request: the same for the same arguments.
    pub fn mishap(&self, seed: u64, number: u64) -> Option<Mishap> {
        let mut random = Random(mix(mix(seed) ^ number));
        let mut dice = random.below(100);
        let mut is = |chance: u8| {
            let is_it = dice < u64::from(chance);
            dice = dice.wrapping_sub(chance.into());
            is_it
        };
        Some(if is(self.delay) {
            let micros = u64::try_from(self.longest_delay.as_micros()).unwrap_or(u64::MAX - 1);
            Mishap::Delay(Duration::from_micros(random.below(micros + 1)))
        } else if is(self.reset_before) {
            Mishap::ResetBefore
        } else if is(self.reset_in_body) {
            Mishap::ResetInBody(random.choose(&[0, 1, 100, 250, 500, 750, 900, 999]))
        } else if is(self.lose_answer) {
            Mishap::LoseAnswer
        } else if is(self.refuse) {
            let status = random.choose(&[429, 500, 502, 503]);
            Mishap::Refuse(status, random.choose(&[None, Some(0), Some(1)]))
        } else if is(self.truncate) {
            Mishap::Truncate
        } else if is(self.stall) {
            Mishap::Stall(self.stall_time)
        } else {
            return None;
        })
    }
}

/// A proxy on a free port of 127.0.0.1. It ends when it is dropped.
#[derive(Debug)]
pub struct ChaosProxy {
    server: HttpServer,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    seed: u64,
    options: ChaosOptions,
    mishaps: AtomicU64,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    /// The targets of requests that were done, and whose client does not know.
    unheard: Mutex<Vec<String>>,
    log: Log,
}

impl ChaosProxy {
    /// Starts a proxy for a server without TLS.
    ///
    /// # Panics
    ///
    /// If the chances are more than 100 together.
    pub fn start(upstream: SocketAddr, seed: u64, options: ChaosOptions) -> Self {
        let chances = [
            options.delay,
            options.reset_before,
            options.reset_in_body,
            options.lose_answer,
            options.refuse,
            options.truncate,
            options.stall,
        ];
        let sum: u32 = chances.into_iter().map(u32::from).sum();
        assert!(sum <= 100, "the chances are {sum} percent together");
        let shared = Arc::new(Shared {
            upstream,
            seed,
            options,
            mishaps: AtomicU64::new(0),
            counts: Mutex::default(),
            unheard: Mutex::default(),
            log: Log::default(),
        });
        let serving = shared.clone();
        let server = HttpServer::start(move |request| serving.handle(request));
        Self { server, shared }
    }

    /// Returns the host as in a reference: `127.0.0.1:12345`.
    pub fn host(&self) -> String {
        self.server.host()
    }

    /// Returns the requests with what the registry behind had of each: bytes and
    /// status. So [`Log::uploaded_bytes`] is what reached it for a blob, and
    /// [`Log::completed`] how often it took it, whether the client knows or not.
    pub fn log(&self) -> &Log {
        &self.shared.log
    }

    /// Returns how often what went wrong, by [`Mishap::name`].
    pub fn mishaps(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.shared.counts).clone()
    }

    /// Returns how often the registry took a blob whose client was told of no
    /// answer: so often it has a reason to send the blob once more.
    pub fn unheard(&self, digest: &str) -> usize {
        let targets = lock(&self.shared.unheard);
        let closes = |target: &&String| fits("PUT", &format!("digest={digest}"), "PUT", target);
        targets.iter().filter(closes).count()
    }
}

impl Shared {
    fn handle(&self, request: &mut Request<'_>) -> Answer {
        let entry = self.log.begin(request, false);
        let mishap = self.draw(request.number);
        let mut heard = Heard::default();
        // A registry that does not answer is a gap in the network as well.
        let answer = self
            .pass(request, mishap, &mut heard)
            .unwrap_or_else(|_| Answer::reset());
        if mishap == Some(Mishap::LoseAnswer) && heard.status == Some(201) {
            lock(&self.unheard).push(request.target());
        }
        self.log.end(entry, heard.bytes, heard.status);
        answer
    }

    fn draw(&self, number: u64) -> Option<Mishap> {
        let mishap = self.options.mishap(self.seed, number)?;
        if self.mishaps.fetch_add(1, Ordering::SeqCst) >= self.options.most {
            return None;
        }
        *lock(&self.counts).entry(mishap.name()).or_default() += 1;
        Some(mishap)
    }

    fn pass(
        &self,
        request: &mut Request<'_>,
        mishap: Option<Mishap>,
        heard: &mut Heard,
    ) -> io::Result<Answer> {
        let mut stop = None;
        let mut stall = None;
        let part = |thousandths: u64| match request.length() {
            Some(length) => length.saturating_mul(thousandths) / 1000,
            // Of bodies of unknown length, something near the start.
            None if request.headers.has("Transfer-Encoding") => thousandths * 256,
            None => 0,
        };
        match mishap {
            None | Some(Mishap::LoseAnswer | Mishap::Truncate) => {}
            Some(Mishap::Delay(delay)) => request.wait(delay),
            Some(Mishap::ResetBefore) => return Ok(Answer::reset()),
            Some(Mishap::ResetInBody(_)) if request.is_read() => return Ok(Answer::reset()),
            Some(Mishap::ResetInBody(thousandths)) => stop = Some(part(thousandths.into())),
            Some(Mishap::Stall(time)) => stall = Some((part(500), time)),
            Some(Mishap::Refuse(status, retry_after)) => {
                let answer = Answer::new(status);
                return Ok(match retry_after {
                    Some(seconds) => answer.header("Retry-After", seconds.to_string()),
                    None => answer,
                });
            }
        }

        let mut upstream = Upstream::connect(self.upstream, request)?;
        let mut buffer = vec![0; 64 * 1024];
        let early = loop {
            if let Some((at, time)) = stall
                && heard.bytes >= at
            {
                request.wait(time);
                stall = None;
            }
            let left = stop.map_or(u64::MAX, |stop: u64| stop - heard.bytes);
            if left == 0 {
                return Ok(Answer::reset());
            }
            let next = stall.map_or(u64::MAX, |(at, _)| at - heard.bytes);
            let most = usize::try_from(left.min(next)).unwrap_or(usize::MAX);
            let most = most.min(buffer.len());
            let read = request.read(&mut buffer[..most])?;
            if read == 0 {
                break None;
            }
            if let Some(answer) = upstream.early_answer() {
                break Some(answer);
            }
            if upstream.send(&buffer[..read]).is_err() {
                // It will have said why.
                break Some(upstream.answer()?);
            }
            heard.bytes += read as u64;
        };
        let answer = match early {
            Some(answer) => answer,
            None => {
                upstream.finish()?;
                upstream.answer()?
            }
        };
        heard.status = Some(answer.status);
        Ok(match mishap {
            Some(Mishap::LoseAnswer) => Answer::reset(),
            Some(Mishap::Truncate) => {
                let half = answer.length.unwrap_or(0) / 2;
                let answer = pass_answer(answer);
                if half > 0 {
                    answer.cut_after(half)
                } else {
                    answer
                }
            }
            _ => pass_answer(answer),
        })
    }
}

/// What the registry had of a request.
#[derive(Debug, Default)]
struct Heard {
    bytes: u64,
    status: Option<u16>,
}

fn pass_answer(answer: UpstreamAnswer) -> Answer {
    let mut passed = Answer::new(answer.status);
    for (name, value) in answer.headers.iter() {
        let is_ours = ["connection", "transfer-encoding", "keep-alive"];
        if !is_ours.contains(&name.to_ascii_lowercase().as_str()) {
            passed.headers.add(name, value);
        }
    }
    passed.reader(answer.body, answer.length)
}

/// SplitMix64 (Steele, Lea and Flood 2014): enough to draw lots, and the same
/// everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        let drawn = mix(self.0);
        self.0 = self.0.wrapping_add(GAMMA);
        drawn
    }

    /// A number below `n`, which is small enough not to notice that the first
    /// ones are a little more likely.
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn choose<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(GAMMA);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
