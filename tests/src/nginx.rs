//! nginx, as Debian packages it, with the files of a folder by HTTP/2.

use std::fs::{self, File};
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::certificates::{Certificate, TestCa};
use crate::command::{end_with_us, search_path};
use crate::docker_registry::Access;

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running nginx on a free port of 127.0.0.1, that speaks TLS with HTTP/2 and
/// keeps all its files in a folder of its own. It ends when it is dropped.
#[derive(Debug)]
pub struct Nginx {
    process: Child,
    watcher: Child,
    addr: SocketAddr,
    folder: TempDir,
}

impl Nginx {
    /// Starts one for the files of a folder, with a certificate of an authority
    /// for `localhost`, 127.0.0.1 and ::1.
    ///
    /// # Panics
    ///
    /// If it cannot be started: no test skips what it cannot run.
    pub fn start(files: &Path, ca: &TestCa) -> Self {
        // The port is free when it is looked for; somebody may be faster.
        (0..20)
            .find_map(|_| Self::try_start(files, ca))
            .expect("one port of twenty is free")
    }

    fn try_start(files: &Path, ca: &TestCa) -> Option<Self> {
        let folder = tempfile::tempdir().expect("the temporary folder can be written");
        let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .expect("the loopback interface has a free port");
        let Certificate { pem, key_pem } = ca.loopback();
        let write = |name: &str, text: &str| {
            fs::write(folder.path().join(name), text).expect("the folder can be written");
        };
        write("server.crt", &pem);
        write("server.key", &key_pem);
        write("nginx.conf", &config(folder.path(), files, addr));
        let log = File::create(folder.path().join("start.log")).expect("it can be written");
        let mut command = Command::new("nginx");
        command
            .arg("-p")
            .arg(folder.path())
            .args(["-c", "nginx.conf", "-e", "error.log"])
            .env("PATH", search_path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let process = command.spawn().unwrap_or_else(|error| {
            panic!("{command:?} could not be started ({error}); tests/install installs it")
        });
        let mut nginx = Self {
            watcher: end_with_us(&process),
            process,
            addr,
            folder,
        };
        nginx.wait().then_some(nginx)
    }

    /// Waits until it listens; returns false if the port is another's.
    fn wait(&mut self) -> bool {
        let start = Instant::now();
        loop {
            let status = self.process.try_wait().expect("the process is ours");
            if status.is_some() {
                let log = self.log();
                assert!(log.contains("Address already in use"), "nginx: {log}");
                return false;
            }
            // It writes this file when it has the port.
            if self.folder.path().join("pid").exists() && TcpStream::connect(self.addr).is_ok() {
                return true;
            }
            assert!(start.elapsed() < PATIENCE, "nginx: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Returns its URL, without a slash at its end.
    pub fn url(&self) -> String {
        format!("https://{}", self.addr)
    }

    /// Returns the requests it answered, in the order in which it was done with
    /// them. An entry is written after the answer.
    pub fn requests(&self) -> Vec<Access> {
        let log = self.read("access.log");
        log.lines().filter_map(Access::parse).collect()
    }

    /// Returns what it complained about.
    pub fn log(&self) -> String {
        self.read("start.log") + &self.read("error.log")
    }

    fn read(&self, name: &str) -> String {
        let mut text = String::new();
        if let Ok(mut file) = File::open(self.folder.path().join(name)) {
            file.read_to_string(&mut text).expect("nginx writes ASCII");
        }
        text
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The watcher first: later the number could be another process's.
        for process in [&mut self.watcher, &mut self.process] {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Its configuration: one process, and nothing outside of the folder.
fn config(folder: &Path, files: &Path, addr: SocketAddr) -> String {
    let folder = folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("    {name}_temp_path {folder}/{name};\n"))
        .collect();
    format!(
        "daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
{temporary}    access_log {folder}/access.log combined;
    types {{ }}
    default_type application/octet-stream;
    sendfile on;
    server {{
        listen {addr} ssl http2;
        ssl_certificate {folder}/server.crt;
        ssl_certificate_key {folder}/server.key;
        root {};
    }}
}}
",
        files.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::run;

    #[test]
    fn it_gives_out_files_by_http2() {
        let files = tempfile::tempdir().unwrap();
        fs::write(files.path().join("a"), "some bytes").unwrap();
        let ca = TestCa::new("test");
        let nginx = Nginx::start(files.path(), &ca);
        let authority = nginx.folder.path().join("ca.crt");
        fs::write(&authority, ca.pem()).unwrap();
        let url = format!("{}/a", nginx.url());
        let got = run(Command::new("curl")
            .args(["-q", "-sS", "--http2", &url, "--cacert"])
            .arg(&authority));
        assert_eq!(got, "some bytes");
        let start = Instant::now();
        while nginx.requests().is_empty() {
            assert!(start.elapsed() < PATIENCE, "{}", nginx.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        let request = &nginx.requests()[0];
        assert_eq!((&*request.protocol, request.status), ("HTTP/2.0", 200));
    }
}
