use std::io::{Read, Write};
use std::time::Instant;

use super::*;
use crate::certificates::TestCa;

/// Sends bytes and returns all that comes back until the server hangs up.
fn talk(server: &HttpServer, sent: &[u8]) -> String {
    let mut socket = TcpStream::connect(server.addr()).unwrap();
    socket.write_all(sent).unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

/// Answers with method, target and the length of the body.
fn echo(request: &mut Request<'_>) -> Answer {
    let target = request.target();
    match request.discard() {
        Ok(n) => Answer::new(200).body(format!("{} {target} {n}", request.method)),
        Err(_) => Answer::none(),
    }
}

#[test]
fn a_connection_takes_many_requests() {
    let server = HttpServer::start(echo);
    let answer = talk(
        &server,
        b"POST /a?b=c HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello\
          PATCH /chunks HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
          3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n\
          HEAD / HTTP/1.1\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(
        answer,
        "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nPOST /a?b=c 5\
         HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\nPATCH /chunks 13\
         HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\n"
    );
    assert_eq!((server.connections(), server.requests()), (1, 3));
}

#[test]
fn a_client_is_told_to_continue_only_when_its_body_is_read() {
    let server = HttpServer::start(|request| match request.path.as_str() {
        "/refused" => Answer::new(417),
        _ => echo(request),
    });
    let head = "Expect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\n";
    let mut socket = TcpStream::connect(server.addr()).unwrap();
    write!(socket, "PUT /taken HTTP/1.1\r\n{head}").unwrap();
    let mut told = [0; 25];
    socket.read_exact(&mut told).unwrap();
    assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
    socket.write_all(b"ab").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("PUT /taken 2"), "{answer}");

    let refused = talk(
        &server,
        format!("PUT /refused HTTP/1.1\r\n{head}").as_bytes(),
    );
    assert!(refused.starts_with("HTTP/1.1 417 "), "{refused}");
}

#[test]
fn a_body_that_breaks_off_is_an_error() {
    let server = HttpServer::start(|request| {
        let error = request.discard().unwrap_err();
        Answer::new(200).body(format!("{:?} after {}", error.kind(), request.received()))
    });
    for (sent, expected) in [
        ("Content-Length: 9\r\n\r\nabc", "UnexpectedEof after 3"),
        (
            "Transfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n",
            "UnexpectedEof after 4",
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\nlots\r\n",
            "InvalidData after 0",
        ),
    ] {
        let mut socket = TcpStream::connect(server.addr()).unwrap();
        write!(socket, "PUT / HTTP/1.1\r\n{sent}").unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with(expected), "{sent:?}: {answer}");
    }
}

