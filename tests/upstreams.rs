//! The upstream that misbehaves does what its steps say, seen with a plain socket: what tests of providers rest on.

use std::io::Read as _;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::support::upstream::{
    Step, Unanswering, Upstream, answer, certificates, chunk, chunked_head, gzip_of_zeros, json,
    of_length, redirect, tls_1_0_only,
};
use crate::support::{Connection, render};

fn ask(upstream: &Upstream) -> Connection {
    let mut connection = Connection::open(upstream.address());
    connection.send(&render("POST", "/v1/x", &[], b"hello")).unwrap();
    connection
}

/// Everything that comes after a request, and whether the connection ended in good order.
fn heard(steps: Vec<Step>) -> (Vec<u8>, bool) {
    let upstream = Upstream::always(steps);
    let connection = ask(&upstream);
    let mut bytes = Vec::new();
    let ended = connection.stream().read_to_end(&mut bytes);
    (bytes, ended.is_ok())
}

#[test]
fn what_was_asked_is_counted_and_kept() {
    let upstream = Upstream::always(vec![Step::Read, Step::Send(json("{}")), Step::Read]);
    let mut connection = ask(&upstream);
    assert_eq!(connection.read().unwrap().text(), "{}");
    let chunked = b"PUT /y HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    connection.send(chunked).unwrap();
    assert!(connection.is_closed());
    let asked = upstream.requests();
    assert_eq!((upstream.connections(), asked.len()), (1, 2));
    assert_eq!(
        (&*asked[0].method, &*asked[0].path, &*asked[0].body),
        ("POST", "/v1/x", &b"hello"[..])
    );
    assert_eq!(asked[0].header("host"), Some("localhost"));
    assert_eq!((&*asked[1].method, &*asked[1].body), ("PUT", &b"abc"[..]));
}

#[test]
fn each_fault_goes_out_byte_for_byte() {
    let short = of_length(100, "{\"half\":");
    assert_eq!(heard(vec![Step::Read, Step::Send(short.clone())]), (short, true));
    let open = [chunked_head("application/json"), chunk(b"{\"a\":")].concat();
    let (bytes, _) = heard(vec![Step::Read, Step::Send(open.clone())]);
    assert_eq!(bytes, open);
    assert!(!bytes.ends_with(&chunk(b"")));
    let two = [json("{}"), json("[]")].concat();
    assert_eq!(heard(vec![Step::Read, Step::Send(two.clone())]), (two, true));
    let early = [b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec(), json("{}")].concat();
    assert_eq!(heard(vec![Step::Read, Step::Send(early.clone())]).0, early);
    let old = b"HTTP/1.0 200 OK\r\n\r\nto the end".to_vec();
    assert_eq!(heard(vec![Step::Read, Step::Send(old.clone())]).0, old);
    let away = redirect("302 Found", "http://elsewhere.example/");
    let text = String::from_utf8(away).unwrap();
    assert!(
        text.starts_with("HTTP/1.1 302 Found\r\n")
            && text.contains("location: http://elsewhere.example/\r\n")
    );
}

#[test]
fn a_reset_is_an_error_and_not_an_end() {
    assert!(!heard(vec![Step::Read, Step::Reset]).1);
    let (_, is_good) = heard(vec![Step::Read, Step::Send(of_length(100, "{")), Step::Reset]);
    assert!(!is_good);
}

#[test]
fn one_that_hangs_or_drips_or_never_ends_goes_on_until_the_client_leaves() {
    let quick = Duration::from_millis(100);
    let upstream = Upstream::start(|number| match number {
        0 => vec![Step::Read, Step::Send(b"HTTP/1.1 200 OK\r\ncontent-".to_vec()), Step::Hang],
        1 => vec![Step::Read, Step::Drip(json("{}"), Duration::from_millis(1))],
        _ => vec![Step::Read, Step::Send(chunked_head("text/plain")), Step::Endless(chunk(b"x"))],
    });
    let hung = ask(&upstream);
    let mut bytes = [0; 64];
    let read = hung.stream().read(&mut bytes).unwrap();
    assert_eq!(&bytes[..read], b"HTTP/1.1 200 OK\r\ncontent-");
    hung.stream().set_read_timeout(Some(quick)).unwrap();
    assert!(hung.stream().read(&mut bytes).is_err());
    assert_eq!(ask(&upstream).read().unwrap().text(), "{}");
    let endless = ask(&upstream);
    let mut first = vec![0; 1 << 20];
    endless.stream().read_exact(&mut first).unwrap();
}

#[test]
fn a_full_queue_lets_nobody_connect() {
    let nobody = Unanswering::start();
    let connected = TcpStream::connect_timeout(&nobody.address(), Duration::from_millis(300));
    assert!(connected.is_err());
}

#[test]
fn zeros_are_compressed_as_gzip_reads_them() {
    for length in [1, 258, 259, 300, 1_000_000] {
        let bomb = gzip_of_zeros(length);
        assert!(bomb.len() < 300 + length / 150, "{}", bomb.len());
        let mut gzip = Command::new("gzip")
            .arg("-dc")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = gzip.stdin.take().unwrap();
        let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, &bomb));
        let output = gzip.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        assert!(output.status.success(), "{length}");
        assert_eq!(output.stdout, vec![0; length]);
    }
    let sent = answer("200 OK", &[("content-encoding", "gzip")], &gzip_of_zeros(10));
    assert!(sent.starts_with(b"HTTP/1.1 200 OK\r\n"));
}

/// How a client that trusts `ca.pem` ends a handshake with that certificate.
fn handshake(upstream: &Upstream) -> Result<String, String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificates().join("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(upstream.address()).unwrap();
    let mut stream = StreamOwned::new(connection, stream);
    let asked = std::io::Write::write_all(&mut stream, &render("GET", "/", &[], b""));
    let mut heard = Vec::new();
    match asked.and_then(|()| stream.read_to_end(&mut heard)) {
        // It is closed without a farewell, as many servers do.
        Err(error) if heard.is_empty() => Err(error.to_string()),
        Ok(_) | Err(_) => Ok(String::from_utf8(heard).unwrap()),
    }
}

#[test]
fn each_certificate_has_the_fault_that_its_name_says() {
    let with =
        |name: &str| handshake(&Upstream::tls(name, vec![Step::Read, Step::Send(json("{}"))]));
    assert!(with("good").unwrap().ends_with("\r\n\r\n{}"));
    for (name, expected) in [
        ("expired", "certificate expired"),
        ("wrong-name", "certificate not valid for name \"localhost\""),
        ("self-signed", "UnknownIssuer"),
        ("unknown-ca", "UnknownIssuer"),
    ] {
        let error = with(name).unwrap_err();
        assert!(error.contains(expected), "{name}: {error}");
    }
    let old = Upstream::always(vec![Step::Send(tls_1_0_only()), Step::Hang]);
    let error = handshake(&old).unwrap_err();
    assert!(error.contains("ProtocolVersion"), "{error}");
    assert!(Upstream::tls("good", Vec::new()).url().starts_with("https://localhost:"));
}
