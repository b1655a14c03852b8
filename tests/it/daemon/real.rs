//! Debian's nix-daemon, run by one user and asked by another.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use nix2oci::closure::read_closure;
use nix2oci::content::DaemonContent;
use nix2oci::daemon::Daemon;
use nix2oci::{ContentSource, Context, Error, ErrorKind, StoreDir, StorePath};
use nix2oci_tests::command::{nix2oci, output_bytes, run, run_bytes};
use nix2oci_tests::{FixtureStore, NixDaemon};

use super::missing;

/// Users that every Debian has: one that asks, one that owns a store.
const NOBODY: u32 = 65534;
const OWNER: u32 = 1;

/// A store whose files and database are for its owner only, and a daemon.
struct Closed {
    // Stopped before its store goes.
    daemon: NixDaemon,
    store: FixtureStore,
    command: PathBuf,
}

impl Closed {
    /// Runs the daemon as root or as another owner of the store.
    fn new(owner: Option<u32>, config: &str) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test acts as several users, and so must run as root"
        );
        let store = FixtureStore::new();
        let command = store.folder().join("nix2oci");
        fs::copy(nix2oci(), &command).unwrap();
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(store.folder(), 0o755);
        mode(&store.outside("/nix/store"), 0o700);
        mode(&store.outside("/nix/var/nix/db"), 0o700);
        if let Some(owner) = owner {
            run(Command::new("chown")
                .args([
                    "--recursive",
                    "--no-dereference",
                    &format!("{owner}:{owner}"),
                ])
                .arg(store.root()));
            chown(store.folder(), Some(owner), Some(owner)).unwrap();
        }
        let mut nix = store.nix("nix-daemon");
        let settings = nix
            .get_envs()
            .find(|(name, _)| *name == "NIX_CONFIG")
            .and_then(|(_, value)| Some(value?.to_str()?.to_owned()))
            .unwrap();
        nix.env("NIX_CONFIG", format!("{settings}\n{config}\n"));
        let socket = Daemon::default_socket(Some(&store.root()));
        fs::create_dir_all(socket.parent().unwrap()).unwrap();
        if let Some(owner) = owner {
            chown(socket.parent().unwrap(), Some(owner), Some(owner)).unwrap();
        }
        Self {
            daemon: NixDaemon::start(&nix, &socket, owner),
            store,
            command,
        }
    }

    /// Returns the command that writes the fixture's image to standard output.
    fn build(&self, user: u32, args: &[&str]) -> Command {
        let app = self.store.fixture("app-1.0");
        let mut command = Command::new(&self.command);
        command
            .args(["build", app, "--store-root"])
            .arg(self.store.root())
            .args(["--name", "app:v1", "--platform", "linux/amd64"])
            .args(["--progress", "none", "-o", "-"])
            .args(args)
            .current_dir("/")
            .env_clear()
            .env("TMPDIR", "/var/tmp")
            .uid(user)
            .gid(user);
        command
    }

    /// Returns what an image is to be, as root gets it from the files.
    fn expected(&self) -> Vec<u8> {
        run_bytes(&mut self.build(0, &["--closure", "db", "--content", "local"]))
    }

    fn asked(&self) -> Daemon {
        Daemon::new(self.daemon.socket(), StoreDir::default())
    }

    fn path(&self, name: &str) -> StorePath {
        let path = self.store.fixture(name);
        StoreDir::default().parse_path(path).unwrap()
    }
}

#[test]
fn a_user_who_may_read_neither_database_nor_store_gets_the_same_image() {
    let closed = Closed::new(None, "");
    let expected = closed.expected();
    let error = output_bytes(&mut closed.build(NOBODY, &["--closure", "db"])).unwrap_err();
    assert!(error.contains("db.sqlite"), "{error}");
    let error = output_bytes(&mut closed.build(NOBODY, &["--content", "local"])).unwrap_err();
    assert!(error.contains("Permission denied"), "{error}");

    let socket = format!("daemon:{}", closed.daemon.socket().display());
    for args in [
        &["--content", "daemon"][..],
        &["--closure", "daemon", "--content", "daemon"],
        &["--closure", &socket, "--content", &socket],
    ] {
        let found = run_bytes(&mut closed.build(NOBODY, args));
        assert!(found == expected, "{args:?} gives other bytes");
    }
}

#[test]
fn a_daemon_need_not_be_roots() {
    let closed = Closed::new(Some(OWNER), "");
    let args = ["--content", "daemon"];
    let found = run_bytes(&mut closed.build(NOBODY, &args));
    assert!(found == closed.expected());
}

#[test]
fn who_is_not_allowed_is_told_so_and_what_to_do() {
    let closed = Closed::new(None, "allowed-users = root");
    let args = ["--content", "daemon"];
    let error = output_bytes(&mut closed.build(NOBODY, &args)).unwrap_err();
    assert!(
        error.contains("failed to answer the greeting: it closed the connection")
            && error.contains("allowed-users"),
        "{error}"
    );

    let folder = closed.daemon.socket().parent().unwrap();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
    let args = ["--closure", "daemon", "--content", "daemon"];
    let error = output_bytes(&mut closed.build(NOBODY, &args)).unwrap_err();
    assert!(
        error.contains("failed to take a connection: its socket cannot be used")
            && error.contains("Permission denied")
            && error.contains("this user may not use"),
        "{error}"
    );

    let args = ["--closure", "daemon:/no/such", "--content", "daemon"];
    let error = output_bytes(&mut closed.build(NOBODY, &args)).unwrap_err();
    assert!(
        error.contains("No such file") && error.contains("is nix-daemon running?"),
        "{error}"
    );
}

