//! A third party that does what no HTTP library would: what it sends on a connection is a script, byte by byte. It counts connections and keeps what it
//! was sent. It ends with its test.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Bytes of one request's body that are kept.
const BODY_BYTES_KEPT: usize = 1 << 20;
/// How long a connection that hangs, or waits for a request, looks whether its test is over.
const GLANCE: Duration = Duration::from_millis(20);

/// What is done on a connection, one after the other; at the end it is closed.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Reads one request, body included. Where none comes before the client leaves, the connection ends.
    Read,
    Send(Vec<u8>),
    /// Sends a byte, waits, sends the next.
    Drip(Vec<u8>, Duration),
    /// Sends the same until the client leaves.
    Endless(Vec<u8>),
    /// Does nothing until the client leaves.
    Hang,
    /// Ends the connection with an error instead of an end (SO_LINGER 0).
    Reset,
    /// Reads requests, and gives to each what this gives, until the client leaves.
    Serve(Serving),
}

/// From a request to the bytes of its answer.
type Answering = dyn Fn(&Asked) -> Vec<u8> + Send + Sync;

/// How one that behaves answers.
#[derive(Clone)]
pub(crate) struct Serving(Arc<Answering>);

impl fmt::Debug for Serving {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Serving")
    }
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Lower-case names, in the order in which they came.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Default)]
struct Seen {
    connections: usize,
    requests: Vec<Asked>,
}

/// One that listens.
pub(crate) struct Upstream {
    address: SocketAddr,
    scheme: &'static str,
    seen: Arc<Mutex<Seen>>,
    is_over: Arc<AtomicBool>,
}

impl Upstream {
    /// The same on each connection.
    pub(crate) fn always(steps: Vec<Step>) -> Self {
        Self::start(move |_| steps.clone())
    }

    /// One that behaves: every request is answered with what this gives.
    pub(crate) fn serving(answer: impl Fn(&Asked) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::always(vec![Step::Serve(Serving(Arc::new(answer)))])
    }

    /// What is done on each connection, by its number from 0.
    pub(crate) fn start(script: impl Fn(usize) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self::listen("http", None, script)
    }

    /// With a certificate of `tests/vectors/tls`, by its name.
    pub(crate) fn tls(certificate: &str, steps: Vec<Step>) -> Self {
        Self::listen("https", Some(server_config(certificate)), move |_| steps.clone())
    }

    fn listen(
        scheme: &'static str,
        tls: Option<Arc<ServerConfig>>,
        script: impl Fn(usize) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let (seen, is_over) =
            (Arc::new(Mutex::new(Seen::default())), Arc::new(AtomicBool::new(false)));
        let upstream =
            Self { address, scheme, seen: Arc::clone(&seen), is_over: Arc::clone(&is_over) };
        let script = Arc::new(script);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                let (seen, is_over) = (Arc::clone(&seen), Arc::clone(&is_over));
                let (script, tls) = (Arc::clone(&script), tls.clone());
                std::thread::spawn(move || {
                    let number = {
                        let mut seen = seen.lock().unwrap();
                        seen.connections += 1;
                        seen.connections - 1
                    };
                    let mut connection = Served { wire: wire(stream, tls), seen, is_over };
                    // A client that leaves, as most do here, is nothing to report.
                    _ = script(number).iter().try_for_each(|step| connection.perform(step));
                });
            }
        });
        upstream
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// For `base_url`. The name is `localhost`, which is what the certificates are for.
    pub(crate) fn url(&self) -> String {
        format!("{}://localhost:{}", self.scheme, self.address.port())
    }

    pub(crate) fn connections(&self) -> usize {
        self.seen.lock().unwrap().connections
    }

    pub(crate) fn requests(&self) -> Vec<Asked> {
        self.seen.lock().unwrap().requests.clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        _ = TcpStream::connect(self.address);
    }
}

/// A port at which a connection is never made: its queue of connections is full, so that the system answers nothing.
pub(crate) struct Unanswering {
    address: SocketAddr,
    _listener: socket2::Socket,
    _queued: Vec<socket2::Socket>,
}

