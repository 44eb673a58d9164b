//! Many streams at a time: each connection asks once and reads chunks that carry the time at which they were sent. What is measured is how late each of
//! them comes.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::{Failure, request};

/// Chunks of the first second are not counted: that is when all connections are made.
const WARM_UP: Duration = Duration::from_secs(2);

/// How late the chunks came, one for each.
pub fn run(
    address: SocketAddr,
    path: &str,
    count: usize,
    time: Duration,
) -> Result<Vec<Duration>, Failure> {
    let mut poll = Poll::new()?;
    let asked = request::get(path);
    let mut streams = Vec::with_capacity(count);
    for number in 0..count {
        let mut stream = std::net::TcpStream::connect(address)?;
        stream.write_all(&asked)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry().register(&mut stream, Token(number), Interest::READABLE)?;
        streams.push((stream, Vec::new()));
        // Spread, as callers are.
        std::thread::sleep(Duration::from_micros(500));
    }
    let (counted_from, end) = (Instant::now() + WARM_UP, Instant::now() + WARM_UP + time);
    let mut late = Vec::new();
    let mut events = Events::with_capacity(1024);
    while Instant::now() < end {
        poll.poll(&mut events, Some(Duration::from_millis(100)))?;
        for event in &events {
            let (stream, rest) = &mut streams[event.token().0];
            receive(stream, rest, |lateness| {
                if Instant::now() > counted_from {
                    late.push(lateness);
                }
            })?;
        }
    }
    if late.is_empty() {
        return Err("no chunk has come".into());
    }
    Ok(late)
}

fn receive(
    stream: &mut TcpStream,
    rest: &mut Vec<u8>,
    mut tell: impl FnMut(Duration),
) -> Result<(), Failure> {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Err("the server closed a stream".into()),
            Ok(read) => rest.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error.into()),
        }
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    while let Some(end) = rest.windows(2).position(|two| two == b"\n\n") {
        let event = String::from_utf8_lossy(&rest[..end]).into_owned();
        rest.drain(..end + 2);
        if let Some(sent) =
            event.rsplit("data: ").next().and_then(|nanos| nanos.trim().parse().ok())
        {
            tell(now.saturating_sub(Duration::from_nanos(sent)));
        }
    }
    Ok(())
}
