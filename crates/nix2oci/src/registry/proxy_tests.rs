//! Proxies, and registries that a proxy stands in for.

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::super::RegistryOptions;
use super::super::test_bed::{
    Authority, Bed, PASSWORD, ca_file, get, shown, with_password, with_proxy,
};
use crate::credentials::Secret;
use crate::net::ProxyOptions;
use crate::net::test_server::{TestServer, answer, read_head};

const PROXY_USER: &str = "Basic cHJveHktdXNlcjpodW50ZXIy";

/// A proxy that connects to one server, whatever it is asked for; returns what
/// it was asked too.
fn tunnel(to: &TestServer) -> (TestServer, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (log, to) = (Arc::clone(&asked), to.host());
    let proxy = TestServer::raw(move |mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let seen = read_head(&mut reader).unwrap().unwrap();
        let user = seen.header("proxy-authorization").unwrap_or_default();
        log.lock()
            .unwrap()
            .push(format!("{} {} {user}", seen.method, seen.target));
        let server = TcpStream::connect(&to).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        join(stream, server);
    });
    (proxy, asked)
}

#[test]
fn https_goes_through_a_tunnel() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("ours");
    let config = authority.server("registry.example", None);
    let server = TestServer::https(config, |_| answer(200));
    let (proxy, asked) = tunnel(&server);
    let options = RegistryOptions {
        tls: ca_file(directory.path(), &authority),
        ..with_proxy(&proxy)
    };
    let bed = Bed::new();
    let transport = bed.transport("registry.example", &options);
    bed.send(&transport, get("/v2/")).unwrap();
    assert_eq!(
        *asked.lock().unwrap(),
        [format!("CONNECT registry.example:443 {PROXY_USER}")]
    );
    assert_eq!(server.seen()[0].header("proxy-authorization"), None);
}

#[test]
fn http_is_asked_of_the_proxy() {
    let proxy = TestServer::http(|_| answer(200));
    let options = RegistryOptions {
        plain_http: true,
        ..with_proxy(&proxy)
    };
    let bed = Bed::new();
    let transport = bed.transport("registry.example:5000", &options);
    bed.send(&transport, get("/v2/")).unwrap();
    let seen = proxy.seen();
    assert_eq!(seen[0].target, "http://registry.example:5000/v2/");
    assert_eq!(seen[0].header("proxy-authorization"), Some(PROXY_USER));
}

#[test]
fn a_proxy_that_refuses_is_told_without_its_password() {
    for (status, expected) in [
        (407, "proxy authorization required"),
        (502, "tunnel error: unsuccessful"),
    ] {
        let proxy = TestServer::http(move |_| answer(status));
        let bed = Bed::new();
        let transport = bed.transport("registry.example", &with_proxy(&proxy));
        let error = bed.send(&transport, get("/v2/")).unwrap_err();
        let text = shown(&error);
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn a_far_registry_cannot_send_us_to_this_machine() {
    let near = TestServer::http(|_| answer(200).body(r#"{"token":"x"}"#));
    for (status, header) in [(401, "WWW-Authenticate"), (307, "Location")] {
        for host in [
            format!("127.0.0.1:{}", near.port()),
            format!("localhost:{}", near.port()),
            format!("[::ffff:127.0.0.1]:{}", near.port()),
            format!("2130706433:{}", near.port()),
            "169.254.169.254".to_owned(),
            "10.0.0.1".to_owned(),
        ] {
            let named = format!("http://{host}/token");
            let value = match status {
                401 => format!("Bearer realm=\"{named}\""),
                _ => named,
            };
            // It answers in the place of a registry on the internet.
            let proxy = TestServer::http(move |_| answer(status).header(header, value.clone()));
            let options = RegistryOptions {
                plain_http: true,
                credentials: with_password().credentials,
                ..with_proxy(&proxy)
            };
            let bed = Bed::new();
            let transport = bed.transport("registry.example", &options);
            let error = bed.send(&transport, get("/v2/")).unwrap_err();
            let text = shown(&error);
            assert!(text.contains("is on a private network"), "{text}");
        }
    }
    assert_eq!(near.seen().len(), 0);
}

fn take(mut stream: &TcpStream, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// Copies both ways until one of them ends.
fn join(near: TcpStream, far: TcpStream) {
    let mut back = (far.try_clone().unwrap(), near.try_clone().unwrap());
    thread::spawn(move || {
        let _ = std::io::copy(&mut back.0, &mut back.1);
        let _ = back.1.shutdown(Shutdown::Both);
    });
    let _ = std::io::copy(&mut &near, &mut &far);
    let _ = far.shutdown(Shutdown::Both);
}

#[test]
fn socks_looks_the_name_up_itself() {
    let server = TestServer::http(|_| answer(200));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (log, to) = (Arc::clone(&asked), server.host());
    // RFC 1928 and, for the password, RFC 1929.
    let proxy = TestServer::raw(move |mut stream| {
        let methods = take(&stream, 2)[1];
        take(&stream, methods.into());
        stream.write_all(&[5, 2]).unwrap();
        let user = take(&stream, 2)[1];
        let user = take(&stream, user.into());
        let password = take(&stream, 1)[0];
        let password = take(&stream, password.into());
        stream.write_all(&[1, 0]).unwrap();
        let name = take(&stream, 5)[4];
        let name = take(&stream, name.into());
        take(&stream, 2);
        let words = [user, password, name].map(|word| String::from_utf8(word).unwrap());
        log.lock().unwrap().push(words.join(" "));
        stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).unwrap();
        join(stream, TcpStream::connect(&to).unwrap());
    });
    let address = format!("socks5h://proxy-user:{PASSWORD}@{}", proxy.host());
    let options = RegistryOptions {
        plain_http: true,
        proxy: ProxyOptions {
            http: Some(Secret::new(address)),
            ..ProxyOptions::default()
        },
        ..RegistryOptions::default()
    };
    let bed = Bed::new();
    let transport = bed.transport("registry.example", &options);
    bed.send(&transport, get("/v2/")).unwrap();
    assert_eq!(
        *asked.lock().unwrap(),
        [format!("proxy-user {PASSWORD} registry.example")]
    );
}
