//! A blob in chunks, which can go on where it broke off.
//!
//! A chunk that was taken was taken whole, whatever `Range` says with it: ECR
//! says what it had after the first chunk however many it took
//! (aws/containers-roadmap#2831, chalk#682), zot counted the last chunk only
//! (regclient#961). After a failure the session is asked where it is, and
//! believed if it got further than is known, or if it refuses to go on from
//! there. What is wrong in the end shows in the digest.

use std::num::NonZeroU64;

use reqwest::header::{CONTENT_RANGE, HeaderValue};
use reqwest::{Method, Url};

use super::location::{closing, received};
use super::quirks::SMALL_CHUNK;
use super::repository::Repository;
use super::request::Request;
use super::upload::{CLOSED, Stopped, TAKEN, Upload, UploadSession, octets};
use super::way::{Trouble, trouble};
use crate::error::Result;

/// Bytes of a chunk if nobody says otherwise: few enough for proxies that cap
/// bodies at 100 MB (distribution-spec#485), and more than the 5 MiB that
/// stores such as S3 want.
const CHUNK: u64 = 16 << 20;

/// [`TAKEN`], and 416: the session is at another byte, and it may have moved.
const TAKEN_OR_ELSEWHERE: &[u16] = &[200, 201, 202, 204, 416];

/// A chunk that is too large is halved, but not below.
pub(super) const LEAST_CHUNK: u64 = 64 << 10;

impl Repository {
    /// Returns how many bytes the first chunk has, as far as that is known
    /// before a session is open.
    pub(super) fn first_chunk(&self) -> u64 {
        let wanted = self.registry.chunk_size.map_or(CHUNK, NonZeroU64::get);
        let mut chunk = wanted.min(self.registry.quirks.max_chunk.unwrap_or(u64::MAX));
        while chunk > LEAST_CHUNK && self.registry.seen.refuses_size(chunk) {
            chunk /= 2;
        }
        chunk
    }
}

