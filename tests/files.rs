//! Bodies that are bytes and forms that carry files, through the front door: they come back as they came, wait on disk where they are large, cost the
//! process no memory, and leave nothing behind.

use std::fs;
use std::process::Command;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::{Connection, Project, Response, Rhaiway, events, eventually, render};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
/// What a small body is at most, and its neighbours.
const EDGES: [usize; 6] = [0, 1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 300 * KIB];

const SCRIPT: &str = r#"
const OPEN = #{ auth: "none", max_body: "64MiB" };
post("/echo", OPEN, |req| response(#{ body: req.bytes }));
post("/about", OPEN, |req| #{
    size: req.bytes.size, type: req.bytes.content_type, sha256: req.bytes.sha256(), name: req.bytes.name,
    files: req.files.len(),
});
post("/file", OPEN, |req| req.files[0]);
post("/form", OPEN, |req| #{
    form: req.form,
    files: req.files.map(|file| #{
        field: file.field, name: file.name, type: file.content_type, size: file.size, sha256: file.sha256(),
    }),
});
post("/content", OPEN, |req| req.files.map(|file| [file.text(), file.bytes().len()]));
post("/digests", OPEN, |req| parallel(req.files, |file| file.sha256()));
post("/json", OPEN, |req| req.json.items.len());
post("/text", OPEN, |req| req.text.len());
post("/fields", OPEN, |req| req.form.keys().len());
post("/ignored", OPEN, |req| "fine");
post("/caught", OPEN, |req| { try { req.files; } catch (error) { return error.message; } });
post("/once", #{ auth: "none", max_body: "1MiB", idempotency: "idempotency-key" }, |req| response(#{ body: req.bytes }));
webhook("forms", "*", |event| db.seen.put("form", #{
    form: event.form, data: event.data,
    files: event.files.map(|file| [file.field, file.name, file.content_type, file.size, file.sha256(), file.bytes().len()]),
}));
get("/seen", #{ auth: "none" }, |req| db.seen.get("form") ?? status(404));
"#;

const WEBHOOK: &str =
    "[webhooks.forms]\npath = \"/forms\"\nscheme = \"none\"\nmax_body = \"8MiB\"\n";

fn project() -> Project {
    Project::with_more(WEBHOOK, SCRIPT)
}

/// Bytes of which every stretch differs from its neighbours.
fn bytes(length: usize) -> Vec<u8> {
    (0..length)
        .map(|index| (index % 251).to_le_bytes()[0] ^ (index >> 8).to_le_bytes()[0])
        .collect()
}

fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

const FORM: (&str, &str) = ("content-type", "multipart/form-data; boundary=----b");

/// A form of these parts: what stands behind `form-data;` in their heads, and their bytes.
fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (head, content) in parts {
        let head = format!("------b\r\nContent-Disposition: form-data; {head}\r\n\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"------b--\r\n");
    body
}

fn post(rhaiway: &Rhaiway, path: &str, body: &[u8]) -> Response {
    rhaiway.post(path, &[FORM], body)
}

/// In chunks, so that nobody knows its length before its end.
fn post_in_chunks(rhaiway: &Rhaiway, path: &str, body: &[u8]) -> Response {
    let mut connection = Connection::open(rhaiway.address());
    let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n");
    connection.send(head.as_bytes()).unwrap();
    for chunk in body.chunks(50_000) {
        connection.send(format!("{:x}\r\n", chunk.len()).as_bytes()).unwrap();
        connection.send(chunk).unwrap();
        connection.send(b"\r\n").unwrap();
    }
    connection.send(b"0\r\n\r\n").unwrap();
    connection.read().unwrap()
}

/// Spool files that the process holds open.
fn spooled(rhaiway: &Rhaiway) -> usize {
    let open = fs::read_dir(format!("/proc/{}/fd", rhaiway.pid())).unwrap();
    let links = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    links.filter(|link| link.to_string_lossy().contains("-spool-")).count()
}

fn spool_is_empty(project: &Project, rhaiway: &Rhaiway) {
    eventually("no spool file is left", || (spooled(rhaiway) == 0).then_some(()));
    for entry in fs::read_dir(project.at("data")).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(!name.to_string_lossy().contains("spool"), "{name:?}");
    }
}

/// The most memory that the process has had, in bytes.
fn peak(rhaiway: &Rhaiway) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", rhaiway.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * KIB
}

