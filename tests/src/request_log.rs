//! What came in at a server.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::http_server::{Headers, Request, lock, percent_decode, query_values};

/// All requests in the order in which they began.
#[derive(Debug)]
pub struct Log {
    start: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: Vec<Entry>,
    at_work: usize,
    most_at_work: usize,
}

/// A request.
#[derive(Debug, Clone)]
pub struct Entry {
    /// When its head was read, from the start of the server.
    pub at: Duration,
    /// The method.
    pub method: String,
    /// The path, as it was sent.
    pub path: String,
    /// The query, as it was sent.
    pub query: String,
    /// All header fields, `Authorization` as well.
    pub headers: Headers,
    /// Whether it came to the port of a fake registry's storage.
    pub is_storage: bool,
    /// How many bytes of the body were read; a proxy's: passed on.
    pub received: u64,
    /// The status it got; a proxy's: from the server behind. None while it is at
    /// work, and if it got no answer.
    pub status: Option<u16>,
    /// Whether it is over.
    pub is_over: bool,
}

impl Entry {
    /// Returns path and query as they were sent.
    pub fn target(&self) -> String {
        if self.query.is_empty() {
            self.path.clone()
        } else {
            format!("{}?{}", self.path, self.query)
        }
    }

    /// Returns the value of `Authorization`.
    pub fn authorization(&self) -> Option<&str> {
        self.headers.get("Authorization")
    }

    /// Returns the digest that an upload is completed with.
    pub fn upload_digest(&self) -> Option<String> {
        self.upload()?;
        query_values(&self.query, "digest").into_iter().next()
    }

    /// Returns the upload that the request belongs to, a POST's excepted.
    fn upload(&self) -> Option<&str> {
        let (_, id) = self.path.split_once("/blobs/uploads/")?;
        Some(id).filter(|id| !id.is_empty())
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            inner: Mutex::default(),
        }
    }
}

impl Log {
    /// Returns all entries.
    pub fn entries(&self) -> Vec<Entry> {
        lock(&self.inner).entries.clone()
    }

    /// Returns the entries with this method (or `*`) and this text in their
    /// target.
    pub fn of(&self, method: &str, target: &str) -> Vec<Entry> {
        let mut entries = self.entries();
        entries.retain(|entry| fits(method, target, &entry.method, &entry.target()));
        entries
    }

    /// Returns how many requests had this method (or `*`) and this text in
    /// their target.
    pub fn count(&self, method: &str, target: &str) -> usize {
        self.of(method, target).len()
    }

    /// Returns how many bytes came in for a blob, in all uploads that were
    /// completed with its digest or would have been.
    pub fn uploaded_bytes(&self, digest: &str) -> u64 {
        let inner = lock(&self.inner);
        let entries = || inner.entries.iter();
        let mut uploads: Vec<_> = entries()
            .filter(|entry| entry.upload_digest().as_deref() == Some(digest))
            .filter_map(Entry::upload)
            .collect();
        uploads.sort_unstable();
        uploads.dedup();
        entries()
            .filter(|entry| entry.upload().is_some_and(|id| uploads.contains(&id)))
            .map(|entry| entry.received)
            .sum()
    }

    /// Returns how often a blob was completed.
    pub fn completed(&self, digest: &str) -> usize {
        let inner = lock(&self.inner);
        let entries = inner.entries.iter();
        entries
            .filter(|entry| entry.method == "PUT" && entry.status == Some(201))
            .filter(|entry| entry.upload_digest().as_deref() == Some(digest))
            .count()
    }

    /// Returns how many bytes came in, in all requests.
    pub fn received(&self) -> u64 {
        let inner = lock(&self.inner);
        inner.entries.iter().map(|entry| entry.received).sum()
    }

    /// Returns how many requests were at work at the same time, at most.
    pub fn most_at_once(&self) -> usize {
        lock(&self.inner).most_at_work
    }

    /// Waits until no request is at work: what a client has given up may still
    /// be.
    ///
    /// # Panics
    ///
    /// If that takes more than 30 seconds.
    pub fn settle(&self) {
        let start = Instant::now();
        while lock(&self.inner).at_work > 0 {
            assert!(start.elapsed().as_secs() < 30, "{}", self.text());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Forgets all entries. Those of requests at work are not completed.
    pub fn clear(&self) {
        let mut inner = lock(&self.inner);
        inner.entries.clear();
        inner.most_at_work = inner.at_work;
    }

    /// Returns the log as text, a line for each request: for a failed test.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for entry in self.entries() {
            let status = entry.status.map_or("none".into(), |s| s.to_string());
            let target = percent_decode(&entry.target());
            text += &format!(
                "{:>6} ms {:5} {target} {} bytes: {status}\n",
                entry.at.as_millis(),
                entry.method,
                entry.received,
            );
        }
        text
    }

    /// Notes a request and returns its key.
    pub(crate) fn begin(&self, request: &Request<'_>, is_storage: bool) -> Duration {
        let mut inner = lock(&self.inner);
        // No two are equal: the lock is held, and later ones are later.
        let last = inner.entries.last().map(|entry| entry.at);
        let next = last.map_or(Duration::ZERO, |at| at + Duration::from_nanos(1));
        let at = self.start.elapsed().max(next);
        inner.entries.push(Entry {
            at,
            method: request.method.clone(),
            path: request.path.clone(),
            query: request.query.clone(),
            headers: request.headers.clone(),
            is_storage,
            received: 0,
            status: None,
            is_over: false,
        });
        inner.at_work += 1;
        inner.most_at_work = inner.most_at_work.max(inner.at_work);
        at
    }

    /// Notes what became of a request.
    pub(crate) fn end(&self, at: Duration, received: u64, status: Option<u16>) {
        let mut inner = lock(&self.inner);
        inner.at_work -= 1;
        if let Ok(found) = inner.entries.binary_search_by_key(&at, |entry| entry.at) {
            let entry = &mut inner.entries[found];
            entry.received = received;
            entry.status = status;
            entry.is_over = true;
        }
    }
}

/// Whether a request has this method (or it is `*`) and this text in its target,
/// which is compared as it was sent and decoded.
pub(crate) fn fits(method: &str, part: &str, has_method: &str, target: &str) -> bool {
    (method == "*" || method == has_method)
        && (target.contains(part) || percent_decode(target).contains(part))
}
