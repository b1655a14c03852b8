//! Sockets with nobody behind them, or somebody who does not answer.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix2oci::closure::{SourceOptions, automatic, open_source};
use nix2oci::content::DaemonContent;
use nix2oci::daemon::Daemon;
use nix2oci::{ContentSource, Context, Error, ErrorKind, StoreDir};
use tempfile::TempDir;

use super::conversation::{by_daemon, number, recorded, string};
use super::missing;

/// How long anything may take that is to be quick, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(20);

fn daemon(socket: &Path) -> Daemon {
    Daemon::new(socket, StoreDir::default())
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Serves connections in turn; each is given to `serve`. Ends with the process.
fn listen(socket: &Path, serve: impl Fn(UnixStream) + Send + 'static) {
    let listener = UnixListener::bind(socket).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            serve(stream.unwrap());
        }
    });
}

/// Says what it is to say, and then listens until the other side is gone.
fn say(mut stream: UnixStream, bytes: &[u8]) {
    // The other side may be gone already.
    if stream.write_all(bytes).is_ok() {
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

/// The greeting of a daemon of version 1.34.
fn greeting() -> Vec<u8> {
    [
        number(0x6478_696f),
        number(1 << 8 | 34),
        string(b"2.8.0"),
        number(0x616c_7473),
    ]
    .concat()
}

#[track_caller]
fn assert_fails<T>(result: Result<T, Error>, socket: &Path, expected: &str, cause: Option<&str>) {
    let error = result.map(|_| ()).unwrap_err();
    let socket = socket.display();
    let start = format!("the Nix daemon at {socket} failed to ");
    assert_eq!(error.to_string(), format!("{start}{expected}"));
    let found = std::error::Error::source(&error).map(ToString::to_string);
    match (found, cause) {
        (None, None) => {}
        (Some(found), Some(cause)) => assert!(found.contains(cause), "{found}"),
        (found, _) => panic!("{found:?}, expected {cause:?}"),
    }
}

#[test]
fn a_socket_without_a_daemon_is_named_with_the_reason() {
    let (cx, dir) = (Context::default(), folder());
    let unused = "take a connection: its socket cannot be used";
    let socket = dir.path().join("nothing");
    assert_fails(
        daemon(&socket).info(&cx),
        &socket,
        unused,
        Some("No such file"),
    );

    let socket = dir.path().join("file");
    fs::write(&socket, "").unwrap();
    assert_fails(daemon(&socket).info(&cx), &socket, unused, Some("refused"));

    // As one that was killed leaves it.
    let socket = dir.path().join("left");
    drop(UnixListener::bind(&socket).unwrap());
    assert_fails(daemon(&socket).info(&cx), &socket, unused, Some("refused"));

    let socket = dir.path().join("x".repeat(200));
    assert_fails(daemon(&socket).info(&cx), &socket, unused, Some("too long"));
}

#[test]
fn a_connection_that_is_closed_is_told() {
    let (cx, dir) = (Context::default(), folder());
    let socket = dir.path().join("at-once");
    listen(&socket, drop);
    let problem = "answer the greeting: it closed the connection";
    assert_fails(daemon(&socket).info(&cx), &socket, problem, None);

    let socket = dir.path().join("later");
    listen(&socket, |mut stream| {
        stream.write_all(&greeting()).unwrap();
        // The magic, the version, two numbers, and the question.
        let mut heard = [0; 48];
        stream.read_exact(&mut heard).unwrap();
    });
    let problem = format!(
        "say whether it has /nix/store/{}: it closed the connection",
        missing()
    );
    assert_fails(
        daemon(&socket).has(&cx, &missing()),
        &socket,
        &problem,
        None,
    );
}

#[test]
fn silence_is_told_after_a_while() {
    let (cx, dir) = (Context::default(), folder());
    let silence = Duration::from_millis(200);
    let socket = dir.path().join("from-the-start");
    listen(&socket, |stream| say(stream, b""));
    let problem = "answer the greeting: it has been silent for 0.2 seconds";
    let found = daemon(&socket).with_silence(silence).info(&cx);
    assert_fails(found, &socket, problem, None);

    let socket = dir.path().join("after-the-greeting");
    listen(&socket, |stream| say(stream, &greeting()));
    let daemon = daemon(&socket).with_silence(silence);
    assert_eq!(
        daemon.info(&cx).unwrap().nix_version.as_deref(),
        Some("2.8.0")
    );
    let problem = "list its store paths: it has been silent for 0.2 seconds";
    assert_fails(daemon.closure(&cx, &[]), &socket, problem, None);
}

/// Cancels a question that would wait for a minute, and checks that it ends.
#[track_caller]
fn assert_is_cancelled<T: Send>(question: impl FnOnce(&Context) -> Result<T, Error> + Send) {
    let cx = Context::default();
    let (result, waited) = thread::scope(|scope| {
        let asked = scope.spawn(|| question(&cx));
        // Long enough to be waiting by then, most of the time.
        thread::sleep(Duration::from_millis(200));
        let cancelled = Instant::now();
        cx.cancel.cancel();
        (asked.join().unwrap(), cancelled.elapsed())
    });
    let error = result.map(|_| ()).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Cancelled), "{error}");
    assert!(waited < PATIENCE, "{waited:?}");
}

