//! Answers that are errors.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, DATE, RETRY_AFTER};

use super::problem::problem;
use super::response::Response;
use super::retry::{MAX_RETRY_AFTER, is_passing_status, parse_retry_after};
use super::wire::header;
use crate::error::{Error, ErrorKind};

/// A request failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    /// How long the server asks to wait.
    pub(crate) told: Option<Duration>,
    /// The status, if it was an answer.
    pub(crate) status: Option<u16>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            error,
            told: None,
            status: None,
        }
    }
}

/// Makes an error of an answer. `is_denial` says whether it is about who asks.
pub(crate) async fn refusal(response: &mut Response, is_denial: bool) -> Failure {
    let body = response.error_body().await;
    refused(response, &body, is_denial)
}

/// Makes an error of an answer whose body was read.
pub(super) fn refused(response: &Response, body: &[u8], is_denial: bool) -> Failure {
    let status = response.status;
    let content_type = header(&response.headers, CONTENT_TYPE);
    let problem = problem(status, content_type, body);
    let (host, action) = (response.host.clone(), response.action.clone());
    let told = header(&response.headers, RETRY_AFTER)
        .filter(|_| is_passing_status(status))
        .and_then(|value| parse_retry_after(value, header(&response.headers, DATE)));
    let too_long = told.filter(|wait| *wait > MAX_RETRY_AFTER);
    let error = if is_denial {
        ErrorKind::Denied {
            host,
            action,
            problem,
        }
    } else if let Some(wait) = too_long {
        let (wait, most) = (wait.as_secs(), MAX_RETRY_AFTER.as_secs());
        ErrorKind::Answer {
            host,
            action,
            // It is not to be repeated as others of this status are.
            status: None,
            problem: format!("it asks to wait {wait} s, longer than {most} s: {problem}"),
        }
    } else {
        ErrorKind::Answer {
            host,
            action,
            status: Some(status),
            problem,
        }
    };
    Failure {
        error: error.into(),
        told: told.filter(|_| too_long.is_none()),
        status: Some(status),
    }
}
