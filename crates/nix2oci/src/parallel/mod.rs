//! The worker threads: the only place where they start.
//!
//! - [`pipeline`]: jobs that make streams of blocks, worked on side by side,
//!   out in order
//! - [`for_each`]: one call for each of many independent things
//! - [`ahead`]: the same ahead of who needs the results, in order

use std::any::Any;

use crate::error::{Error, ErrorKind};

mod ahead;
mod for_each;
pub(crate) mod pipeline;

pub(crate) use ahead::{Ahead, Lead, ahead};
pub(crate) use for_each::for_each;

/// Makes an error of a panic's payload.
pub(crate) fn panicked(payload: &(dyn Any + Send)) -> Error {
    let message = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    ErrorKind::WorkerPanicked { message }.into()
}