impl Unanswering {
    pub(crate) fn start() -> Self {
        let socket = || {
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
                .expect("a socket")
        };
        let listener = socket();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
        listener.listen(0).expect("it listens");
        let address = listener.local_addr().ok().and_then(|address| address.as_socket());
        let address = address.expect("its address");
        let mut queued = Vec::new();
        // Until one is not answered any more; how many fit is the system's to say.
        loop {
            let socket = socket();
            let is_full =
                socket.connect_timeout(&address.into(), Duration::from_millis(200)).is_err();
            queued.push(socket);
            if is_full {
                return Self { address, _listener: listener, _queued: queued };
            }
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// An answer with its length.
pub(crate) fn answer(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    [format!("{text}\r\n").as_bytes(), body].concat()
}

/// An answer of 200 with JSON.
pub(crate) fn json(body: &str) -> Vec<u8> {
    answer("200 OK", &[("content-type", "application/json")], body.as_bytes())
}

/// An answer that says how long it is, and holds something else.
pub(crate) fn of_length(length: usize, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// The head of an answer in chunks, without any of them.
pub(crate) fn chunked_head(content_type: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n")
        .into_bytes()
}

/// One chunk; an empty one is the end.
pub(crate) fn chunk(content: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", content.len()).as_bytes(), content, b"\r\n"].concat()
}

/// A redirect.
pub(crate) fn redirect(status: &str, location: &str) -> Vec<u8> {
    answer(status, &[("location", location)], b"")
}

/// What TLS 1.3 and 1.2 clients hear from a server that speaks 1.0 only: a fatal alert, `protocol_version` (RFC 5246, 7.2).
pub(crate) fn tls_1_0_only() -> Vec<u8> {
    vec![21, 3, 1, 0, 2, 2, 70]
}

/// So many zeros, compressed (RFC 1951 and 1952) to about a 158th: one block with the fixed codes, in which each repetition of 258 bytes takes 13 bits.
pub(crate) fn gzip_of_zeros(length: usize) -> Vec<u8> {
    const REPEATED: usize = 258;
    let mut bits = Bits { bytes: vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255], used: 0, last: 0 };
    bits.low_first(1, 1);
    bits.low_first(1, 2);
    let repetitions = length.saturating_sub(1) / REPEATED;
    // The literal 0, as often as repetitions do not come out even.
    for _ in 0..length - repetitions * REPEATED {
        bits.high_first(0b0011_0000, 8);
    }
    for _ in 0..repetitions {
        // Length 258 is code 285; distance 1 is code 0.
        bits.high_first(0b1100_0101, 8);
        bits.high_first(0, 5);
    }
    bits.high_first(0, 7);
    let mut bytes = bits.finish();
    bytes.extend(crc_of_zeros(length).to_le_bytes());
    bytes.extend(u32::try_from(length).expect("less than 4 GiB").to_le_bytes());
    bytes
}

struct Bits {
    bytes: Vec<u8>,
    used: u32,
    last: u8,
}

impl Bits {
    fn bit(&mut self, bit: u32) {
        self.last |= u8::from(bit & 1 == 1) << self.used;
        self.used += 1;
        if self.used == 8 {
            self.bytes.push(self.last);
            (self.used, self.last) = (0, 0);
        }
    }

    /// As numbers are written.
    fn low_first(&mut self, value: u32, count: u32) {
        (0..count).for_each(|index| self.bit(value >> index));
    }

    /// As Huffman codes are written.
    fn high_first(&mut self, value: u32, count: u32) {
        (0..count).rev().for_each(|index| self.bit(value >> index));
    }

    fn finish(mut self) -> Vec<u8> {
        if self.used > 0 {
            self.bytes.push(self.last);
        }
        self.bytes
    }
}

fn crc_of_zeros(length: usize) -> u32 {
    let table: Vec<u32> = (0..256)
        .map(|byte| (0..8).fold(byte, |crc: u32, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1))))
        .collect();
    !(0..length).fold(u32::MAX, |crc, _| table[(crc & 255) as usize] ^ (crc >> 8))
}

/// The folder of certificates.
pub(crate) fn certificates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/tls")
}