#[test]
fn waiting_ends_when_it_is_cancelled() {
    let dir = folder();
    let socket = dir.path().join("silent");
    listen(&socket, |stream| say(stream, b""));
    assert_is_cancelled(|cx| daemon(&socket).info(cx));

    let socket = dir.path().join("greets");
    listen(&socket, |stream| say(stream, &greeting()));
    assert_is_cancelled(|cx| daemon(&socket).closure(cx, &[missing()]));

    // In the middle of a NAR, which its reader did not ask for.
    let socket = dir.path().join("begins");
    listen(&socket, |stream| {
        let path_info = [
            number(0x616c_7473),
            number(1),
            string(b""),
            string("ab".repeat(32).as_bytes()),
            number(0),
            number(0),
            number(1000),
            number(0),
            number(0),
            string(b""),
        ];
        let nar = [number(0x616c_7473), string(b"nix-archive-1")];
        say(
            stream,
            &[greeting(), path_info.concat(), nar.concat()].concat(),
        );
    });
    let content = DaemonContent::new(Arc::new(daemon(&socket)));
    assert_is_cancelled(|cx| content.visit(cx, &missing(), &mut |_| Ok(())));

    // As many connections wait as may.
    let socket = dir.path().join("busy");
    let listener = rustix::net::socket(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        None,
    )
    .unwrap();
    let address = rustix::net::SocketAddrUnix::new(&socket).unwrap();
    rustix::net::bind(&listener, &address).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let _waiting = UnixStream::connect(&socket).unwrap();
    assert_is_cancelled(|cx| daemon(&socket).info(cx));
    let silence = Duration::from_millis(100);
    let found = daemon(&socket)
        .with_silence(silence)
        .info(&Context::default());
    let problem = "take a connection: it has been silent for 0.1 seconds";
    assert_fails(found, &socket, problem, None);
}

#[test]
fn a_daemon_that_is_started_anew_is_asked_again() {
    let (cx, dir) = (Context::default(), folder());
    let socket = dir.path().join("socket");
    let question = string(StoreDir::default().join(&missing()).as_bytes());
    let (gone, is_gone) = mpsc::channel();
    listen(&socket, move |mut stream| {
        stream
            .write_all(&[greeting(), number(0x616c_7473), number(1)].concat())
            .unwrap();
        // The greeting and one question, and then it is gone.
        let mut heard = vec![0; 32 + 8 + question.len()];
        stream.read_exact(&mut heard).unwrap();
        drop(stream);
        gone.send(()).unwrap();
    });
    let daemon = daemon(&socket);
    for _ in 0..3 {
        assert!(daemon.has(&cx, &missing()).unwrap());
        is_gone.recv().unwrap();
    }
}