impl Upload<'_> {
    /// Sends what is missing after `taken` bytes and closes the session.
    pub(super) async fn send_chunks(
        &mut self,
        mut session: UploadSession,
        mut taken: u64,
    ) -> Result<(), Box<Stopped>> {
        loop {
            let length = self.length(&session, taken);
            // A registry that wants long chunks cannot know that a short one is
            // the last, unless it closes the session.
            let is_last = taken + length == self.source.size && session.min_chunk > 1;
            let sent = if length == 0 {
                self.close(&session.url).await
            } else if is_last {
                self.send_last_chunk(&session, taken, length).await
            } else {
                self.send_chunk(&mut session, taken, length).await
            };
            let error = match sent {
                Ok(()) if length == 0 || is_last => return Ok(()),
                Ok(()) => {
                    taken += length;
                    continue;
                }
                Err(error) if self.shrinks(trouble(&error), taken, length, &session) => continue,
                Err(error) => error,
            };
            return Err(Box::new(Stopped {
                error,
                session,
                taken,
            }));
        }
    }

    /// Decides how long the next chunk is.
    fn length(&self, session: &UploadSession, taken: u64) -> u64 {
        self.chunk
            .min(session.max_chunk)
            .max(session.min_chunk.max(1))
            .min(self.source.size - taken)
    }

    /// Sends one chunk; the session goes on from there.
    async fn send_chunk(&self, session: &mut UploadSession, taken: u64, length: u64) -> Result<()> {
        let mut request = self.chunk(Method::PATCH, session.url.clone(), taken, length);
        request.accept = TAKEN_OR_ELSEWHERE;
        let response = self.send_request(request).await?;
        session.url = self.next_url(&response, &session.url)?;
        if response.status == 416 {
            return Err(self.repository.refused(self.action.clone(), response).await);
        }
        Ok(())
    }

    /// Sends the last chunk with the request that closes the session.
    async fn send_last_chunk(
        &self,
        session: &UploadSession,
        taken: u64,
        length: u64,
    ) -> Result<()> {
        let digest = self.source.digest;
        let mut request = self.chunk(Method::PUT, closing(&session.url, digest), taken, length);
        request.accept = CLOSED;
        let response = self.send_request(request).await?;
        self.repository.check_closed(&response, digest)
    }

    fn chunk(&self, method: Method, url: Url, taken: u64, length: u64) -> Request {
        let mut request = self.repository.session_request(method, url, &self.action);
        request.headers = octets();
        let range = format!("{taken}-{}", taken + length - 1);
        let range = HeaderValue::from_str(&range).expect("digits are plain text");
        request.headers.insert(CONTENT_RANGE, range);
        request.body = self.body(taken, length);
        request
    }

    /// Makes chunks smaller if that is what a refusal asks for; returns whether
    /// the session can go on with them.
    fn shrinks(
        &mut self,
        trouble: Trouble,
        taken: u64,
        length: u64,
        session: &UploadSession,
    ) -> bool {
        match trouble {
            Trouble::TooLarge => {
                self.repository.registry.seen.refused_size(length);
                self.chunk = length / 2;
                self.chunk >= LEAST_CHUNK.max(session.min_chunk)
            }
            // An on-premises GitHub says 416 to a chunk that is too large, as
            // ghcr.io does (rust-oci-client#35). The session is of no use then.
            Trouble::Lost if taken == 0 => {
                self.chunk = self.chunk.min(SMALL_CHUNK);
                false
            }
            _ => false,
        }
    }

    /// Asks a session how far it got; returns it with its bytes if it can go on
    /// from there.
    pub(super) async fn resume(
        &self,
        stopped: Stopped,
        trouble: Trouble,
    ) -> (Option<UploadSession>, u64) {
        const NEW: (Option<UploadSession>, u64) = (None, 0);
        let Stopped {
            mut session, taken, ..
        } = stopped;
        let url = session.url.clone();
        let mut request = self
            .repository
            .session_request(Method::GET, url, &self.action);
        request.accept = TAKEN;
        // It changes nothing, and giving up what is there costs more.
        request.retry = true;
        // distribution 2.8.2 answers 404 if bytes came that it did not confirm.
        let Ok(response) = self.send_request(request).await else {
            return NEW;
        };
        let said = response.header("range").and_then(received);
        let Some(at) = resume_at(taken, self.source.size, said, trouble) else {
            return NEW;
        };
        match self.next_url(&response, &session.url) {
            Ok(url) => session.url = url,
            Err(_) => return NEW,
        }
        (Some(session), at)
    }
}

/// Returns where a session goes on of which `taken` bytes were confirmed, or
/// `None` if it has to be given up: the first byte is never sent again
/// (apple/containerization#790), nor one that was refused.
fn resume_at(taken: u64, size: u64, said: Option<u64>, trouble: Trouble) -> Option<u64> {
    let said = said.filter(|said| (1..=size).contains(said))?;
    match trouble {
        _ if said > taken => Some(said),
        Trouble::Lost => (said < taken).then_some(said),
        _ => Some(taken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_session_goes_on_where_it_is_known_to_be() {
        use Trouble::*;
        for (taken, said, trouble, expected) in [
            (MIB, Some(3 * MIB), Broken, Some(3 * MIB)),
            (MIB, Some(3 * MIB), Lost, Some(3 * MIB)),
            (MIB, Some(MIB), Broken, Some(MIB)),
            (2 * MIB, Some(MIB), Failed, Some(2 * MIB)), // aws/containers-roadmap#2831
            (2 * MIB, Some(MIB), Lost, Some(MIB)),
            (MIB, Some(MIB), Lost, None),
            (MIB, Some(0), Broken, None),
            (0, Some(5), Broken, Some(5)),
            (0, Some(0), Broken, None), // apple/containerization#790
            (MIB, None, Broken, None),
            (MIB, Some(11 * MIB), Broken, None),
        ] {
            let at = resume_at(taken, 10 * MIB, said, trouble);
            assert_eq!(at, expected, "{taken} {said:?} {trouble:?}");
        }
    }
}