fn server_config(name: &str) -> Arc<ServerConfig> {
    let at = |ending: &str| certificates().join(format!("{name}.{ending}"));
    let certificate = CertificateDer::from_pem_file(at("pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(at("key")).expect("its key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions that ring has")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key);
    Arc::new(config.expect("they belong together"))
}

/// What bytes go over.
enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

fn wire(stream: TcpStream, tls: Option<Arc<ServerConfig>>) -> BufReader<Wire> {
    stream.set_nodelay(true).expect("an option");
    stream.set_read_timeout(Some(GLANCE)).expect("an option");
    BufReader::new(match tls {
        None => Wire::Plain(stream),
        Some(config) => {
            let connection = ServerConnection::new(config).expect("a connection");
            Wire::Tls(Box::new(StreamOwned::new(connection, stream)))
        }
    })
}

impl Wire {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &stream.sock,
        }
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// One connection, from its side.
struct Served {
    wire: BufReader<Wire>,
    seen: Arc<Mutex<Seen>>,
    is_over: Arc<AtomicBool>,
}

impl Served {
    fn perform(&mut self, step: &Step) -> io::Result<()> {
        match step {
            Step::Read => {
                let asked = self.read()?;
                self.seen.lock().unwrap().requests.push(asked);
                Ok(())
            }
            Step::Serve(serving) => loop {
                let asked = self.read()?;
                let answer = (serving.0)(&asked);
                self.seen.lock().unwrap().requests.push(asked);
                self.send(&answer)?;
            },
            Step::Send(bytes) => self.send(bytes),
            Step::Drip(bytes, pause) => bytes.iter().try_for_each(|byte| {
                std::thread::sleep(*pause);
                self.send(&[*byte])
            }),
            Step::Endless(bytes) => {
                while !self.is_over.load(Ordering::Relaxed) {
                    self.send(bytes)?;
                }
                Ok(())
            }
            Step::Hang => {
                let mut rest = [0; 1024];
                while self.read_some(&mut rest)? > 0 {}
                Ok(())
            }
            Step::Reset => {
                let socket = socket2::SockRef::from(self.wire.get_ref().socket());
                socket.set_linger(Some(Duration::ZERO))?;
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wire.get_mut().write_all(bytes)?;
        self.wire.get_mut().flush()
    }

    fn read(&mut self) -> io::Result<Asked> {
        let line = self.line()?;
        let mut words = line.split(' ').map(str::to_owned);
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut asked = Asked { method, path, headers: Vec::new(), body: Vec::new() };
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            asked.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        if asked.header("transfer-encoding").is_some() {
            loop {
                let size = usize::from_str_radix(&self.line()?, 16).map_err(io::Error::other)?;
                self.body(size, &mut asked.body)?;
                self.line()?;
                if size == 0 {
                    return Ok(asked);
                }
            }
        }
        let length = asked.header("content-length").and_then(|length| length.parse().ok());
        self.body(length.unwrap_or(0), &mut asked.body)?;
        Ok(asked)
    }

    fn body(&mut self, length: usize, kept: &mut Vec<u8>) -> io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        let mut left = length;
        while left > 0 {
            let most = left.min(buffer.len());
            let read = self.read_some(&mut buffer[..most])?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let room = BODY_BYTES_KEPT.saturating_sub(kept.len()).min(read);
            kept.extend_from_slice(&buffer[..room]);
            left -= read;
        }
        Ok(())
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            match self.wire.read_until(b'\n', &mut line) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) => self.wait_or(error)?,
            }
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.wire.read(buffer) {
                Ok(read) => return Ok(read),
                Err(error) => self.wait_or(error)?,
            }
        }
    }

    /// Goes on where nothing has come yet, and the test is not over.
    fn wait_or(&self, error: io::Error) -> io::Result<()> {
        let is_wait = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
        if is_wait && !self.is_over.load(Ordering::Relaxed) { Ok(()) } else { Err(error) }
    }
}