#[test]
fn a_body_of_bytes_comes_back_as_it_came_whatever_its_size() {
    let project = project();
    let rhaiway = project.start();
    for length in EDGES {
        let body = bytes(length);
        let headers = [("content-type", "image/png")];
        let echo = rhaiway.post("/echo", &headers, &body);
        assert_eq!(
            (echo.status, echo.header("content-type")),
            (200, Some("image/png")),
            "{length}"
        );
        assert!(echo.body == body, "{length}: {} bytes came back", echo.body.len());
        assert_eq!(echo.header("content-length"), Some(length.to_string().as_str()));
        let about = rhaiway.post("/about", &headers, &body).json();
        let expected = json!({
            "size": length, "type": "image/png", "sha256": sha256(&body), "name": null, "files": 0,
        });
        assert_eq!(about, expected);
        let chunked = post_in_chunks(&rhaiway, "/echo", &body);
        assert_eq!(chunked.header("content-type"), Some("application/octet-stream"));
        assert!(chunked.body == body, "{length} in chunks");
    }
    spool_is_empty(&project, &rhaiway);
}

#[test]
fn a_file_of_a_form_comes_back_as_it_came_whatever_its_size() {
    let project = project();
    let rhaiway = project.start();
    for length in EDGES {
        let content = bytes(length);
        let head = "name=\"f\"; filename=\"a.png\"\r\nContent-Type: image/png";
        let body =
            form(&[("name=\"a\"", b"1"), (head, &content), ("name=\"a\"", b"\xc3\xa4\r\n--")]);
        let file = post(&rhaiway, "/file", &body);
        assert_eq!(
            (file.status, file.header("content-type")),
            (200, Some("image/png")),
            "{length}"
        );
        assert!(file.body == content, "{length}: {} bytes came back", file.body.len());
        let seen = post(&rhaiway, "/form", &body).json();
        let expected = json!({
            "form": { "a": ["1", "ä\r\n--"] },
            "files": [{ "field": "f", "name": "a.png", "type": "image/png", "size": length, "sha256": sha256(&content) }],
        });
        assert_eq!(seen, expected);
    }
    spool_is_empty(&project, &rhaiway);
}

#[test]
fn a_file_s_name_is_its_last_segment_and_text() {
    let project = project();
    let rhaiway = project.start();
    let check = |head: &str, name: &str| {
        let seen = post(&rhaiway, "/form", &form(&[(&format!("name=\"f\"; {head}"), b"x")])).json();
        assert_eq!(seen["files"][0]["name"], name, "{head}");
        assert_eq!(seen["files"][0]["type"], "application/octet-stream", "{head}");
    };
    check("filename=\"../../etc/passwd\"", "passwd");
    check("filename=\"..\\..\\boot.ini\"", "boot.ini");
    check("filename=\"..\"", "");
    check("filename=\"a\\\"b.txt\"", "a\"b.txt");
    check("filename=\"a%22b.txt\"", "a\"b.txt");
    check("filename=\"日本.txt\"", "日本.txt");
    check("filename=\"x\"; filename*=UTF-8''%E6%97%A5%2F..%2Fna%C3%AFve.txt", "naïve.txt");
    check("filename=\"a\tb\u{1b}[31m.txt\"", "ab[31m.txt");
    let nothing_chosen =
        form(&[("name=\"f\"; filename=\"\"\r\nContent-Type: application/octet-stream", b"")]);
    assert_eq!(post(&rhaiway, "/form", &nothing_chosen).json(), json!({ "form": {}, "files": [] }));
}

#[test]
fn a_broken_form_is_400_for_who_looks_at_it_and_nobody_else() {
    let project = project();
    let rhaiway = project.start();
    let sound = form(&[("name=\"f\"; filename=\"a\"", &bytes(100))]);
    let large = form(&[("name=\"f\"; filename=\"a\"", &bytes(100 * KIB))]);
    let check = |label: &str, body: &[u8]| {
        let headers = [("content-type", label)];
        for path in ["/form", "/file"] {
            let answer = rhaiway.post(path, &headers, body);
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (400, "INVALID_PAYLOAD"),
                "{label}"
            );
        }
        assert_eq!(rhaiway.post("/ignored", &headers, body).text(), "fine");
        rhaiway.post("/caught", &headers, body).text().to_owned()
    };
    let ends = "the body is not a form: the form ends before its last boundary";
    assert_eq!(check(FORM.1, b""), ends);
    assert_eq!(check(FORM.1, &sound[..sound.len() - 4]), ends);
    assert_eq!(check(FORM.1, &large[..large.len() - 4]), ends);
    assert_eq!(check("multipart/form-data; boundary=another", &sound), ends);
    assert!(check("multipart/form-data", &sound).contains("must name its boundary"));
    assert!(check(FORM.1, &form(&[("filename=\"a\"", b"x")])).contains("with a name"));
    let many = |count: usize| form(&vec![("name=\"a\"", b"".as_slice()); count]);
    assert!(check(FORM.1, &many(10_001)).contains("10,000 parts at most"));
    let most = post(&rhaiway, "/form", &many(10_000)).json();
    assert_eq!(most["form"]["a"].as_array().map(Vec::len), Some(10_000));
    spool_is_empty(&project, &rhaiway);
}

