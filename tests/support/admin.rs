//! The admin socket, asked over plain HTTP/1.1 as `curl --unix-socket` would.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::{Project, Response};

/// GET of a path on the admin socket of a project's instance.
pub(crate) fn admin(project: &Project, path: &str) -> Response {
    let mut stream = UnixStream::connect(project.at("data/rhaiway.sock")).expect("it is served");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out");
    let request = format!("GET {path} HTTP/1.1\r\nhost: rhaiway\r\nconnection: close\r\n\r\n");
    // A head that is too long is answered before it is read.
    _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    _ = stream.read_to_end(&mut answer);
    let head = answer.windows(4).position(|end| end == b"\r\n\r\n").expect("an answer comes");
    let lines = String::from_utf8_lossy(&answer[..head]);
    let status = lines.split(' ').nth(1).and_then(|status| status.parse().ok());
    let fields = lines.split("\r\n").filter_map(|line| line.split_once(": "));
    let headers = fields.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
    Response {
        status: status.expect("a status line"),
        headers: headers.collect(),
        body: answer[head + 4..].to_vec(),
    }
}

/// Asks for an event to be repeated; the status, where the process lived to answer.
pub(crate) fn replay(project: &Project, event: &str) -> Option<u16> {
    let mut stream = UnixStream::connect(project.at("data/rhaiway.sock")).expect("it is served");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out");
    let request = format!(
        "POST /v1/events/{event}/replay HTTP/1.1\r\nhost: rhaiway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    _ = stream.write_all(request.as_bytes());
    let mut answer = String::new();
    _ = stream.read_to_string(&mut answer);
    answer.split(' ').nth(1)?.parse().ok()
}
