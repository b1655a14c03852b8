//! What a daemon says before each answer: log lines, what it is doing, that it
//! is done, or why it failed.
//!
//! Source: `processStderr` and `readError` in NixOS/nix,
//! `src/libstore/remote-store.cc` and `src/libutil/serialise.cc` (2.8), and
//! `TunnelLogger` in `src/libstore/daemon.cc`.

use std::io::{Cursor, Read, Write};

use super::wire::{Fault, Wire, brief, nonsense};

/// A log line follows.
const NEXT: u64 = 0x6f6c_6d67;
/// The daemon wants data; only for requests that bring some.
const READ: u64 = 0x6461_7461;
/// Data follows; only of requests that are gone.
const WRITE: u64 = 0x6461_7416;
/// The answer follows.
const LAST: u64 = 0x616c_7473;
/// The request failed; the reason follows.
pub(super) const ERROR: u64 = 0x6378_7470;
const START_ACTIVITY: u64 = 0x5354_5254;
const STOP_ACTIVITY: u64 = 0x5354_4f50;
const RESULT: u64 = 0x5253_4c54;

/// The first version whose errors are records.
const ERROR_RECORDS: u8 = 26;

/// Traces of an error that are shown.
const MAX_TRACES: usize = 4;

/// Reads messages up to the answer.
pub(super) fn wait_for_answer<S: Read + Write>(wire: &mut Wire<S>, minor: u8) -> Result<(), Fault> {
    loop {
        match wire.number()? {
            LAST => return Ok(()),
            ERROR => return Err(error(wire, minor)?),
            NEXT => {
                wire.bytes()?;
            }
            START_ACTIVITY => {
                // Its number, how important it is, and of which kind.
                for _ in 0..3 {
                    wire.number()?;
                }
                wire.bytes()?;
                fields(wire)?;
                // The activity that it is a part of.
                wire.number()?;
            }
            STOP_ACTIVITY => {
                wire.number()?;
            }
            RESULT => {
                // The activity, and the kind of the result.
                wire.number()?;
                wire.number()?;
                fields(wire)?;
            }
            READ | WRITE => return nonsense("it wants to exchange data in place of an answer"),
            other => {
                return nonsense(format!("it sent {other:#x}, which is none of its messages"));
            }
        }
    }
}

/// Reads the error after its number.
pub(super) fn error<S: Read + Write>(wire: &mut Wire<S>, minor: u8) -> Result<Fault, Fault> {
    if minor < ERROR_RECORDS {
        let text = wire.bytes()?;
        // The status it would exit with, which Nix 2.3 leaves out if it is 0:
        // nothing is read after an error, so it is not waited for.
        return Ok(told(&[text]));
    }
    let record = wire.text()?;
    if record != "Error" {
        return nonsense(format!(
            "it failed with a {:?}, not an Error",
            brief(&record)
        ));
    }
    // How bad it is, and a name that is gone.
    wire.number()?;
    wire.bytes()?;
    let mut texts = vec![wire.bytes()?];
    no_position(wire)?;
    for _ in 0..wire.number()? {
        no_position(wire)?;
        let trace = wire.bytes()?;
        if texts.len() <= MAX_TRACES {
            texts.push(trace);
        }
    }
    Ok(told(&texts))
}

/// Finds the last error in `bytes`, in which anything else may be as well.
pub(super) fn error_in(bytes: &[u8], minor: u8) -> Option<Fault> {
    let marker = ERROR.to_le_bytes();
    let places = (0..bytes.len()).rev();
    places
        .filter_map(|at| bytes[at..].strip_prefix(&marker))
        .find_map(|record| {
            let mut wire = Wire::new(Cursor::new(record.to_vec()));
            wire.allow(record.len() as u64);
            error(&mut wire, minor).ok()
        })
}

fn told(texts: &[Vec<u8>]) -> Fault {
    let lines: Vec<_> = texts
        .iter()
        .map(|text| brief(&String::from_utf8_lossy(text)))
        .filter(|line| !line.is_empty())
        .collect();
    Fault::Told(lines.join("; "))
}

/// Places in Nix expressions have no form in the protocol.
fn no_position<S: Read + Write>(wire: &mut Wire<S>) -> Result<(), Fault> {
    match wire.number()? {
        0 => Ok(()),
        _ => nonsense("its error has a position, which no version of the protocol has"),
    }
}

fn fields<S: Read + Write>(wire: &mut Wire<S>) -> Result<(), Fault> {
    for _ in 0..wire.number()? {
        match wire.number()? {
            0 => {
                wire.number()?;
            }
            1 => {
                wire.bytes()?;
            }
            other => {
                return nonsense(format!("it sent a field of type {other}, expected 0 or 1"));
            }
        }
    }
    Ok(())
}