#[test]
fn json_text_and_forms_are_read_from_disk_as_from_memory() {
    let project = project();
    let rhaiway = project.start();
    for count in [10, 50_000] {
        let items = json!({ "items": vec![1; count] }).to_string();
        assert_eq!(rhaiway.post("/json", &[], items.as_bytes()).text(), count.to_string());
        assert_eq!(rhaiway.post("/text", &[], items.as_bytes()).text(), items.len().to_string());
    }
    let fields: String = (0..9_000).map(|n| format!("field_{n}=value&")).collect();
    assert!(fields.len() > 100 * KIB);
    assert_eq!(
        rhaiway.post("/fields", &[], fields.trim_end_matches('&').as_bytes()).text(),
        "9000"
    );
    let not_text = [b'a', 0xff].repeat(50 * KIB);
    for path in ["/json", "/text"] {
        let answer = rhaiway.post(path, &[], &not_text);
        assert_eq!((answer.status, answer.code().as_str()), (400, "INVALID_PAYLOAD"), "{path}");
    }
    let file = "name=\"f\"; filename=\"a\"";
    let body = form(&[(file, b"small"), (file, "ä".repeat(50 * KIB).as_bytes())]);
    let content = post(&rhaiway, "/content", &body).json();
    assert_eq!(content, json!([["small", 5], ["ä".repeat(50 * KIB), 100 * KIB]]));
    let digests = post(&rhaiway, "/digests", &body).json();
    let expected = [sha256(b"small"), sha256("ä".repeat(50 * KIB).as_bytes())];
    assert_eq!(digests, json!(expected));
}

#[test]
fn an_upload_of_20_mib_costs_the_process_no_memory_unless_the_script_asks_for_it() {
    static CONTENT: LazyLock<Vec<u8>> = LazyLock::new(|| bytes(20 * MIB));
    let project = project();
    let rhaiway = project.start();
    let body = form(&[("name=\"f\"; filename=\"a\"", &CONTENT)]);
    post(&rhaiway, "/form", &form(&[("name=\"f\"; filename=\"a\"", &bytes(MIB))]));
    let before = peak(&rhaiway);
    std::thread::scope(|scope| {
        for _client in 0..4 {
            scope.spawn(|| {
                let seen = post(&rhaiway, "/form", &body).json();
                assert_eq!(seen["files"][0]["sha256"], sha256(&CONTENT).as_str());
                assert!(post(&rhaiway, "/file", &body).body == *CONTENT);
            });
        }
    });
    let grown = peak(&rhaiway) - before;
    assert!(grown < 16 * MIB, "160 MiB came and went, and memory grew by {grown} bytes");
    spool_is_empty(&project, &rhaiway);

    let large = form(&[("name=\"f\"; filename=\"a\"", &bytes(40 * MIB))]);
    let answer = post(&rhaiway, "/content", &large);
    assert_eq!((answer.status, answer.code().as_str()), (503, "SCRIPT_LIMIT"));
    assert!(peak(&rhaiway) - before < 16 * MIB, "what has no room is not even read");
    spool_is_empty(&project, &rhaiway);
}

#[test]
fn a_full_disk_is_503_and_what_was_begun_leaves_nothing() {
    let project = project();
    // A limit of files' sizes stands for a small disk: nothing can be written beyond it, and it can be lifted from outside.
    let mut command = Command::new("sh");
    let run = project.command(&["run"]);
    command.args(["-c", "trap '' XFSZ; ulimit -S -f 1200; exec \"$0\" run"]);
    command.arg(run.get_program()).current_dir(project.path());
    command.env("CLERK_WEBHOOK_SECRET", crate::support::SECRET);
    let rhaiway = project.start_as(command);
    let body = bytes(4 * MIB);
    let answer = rhaiway.post("/echo", &[], &body);
    assert_eq!((answer.status, answer.code().as_str()), (503, "SERVICE_UNAVAILABLE"));
    assert!(answer.header("retry-after").is_some());
    rhaiway.wait_for_log("the body of a request could not be kept");
    spool_is_empty(&project, &rhaiway);
    assert!(rhaiway.post("/echo", &[], &body[..MIB / 4]).body == body[..MIB / 4]);
    let lifted = Command::new("prlimit")
        .args(["--pid", &rhaiway.pid().to_string(), "--fsize=unlimited:"])
        .status();
    assert!(lifted.expect("prlimit runs").success());
    assert!(rhaiway.post("/echo", &[], &body).body == body);
    spool_is_empty(&project, &rhaiway);
}