#[test]
fn answers_break_as_they_are_told_to() {
    let server = HttpServer::start(|request| {
        let answer = Answer::new(200).body("0123456789");
        match request.path.as_str() {
            "/none" => Answer::none(),
            "/raw" => Answer::raw("SSH-2.0\r\n"),
            "/cut" => answer.cut_after(4),
            "/chunked" => answer.chunked().trickled(4, Duration::ZERO).closing(),
            "/reader" => answer.reader(&b"xyz"[..], None).closing(),
            "/reset" => answer.reset_after(4),
            path => panic!("{path}"),
        }
    });
    let get = |path: &str| talk(&server, format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes());
    let close = "Connection: close\r\n\r\n";
    assert_eq!(get("/none"), "");
    assert_eq!(get("/raw"), "SSH-2.0\r\n");
    assert_eq!(
        get("/cut"),
        format!("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n{close}0123")
    );
    let chunked = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{close}");
    assert_eq!(
        get("/chunked"),
        format!("{chunked}4\r\n0123\r\n4\r\n4567\r\n2\r\n89\r\n0\r\n\r\n")
    );
    assert_eq!(get("/reader"), format!("{chunked}3\r\nxyz\r\n0\r\n\r\n"));

    let mut socket = TcpStream::connect(server.addr()).unwrap();
    socket.write_all(b"GET /reset HTTP/1.1\r\n\r\n").unwrap();
    let error = socket.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn an_answer_does_not_wait_for_the_body() {
    let server = HttpServer::start(|_| Answer::new(401));
    let mut socket = TcpStream::connect(server.addr()).unwrap();
    socket
        .write_all(b"PUT / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\nx")
        .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert_eq!(
        answer,
        "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
}

#[test]
fn dropping_a_server_ends_what_waits() {
    let server = HttpServer::start(|request| {
        request.wait(Duration::from_secs(60));
        Answer::new(200)
    });
    let addr = server.addr();
    let mut idle = TcpStream::connect(addr).unwrap();
    let mut waiting = TcpStream::connect(addr).unwrap();
    waiting.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    while server.requests() == 0 || server.open_connections() < 2 {
        std::thread::yield_now();
    }
    let start = Instant::now();
    drop(server);
    assert!(start.elapsed() < Duration::from_secs(10));
    for socket in [&mut idle, &mut waiting] {
        let mut left = Vec::new();
        // An end or a reset: either way nothing more.
        let _ = socket.read_to_end(&mut left);
        assert_eq!(left, b"");
    }
    assert!(TcpStream::connect(addr).is_err());
}

#[test]
fn a_connection_ends_when_it_is_broken_or_the_handler_panics() {
    let server = HttpServer::start(|request| match request.path.as_str() {
        "/panic" => panic!("on purpose"),
        _ => echo(request),
    });
    assert_eq!(talk(&server, b"GET /panic HTTP/1.1\r\n\r\n"), "");
    let mut idle = TcpStream::connect(server.addr()).unwrap();
    while server.connections() < 2 || server.open_connections() == 0 {
        std::thread::yield_now();
    }
    server.break_connections();
    assert_eq!(idle.read(&mut [0]).unwrap(), 0);
}

#[test]
fn queries_are_decoded() {
    let query = "a=1&digest=sha256%3Aab&scope=x+y&scope=%zz&flag";
    assert_eq!(query_values(query, "digest"), ["sha256:ab"]);
    assert_eq!(query_values(query, "scope"), ["x y", "%zz"]);
    assert_eq!(query_values(query, "flag"), [""]);
    assert!(query_values(query, "none").is_empty());
}

/// Asks by TLS as a client that trusts `ca` and shows `certificate`.
fn ask_by_tls(
    server: &HttpServer,
    ca: &TestCa,
    certificate: Option<crate::certificates::Certificate>,
) -> io::Result<String> {
    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::pem::PemObject;

    let mut roots = rustls::RootCertStore::empty();
    roots.add(crate::certificates::der(ca.pem())).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match certificate {
        None => builder.with_no_client_auth(),
        Some(certificate) => builder
            .with_client_auth_cert(
                vec![crate::certificates::der(&certificate.pem)],
                PrivateKeyDer::from_pem_slice(certificate.key_pem.as_bytes()).unwrap(),
            )
            .unwrap(),
    };
    let name = "localhost".try_into().unwrap();
    let tls = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let socket = TcpStream::connect(server.addr())?;
    let mut stream = rustls::StreamOwned::new(tls, socket);
    stream.write_all(b"GET /tls HTTP/1.1\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn tls_asks_for_a_clients_certificate_if_told() {
    let (ca, others) = (TestCa::new("ca"), TestCa::new("others"));
    let open = HttpServer::start_tls(ca.server_config(None), echo);
    let answer = ask_by_tls(&open, &ca, None).unwrap();
    assert!(answer.ends_with("GET /tls 0"), "{answer}");
    ask_by_tls(&open, &others, None).unwrap_err();

    let closed = HttpServer::start_tls(ca.server_config(Some(&ca)), echo);
    let answer = ask_by_tls(&closed, &ca, Some(ca.client("me"))).unwrap();
    assert!(answer.ends_with("GET /tls 0"), "{answer}");
    ask_by_tls(&closed, &ca, None).unwrap_err();
    ask_by_tls(&closed, &ca, Some(others.client("me"))).unwrap_err();
}