#[test]
fn it_knows_what_the_database_knows() {
    let closed = Closed::new(None, "");
    let (cx, daemon) = (Context::default(), closed.asked());
    let info = daemon.info(&cx).unwrap();
    assert_eq!(
        (info.protocol_minor, info.nix_version.as_deref()),
        (34, Some("2.8.0"))
    );

    let state = closed.store.outside("/nix/var/nix");
    let database = nix2oci::closure::Database::in_state_dir(&state, StoreDir::default());
    let app = closed.path("app-1.0");
    for roots in [&[][..], std::slice::from_ref(&app)] {
        let store_dir = StoreDir::default();
        let from_daemon = read_closure(&cx, &store_dir, &[&daemon], roots).unwrap();
        let from_database = read_closure(&cx, &store_dir, &[&database], roots).unwrap();
        assert_eq!(from_daemon.infos(), from_database.infos());
        assert_eq!(from_daemon.roots(), from_database.roots());
    }
    let all = daemon.closure(&cx, &[]).unwrap();
    let paths: BTreeSet<_> = all.iter().map(|info| &info.path).collect();
    assert_eq!(paths.len(), all.len());
    assert_eq!(paths.len(), closed.store.fixtures().count());

    assert!(daemon.has(&cx, &app).unwrap());
    assert!(!daemon.has(&cx, &missing()).unwrap());
    assert_eq!(daemon.path_info(&cx, &missing()).unwrap(), None);
    let many = [app.clone(), missing(), app.clone()];
    let known = daemon.path_info(&cx, &app).unwrap();
    let many = daemon.path_infos(&cx, &many).unwrap();
    assert_eq!(
        many,
        Vec::from_iter(known.clone()),
        "each that it has, once"
    );
    let error = read_closure(&cx, &StoreDir::default(), &[&daemon], &[missing()]).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "/nix/store/{} is not known to the Nix daemon at {}",
            missing(),
            closed.daemon.socket().display()
        )
    );

    // Of another store directory it refuses to speak.
    let other = Daemon::new(closed.daemon.socket(), "/gnu/store".parse().unwrap());
    let error = other.closure(&cx, &[app]).unwrap_err().to_string();
    assert!(
        error.contains("/gnu/store") && error.contains("it says: "),
        "{error}"
    );
}

#[test]
fn content_answers_for_many_paths_at_once() {
    let closed = Closed::new(None, "");
    let (cx, app) = (Context::default(), closed.path("app-1.0"));
    let daemon = Arc::new(closed.asked());
    let info = daemon.path_info(&cx, &app).unwrap().unwrap();
    let content = DaemonContent::new(daemon);
    for _ in 0..2 {
        assert!(content.has(&cx, &app).unwrap());
        assert!(!content.has(&cx, &missing()).unwrap());
        assert_eq!(content.nar_size(&cx, &app).unwrap(), info.nar_size);
        assert_eq!(content.nar_size(&cx, &missing()).unwrap(), None);
        assert!(read(&content, &app).is_ok());
        content.look_up(&cx, &[app.clone(), missing()]).unwrap();
    }
}

/// Reads everything in a store path.
fn read(content: &dyn ContentSource, path: &StorePath) -> Result<u64, Error> {
    let mut bytes = 0;
    content.visit(&Context::default(), path, &mut |entry| {
        if let nix2oci::content::Entry::File { contents, .. } = entry {
            let mut buffer = [0; 4096];
            loop {
                match contents.read(&mut buffer)? {
                    0 => break,
                    n => bytes += n as u64,
                }
            }
        }
        Ok(())
    })?;
    Ok(bytes)
}

#[test]
fn a_damaged_store_is_noticed() {
    let closed = Closed::new(Some(OWNER), "");
    let content = DaemonContent::new(Arc::new(closed.asked()));
    let hello = closed.path("hello-1.0");
    assert!(content.has(&Context::default(), &hello).unwrap());
    let size = read(&content, &hello).unwrap();
    assert!(size > 0);
    let full = closed.store.fixture("hello-1.0");
    let start = format!("the Nix daemon at {}", closed.daemon.socket().display());

    // A byte that is another one.
    let file = closed.store.outside(full).join("bin/hello");
    let mut bytes = fs::read(&file).unwrap();
    bytes[100] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let error = read(&content, &hello).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Nar { .. }), "{error}");
    let expected = format!("{start}: the NAR of {full}: it has NAR hash sha256:");
    assert!(error.to_string().starts_with(&expected), "{error}");

    // A file that its owner may not read: the daemon fails in the middle.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    let error = read(&content, &hello).unwrap_err().to_string();
    let expected = format!("{start} failed to send the content of {full}: it says: ");
    assert!(
        error.starts_with(&expected) && error.ends_with("Permission denied"),
        "{error}"
    );

    // A path that is gone, but registered.
    fs::remove_dir_all(closed.store.outside(full)).unwrap();
    let error = read(&content, &hello).unwrap_err().to_string();
    assert!(
        error.starts_with(&expected) && error.ends_with("No such file or directory"),
        "{error}"
    );

    // A path that was never there.
    let error = read(&content, &missing()).unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "{start} failed to send the content of /nix/store/{}: it does not have it",
            missing()
        )
    );
    // And after all these failures it is asked as before.
    let others = closed
        .store
        .fixtures()
        .filter(|(name, _)| *name != "hello-1.0");
    for (name, _) in others {
        read(&content, &closed.path(name)).unwrap();
    }
}