#[test]
fn without_a_folder_to_spool_in_large_bodies_are_503_and_small_ones_are_served() {
    let project = project();
    let rhaiway = project.start();
    fs::rename(project.at("data"), project.at("gone")).unwrap();
    let answer = rhaiway.post("/echo", &[], &bytes(100 * KIB));
    assert_eq!((answer.status, answer.code().as_str()), (503, "SERVICE_UNAVAILABLE"));
    let line = rhaiway.wait_for_log("the body of a request could not be kept");
    assert!(line.contains("no spool file in") && line.contains("data"), "{line}");
    assert_eq!(rhaiway.post("/echo", &[], b"small").text(), "small");
    fs::rename(project.at("gone"), project.at("data")).unwrap();
    assert_eq!(rhaiway.post("/echo", &[], &bytes(100 * KIB)).status, 200);
}

#[test]
fn who_hangs_up_or_sends_too_much_leaves_no_file() {
    let project = project();
    let rhaiway = project.start();
    let request = render("POST", "/echo", &[], &bytes(2 * MIB));
    let mut connection = Connection::open(rhaiway.address());
    connection.send(&request[..MIB]).unwrap();
    eventually("it waits on disk", || (spooled(&rhaiway) == 1).then_some(()));
    connection.reset();
    spool_is_empty(&project, &rhaiway);
    let too_much = rhaiway.post("/once", &[("idempotency-key", "k")], &bytes(MIB + 1));
    assert_eq!((too_much.status, too_much.code().as_str()), (413, "PAYLOAD_TOO_LARGE"));
    let mut connection = Connection::open(rhaiway.address());
    let head = b"POST /once HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n110000\r\n";
    connection.send(head).unwrap();
    // It may be refused before all of it is sent.
    _ = connection.send(&bytes(0x11_0000));
    assert_eq!(connection.read().unwrap().status, 413);
    spool_is_empty(&project, &rhaiway);
}

#[test]
fn a_large_body_with_an_idempotency_key_is_told_from_another_and_its_answer_is_kept() {
    let project = project();
    let rhaiway = project.start();
    let key = [("idempotency-key", "k-1"), ("content-type", "image/png")];
    let body = bytes(300 * KIB);
    let first = rhaiway.post("/once", &key, &body);
    assert_eq!((first.status, first.header("idempotent-replayed")), (200, None));
    let again = rhaiway.post("/once", &key, &body);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    for answer in [&first, &again] {
        assert_eq!(answer.header("content-type"), Some("image/png"));
        assert!(answer.body == body);
    }
    let mut other = body.clone();
    other[200 * KIB] ^= 1;
    let refused = rhaiway.post("/once", &key, &other);
    assert_eq!((refused.status, refused.code().as_str()), (422, "IDEMPOTENCY_MISMATCH"));
    spool_is_empty(&project, &rhaiway);
}

#[test]
fn a_webhook_s_form_has_its_files_and_is_stored_as_it_came() {
    let project = project();
    let rhaiway = project.start();
    let content = bytes(2 * MIB);
    let head = "name=\"document\"; filename=\"../scan.pdf\"\r\nContent-Type: application/pdf";
    let body = form(&[("name=\"from\"", b"ada"), (head, &content), ("name=\"to\"", b"b")]);
    let answer = post(&rhaiway, "/forms", &body);
    assert_eq!((answer.status, answer.text()), (200, r#"{"received":true}"#));
    let seen: Value = eventually("it was handled", || {
        let answer = rhaiway.get("/seen");
        (answer.status == 200).then(|| answer.json())
    });
    let fields = json!({ "from": "ada", "to": "b" });
    assert_eq!((&seen["form"], &seen["data"]), (&fields, &fields));
    let file = json!([
        "document",
        "scan.pdf",
        "application/pdf",
        content.len(),
        sha256(&content),
        content.len()
    ]);
    assert_eq!(seen["files"], json!([file]));
    let id = events(&project)[0]["id"].as_str().unwrap().to_owned();
    let (stored, _) = project.expect(0, &["events", &id, "--json"]);
    let stored: Value = serde_json::from_str(&stored).unwrap();
    assert!(STANDARD.decode(stored["body_base64"].as_str().unwrap()).unwrap() == body);
    for broken in [&body[..body.len() - 4], b""] {
        let answer = post(&rhaiway, "/forms", broken);
        assert_eq!((answer.status, answer.code().as_str()), (400, "INVALID_PAYLOAD"));
    }
    let unlabelled = rhaiway.post("/forms", &[("content-type", "multipart/form-data")], &body);
    assert_eq!((unlabelled.status, unlabelled.code().as_str()), (400, "INVALID_PAYLOAD"));
}
