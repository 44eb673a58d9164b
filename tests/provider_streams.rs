//! Answers of providers that come as they are made: sent on to a client, read chunk by chunk, put together, and let go of as soon as nobody wants them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Connection, Project, Response, Rhaiway, read_until, render, request};

/// A provider that answers as a test tells it, and tells the test what becomes of its connections.
struct Upstream {
    address: String,
    /// What was asked, body included.
    asked: Receiver<String>,
    /// Told once a connection was closed by who had asked.
    left: Receiver<()>,
    /// Lets what waits in `answer` go on.
    go: Sender<()>,
}

/// A connection on its way through an answer.
struct Answering {
    stream: TcpStream,
    go: Arc<Mutex<Receiver<()>>>,
}

impl Answering {
    fn head(&mut self, status: &str, content_type: &str) {
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        );
        _ = self.stream.write_all(head.as_bytes());
    }

    fn events(&mut self, text: &str) {
        self.head("200 OK", "text/event-stream; charset=utf-8");
        self.piece(text);
    }

    fn piece(&mut self, text: &str) {
        _ = self.stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes());
    }

    fn end(&mut self) {
        _ = self.stream.write_all(b"0\r\n\r\n");
    }

    fn wait(&self) {
        _ = self.go.lock().unwrap().recv_timeout(Duration::from_secs(60));
    }
}

fn upstream(answer: fn(&str, &mut Answering)) -> Upstream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let ((asks, asked), (leaves, left), (go, going)) = (channel(), channel(), channel());
    let going = Arc::new(Mutex::new(going));
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (asks, leaves, go) = (asks.clone(), leaves.clone(), Arc::clone(&going));
            std::thread::spawn(move || {
                let Some((path, text)) = read_request(&stream) else { return };
                _ = asks.send(text);
                let mut answering = Answering { stream: stream.try_clone().unwrap(), go };
                answer(&path, &mut answering);
                drop(answering);
                let mut stream = stream;
                while let Ok(1..) = stream.read(&mut [0; 64]) {}
                _ = leaves.send(());
            });
        }
    });
    Upstream { address, asked, left, go }
}

/// Its path and its body.
fn read_request(stream: &TcpStream) -> Option<(String, String)> {
    let mut reader = BufReader::new(stream);
    let (mut path, mut length, mut line) = (String::new(), 0, String::new());
    loop {
        line.clear();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        if path.is_empty() {
            path = line.split(' ').nth(1)?.to_owned();
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((path, String::from_utf8(body).ok()?))
}

fn start(upstream: &Upstream, script: &str) -> (Project, Rhaiway) {
    let config = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 1\n[providers.ai]\nkind = \"http\"\nbase_url = \"{}\"\n",
        upstream.address
    );
    let project = Project::with_config(&config, script);
    let rhaiway = project.start();
    (project, rhaiway)
}

fn soon<T>(receiver: &Receiver<T>, what: &str) -> T {
    receiver.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| panic!("{what}"))
}