/// A daemon may close a connection just when it is asked over it: whoever looks
/// whether it is open sees that it is.
#[test]
fn a_connection_that_was_closed_meanwhile_is_made_anew_once() {
    let (cx, dir) = (Context::default(), folder());
    let yes = [number(0x616c_7473), number(1)].concat();
    let no = [number(0x616c_7473), number(0)].concat();
    // For each connection what is answered to each question.
    for (answers, expected) in [
        // It is closed after one answer, and the next one answers.
        (vec![vec![yes.clone()], vec![no.clone()]], Ok(false)),
        // The next one says nothing either.
        (vec![vec![yes.clone()], vec![]], Err(())),
        // It says something, and is closed in the middle.
        (
            vec![vec![yes.clone(), yes[..8].to_vec()], vec![no]],
            Err(()),
        ),
    ] {
        let socket = dir.path().join("socket");
        let question = string(StoreDir::default().join(&missing()).as_bytes()).len() + 8;
        let listener = UnixListener::bind(&socket).unwrap();
        let thread = thread::spawn(move || {
            for answers in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let greeted = stream.write_all(&greeting());
                if greeted
                    .and_then(|()| stream.read_exact(&mut [0; 32]))
                    .is_err()
                {
                    return;
                }
                let is_whole = answers.iter().all(|answer| answer.len() == 16);
                for answer in answers {
                    stream.read_exact(&mut vec![0; question]).unwrap();
                    stream.write_all(&answer).unwrap();
                }
                if is_whole {
                    // It is closed only when there is a question.
                    let _ = stream.read(&mut [0; 1]);
                }
            }
        });
        let daemon = daemon(&socket);
        assert!(daemon.has(&cx, &missing()).unwrap());
        let second = daemon.has(&cx, &missing());
        assert_eq!(second.map_err(drop), expected);
        // A connection that nobody waits for any more.
        drop(daemon);
        let _ = UnixStream::connect(&socket);
        thread.join().unwrap();
        fs::remove_file(&socket).unwrap();
    }
}

#[test]
fn the_automatic_choice_is_the_daemon_where_there_is_no_database() {
    let (cx, dir) = (Context::default(), folder());
    let options = |socket: Option<&Path>| SourceOptions {
        store_root: Some(dir.path().to_owned()),
        daemon_socket: socket.map(Path::to_owned),
        ..SourceOptions::default()
    };
    let choice = |options: &SourceOptions| automatic(&cx, options).map(|source| source.name());

    let by_default = dir.path().join("nix/var/nix/daemon-socket/socket");
    fs::create_dir_all(by_default.parent().unwrap()).unwrap();
    assert_eq!(Daemon::default_socket(Some(dir.path())), by_default);
    listen(&by_default, |stream| say(stream, &greeting()));
    let name = |socket: &Path| format!("the Nix daemon at {}", socket.display());
    assert_eq!(choice(&options(None)).unwrap(), name(&by_default));

    let other = dir.path().join("other");
    listen(&other, |stream| say(stream, &greeting()));
    assert_eq!(choice(&options(Some(&other))).unwrap(), name(&other));
    for (text, socket) in [("daemon", &by_default), ("daemon:/x", &"/x".into())] {
        let source = open_source(&options(None), text).unwrap();
        assert_eq!(source.name(), name(socket));
    }

    // Where nobody listens, what is wrong with the database is told; where
    // somebody does and fails, that.
    let nobody = dir.path().join("nobody");
    let error = choice(&options(Some(&nobody))).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Database { .. }),
        "{error}"
    );
    let refuses = dir.path().join("refuses");
    listen(&refuses, drop);
    let error = choice(&options(Some(&refuses))).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Daemon { .. }), "{error}");
}

#[test]
fn a_whole_conversation_goes_over_a_socket() {
    let (cx, dir) = (Context::default(), folder());
    let socket = dir.path().join("socket");
    let said = by_daemon(&recorded("nix-2.35"));
    listen(&socket, move |stream| say(stream, &said));
    let root = "/nix/store/kgl45lnwri530gpcz972y4l62zrap3xp-app";
    let root = StoreDir::default().parse_path(root).unwrap();
    let found = daemon(&socket).closure(&cx, &[root]).unwrap();
    assert_eq!(found.len(), 5);
}
