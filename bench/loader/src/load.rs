//! The closed loop: each connection sends its next request when the answer to the last one is there. Edge-triggered epoll; one
//! thread drives many connections. The run ends when all requests are answered, or when its time is up and what is under way
//! is answered.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::{Failure, answer};

/// A server that answers nothing for this long has failed.
const SILENCE: Duration = Duration::from_secs(10);

pub struct Load<'a> {
    pub address: SocketAddr,
    /// Sent in this order; request N of a run is `requests[N % len]`.
    pub requests: &'a [Box<[u8]>],
    pub count: usize,
    pub time: Duration,
    pub connections: usize,
    pub threads: usize,
}

pub struct Measured {
    /// One for each answer, in no order.
    pub latencies: Vec<Duration>,
    /// When the first request was sent.
    pub started: SystemTime,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    /// CPU time of this process in between.
    pub cpu: Duration,
}

pub fn run(load: Load<'_>) -> Result<Measured, Failure> {
    let (next, barrier) = (AtomicUsize::new(0), Barrier::new(load.threads + 1));
    let (load, next, barrier) = (&load, &next, &barrier);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..load.threads)
            .map(|thread| {
                let share = load.connections / load.threads
                    + usize::from(thread < load.connections % load.threads);
                scope.spawn(move || {
                    let connected = Worker::connect(load, next, share);
                    barrier.wait();
                    connected?.drive()
                })
            })
            .collect();
        barrier.wait();
        let (started, clock, cpu_before) = (SystemTime::now(), Instant::now(), cpu_time()?);
        let mut latencies = Vec::with_capacity(load.count);
        for thread in threads {
            latencies.extend(thread.join().map_err(|_| "a thread panicked")??);
        }
        if latencies.is_empty() {
            return Err("nothing was answered".into());
        }
        let elapsed = clock.elapsed();
        Ok(Measured { latencies, started, elapsed, cpu: cpu_time()?.saturating_sub(cpu_before) })
    })
}

struct Worker<'a> {
    load: &'a Load<'a>,
    /// The next request to send, of all threads.
    next: &'a AtomicUsize,
    poll: Poll,
    connections: Vec<Connection<'a>>,
    latencies: Vec<Duration>,
}

struct Connection<'a> {
    stream: TcpStream,
    /// What is still to be written of the request under way.
    unsent: &'a [u8],
    /// What has come of its answer.
    received: Vec<u8>,
    sent_at: Instant,
}

impl<'a> Worker<'a> {
    fn connect(load: &'a Load<'a>, next: &'a AtomicUsize, count: usize) -> Result<Self, Failure> {
        let poll = Poll::new()?;
        let connections = (0..count)
            .map(|number| {
                let stream = std::net::TcpStream::connect(load.address)?;
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                let mut stream = TcpStream::from_std(stream);
                let interest = Interest::READABLE | Interest::WRITABLE;
                poll.registry().register(&mut stream, Token(number), interest)?;
                Ok(Connection {
                    stream,
                    unsent: &[],
                    received: Vec::with_capacity(1024),
                    sent_at: Instant::now(),
                })
            })
            .collect::<io::Result<_>>()?;
        Ok(Self {
            load,
            next,
            poll,
            connections,
            latencies: Vec::with_capacity(load.count / load.threads),
        })
    }

    /// The latencies of this thread's share.
    fn drive(mut self) -> Result<Vec<Duration>, Failure> {
        let end = Instant::now() + self.load.time;
        let (next, load) = (self.next, self.load);
        let take = || {
            let number = if Instant::now() < end { next.fetch_add(1, Relaxed) } else { load.count };
            (number < load.count).then(|| &*load.requests[number % load.requests.len()])
        };
        let mut busy = 0;
        for connection in &mut self.connections {
            busy += usize::from(connection.send(take())?);
        }
        let mut events = Events::with_capacity(1024);
        while busy > 0 {
            self.poll.poll(&mut events, Some(SILENCE))?;
            if events.is_empty() {
                return Err(format!("{busy} requests without an answer for {SILENCE:?}").into());
            }
            for event in &events {
                let connection = &mut self.connections[event.token().0];
                if event.is_writable() {
                    connection.flush()?;
                }
                if event.is_readable()
                    && let Some(latency) = connection.receive()?
                {
                    self.latencies.push(latency);
                    busy -= usize::from(!connection.send(take())?);
                }
            }
        }
        Ok(self.latencies)
    }
}

impl<'a> Connection<'a> {
    /// Whether there was a request to send.
    fn send(&mut self, request: Option<&'a [u8]>) -> io::Result<bool> {
        let Some(request) = request else { return Ok(false) };
        self.unsent = request;
        self.sent_at = Instant::now();
        self.flush()?;
        Ok(true)
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(self.unsent) {
                Ok(written) => self.unsent = &self.unsent[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// How long the request took, if its answer is complete. A read that does not fill the buffer took all there was, so the
    /// next edge is the next answer's: one read an answer.
    fn receive(&mut self) -> Result<Option<Duration>, Failure> {
        let mut buffer = [0; 4096];
        loop {
            let read = match self.stream.read(&mut buffer) {
                Ok(0) => return Err("the server closed a connection".into()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            self.received.extend_from_slice(&buffer[..read]);
            match answer::complete(&self.received)? {
                Some(200) => {
                    self.received.clear();
                    return Ok(Some(self.sent_at.elapsed()));
                }
                Some(_) => return Err(String::from_utf8_lossy(&self.received).into()),
                None if read < buffer.len() => return Ok(None),
                None => {}
            }
        }
    }
}

/// CPU time of this process: fields 14 and 15 of its stat (proc(5)), in ticks of 10 ms.
fn cpu_time() -> io::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u64>().ok());
    Ok(Duration::from_millis(ticks.sum::<u64>() * 10))
}