const PASS: &str = r#"
get("/pass/{what}", #{ auth: "none" }, |req| {
    db.things.put("before", #{});
    ai.get(`/${req.params.what}`, #{ stream: true })
});
get("/things", #{ auth: "none" }, |req| db.things.count());
"#;

#[test]
fn what_a_provider_streams_reaches_the_client_byte_by_byte_as_it_comes() {
    let upstream = upstream(|_path, answering| {
        answering.events(": hi\r\n\r\ndata: {\"a\":\r");
        answering.wait();
        answering.piece("\ndata: 1}\n\ndata: [DONE]\n\nleft over");
        answering.end();
    });
    let (_project, rhaiway) = start(&upstream, PASS);
    let mut connection = Connection::open(rhaiway.address());
    connection.send(&render("GET", "/pass/x", &[], b"")).unwrap();
    let first = read_until(connection.stream(), "{\"a\":\r");
    assert!(first.contains("content-type: text/event-stream; charset=utf-8\r\n"), "{first}");
    assert!(first.contains("x-accel-buffering: no") && first.contains(": hi\r\n\r\n"), "{first}");
    assert_eq!(rhaiway.get("/things").text(), "1", "what it wrote is committed");
    upstream.go.send(()).unwrap();
    let rest = read_until(connection.stream(), "\r\n0\r\n\r\n");
    assert!(rest.contains("\ndata: 1}\n\ndata: [DONE]\n\nleft over"), "{rest}");
}

#[test]
fn h27_a_client_that_leaves_ends_the_provider_s_stream_within_a_second() {
    let upstream = upstream(|_path, answering| {
        answering.events("data: 1\n\n");
        answering.wait();
    });
    let (_project, rhaiway) = start(&upstream, PASS);
    let connection = {
        let mut connection = Connection::open(rhaiway.address());
        connection.send(&render("GET", "/pass/x", &[], b"")).unwrap();
        connection
    };
    read_until(connection.stream(), "data: 1");
    drop(connection);
    // The provider sends nothing meanwhile; the thread behind it looks at its socket once it may go on.
    upstream.go.send(()).unwrap();
    let started = Instant::now();
    soon(&upstream.left, "the provider's connection is closed");
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
}

#[test]
fn v25_a_stream_that_breaks_off_cuts_the_client_and_an_error_status_is_thrown_as_ever() {
    let upstream = upstream(|path, answering| match path {
        "/cut" => {
            answering.events("data: 1\n\n");
            _ = answering.stream.shutdown(std::net::Shutdown::Both);
        }
        _ => {
            answering.head("429 Too Many Requests", "application/json");
            answering.piece("{\"error\":\"slow down\"}");
            answering.end();
        }
    });
    let (_project, rhaiway) = start(&upstream, PASS);
    let mut connection = Connection::open(rhaiway.address());
    connection.send(&render("GET", "/pass/cut", &[], b"")).unwrap();
    assert!(connection.read().is_err(), "a stream that broke must not look whole");
    let limited = rhaiway.get("/pass/limited");
    assert_eq!((limited.status, limited.code().as_str()), (429, "RATE_LIMIT_EXCEEDED"));
}

const READ: &str = r#"
fn read(path) {
    let s = ai.get(path, #{ stream: true });
    let seen = [];
    try {
        for chunk in s { seen.push(chunk); }
    } catch (err) {
        return #{ seen: seen, code: err.code, message: err.message, body: err.body };
    }
    #{ seen: seen, usage: s.usage, why: s.finish_reason }
}
get("/read/{what}", #{ auth: "none" }, |req| read(`/${req.params.what}`));
get("/message/{what}", #{ auth: "none" }, |req| {
    let s = ai.get(`/${req.params.what}`, #{ stream: true });
    #{ message: s.message(), usage: s.usage, why: s.finish_reason }
});
get("/twice", #{ auth: "none" }, |req| {
    let s = ai.get("/chat", #{ stream: true });
    for chunk in s { break; }
    s
});
get("/again", #{ auth: "none" }, |req| {
    let s = ai.get("/chat", #{ stream: true });
    s.message();
    for chunk in s { print(chunk); }
});
get("/early", #{ auth: "none" }, |req| {
    let s = ai.get("/endless", #{ stream: true });
    for chunk in s { return chunk; }
});
get("/unread", #{ auth: "none" }, |req| { ai.get("/endless", #{ stream: true }); 1 });
get("/loop", #{ auth: "none" }, |req| stream(|out| {
    for chunk in ai.get("/chat", #{ stream: true }) { out.event(#{ data: chunk.choices[0].delta.content }); }
}));
get("/both", #{ auth: "none" }, |req| parallel(["/chat", "/chat"], |path| ai.get(path, #{ stream: true }).message().content));
"#;

const CHAT: &str = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"Hel\"}}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"lo\"},\"finish_reason\":\"stop\"}]}\n\ndata: {\"choices\":[],\"usage\":{\"total_tokens\":7}}\n\ndata: [DONE]\n\n";

fn reading() -> (Upstream, Project, Rhaiway) {
    let upstream = upstream(|path, answering| {
        match path {
            "/chat" => answering.events(CHAT),
            "/error" => answering.events(
                "data: 1\n\ndata: {\"error\":{\"message\":\"overloaded\",\"type\":\"server_error\"}}\n\ndata: 2\n\n",
            ),
            "/half" => answering.events("data: 1\n\ndata: {\"a\":"),
            "/large" => {
                answering.events("data: ");
                for _kibibyte in 0..1100 {
                    answering.piece(&"x".repeat(1024));
                }
            }
            _ => {
                answering.events("data: 1\n\n");
                answering.piece("data: 2\n\n");
                return;
            }
        }
        answering.end();
    });
    let (project, rhaiway) = start(&upstream, READ);
    (upstream, project, rhaiway)
}

#[test]
fn a_script_reads_a_stream_chunk_by_chunk_or_as_one_message() {
    let (_upstream, _project, rhaiway) = reading();
    let read = rhaiway.get("/read/chat").json();
    assert_eq!(read["seen"].as_array().map(Vec::len), Some(2), "{read}");
    assert_eq!(read["seen"][1]["choices"][0]["delta"]["content"], "lo");
    assert_eq!((&read["usage"], &read["why"]), (&json!({ "total_tokens": 7 }), &json!("stop")));
    let message = rhaiway.get("/message/chat").json();
    let expected = json!({
        "message": { "role": "assistant", "content": "Hello" },
        "usage": { "total_tokens": 7 }, "why": "stop",
    });
    assert_eq!(message, expected);
    assert_eq!(rhaiway.get("/loop").text(), "data: Hel\n\ndata: lo\n\n");
    assert_eq!(rhaiway.get("/both").json(), json!(["Hello", "Hello"]));
}

#[test]
fn v26_what_goes_wrong_inside_a_stream_is_thrown_where_it_is_read() {
    let (_upstream, _project, rhaiway) = reading();
    let check = |path: &str, code: &str, part: &str| {
        let read = rhaiway.get(path).json();
        assert_eq!(read["code"], code, "{read}");
        assert!(read["message"].as_str().unwrap().contains(part), "{read}");
        read
    };
    let told =
        check("/read/error", "SERVICE_UNAVAILABLE", "reports an error in its stream: overloaded");
    assert_eq!((&told["seen"], &told["body"]["type"]), (&json!([1]), &json!("server_error")));
    check("/read/half", "SERVICE_UNAVAILABLE", "in the middle of an event");
    check("/read/large", "SERVICE_UNAVAILABLE", "more than 1 MiB");
    assert_eq!(rhaiway.get("/message/error").status, 503);
}

#[test]
fn s40_a_stream_already_read_is_an_error_that_names_it() {
    let (_upstream, _project, rhaiway) = reading();
    let check = |path: &str, part: &str| {
        let answer: Response = rhaiway.get(path);
        assert_eq!((answer.status, answer.code().as_str()), (500, "SCRIPT_ERROR"), "{path}");
        rhaiway.wait_for_log(part);
    };
    check("/twice", "the stream of `ai.get` was read already, by a `for`");
    check("/again", "the stream of `ai.get` was read already, by `.message()`");
}

#[test]
fn what_a_run_leaves_unread_is_let_go_of_with_it() {
    let (upstream, _project, rhaiway) = reading();
    assert_eq!(rhaiway.get("/unread").text(), "1");
    soon(&upstream.left, "the first is closed");
    assert_eq!(rhaiway.get("/early").text(), "1");
    soon(&upstream.left, "the second is closed");
}

#[test]
fn what_was_asked_for_as_a_stream_is_sent_as_the_script_says() {
    let upstream = upstream(|_path, answering| {
        answering.events("data: [DONE]\n\n");
        answering.end();
    });
    let script = r#"post("/ask", #{ auth: "none" }, |req| ai.post("/x", #{ json: req.json, stream: true }));"#;
    let (_project, rhaiway) = start(&upstream, script);
    let answer = request(rhaiway.address(), "POST", "/ask", &[], b"{\"stream\":true}");
    assert_eq!((answer.status, answer.text()), (200, "data: [DONE]\n\n"));
    assert_eq!(soon(&upstream.asked, "it was asked"), "{\"stream\":true}");
}
