//! V20: so many calls at once and no more, over all workers.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{PATIENT, config, failed, get, routes, timed};
use crate::support::Project;
use crate::support::upstream::{Step, Upstream};

/// How many requests are under way, how many were at most, and how many there were.
#[derive(Default)]
struct Counts {
    now: AtomicUsize,
    most: AtomicUsize,
    all: AtomicUsize,
}

/// Takes a moment for each request, and counts.
fn counting() -> (String, Arc<Counts>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let counts = Arc::new(Counts::default());
    let counted = Arc::clone(&counts);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let counts = Arc::clone(&counted);
            std::thread::spawn(move || {
                let mut stream = BufReader::new(stream);
                let mut line = String::new();
                while stream.read_line(&mut line).is_ok_and(|read| read > 0) {
                    if line == "\r\n" {
                        counts.all.fetch_add(1, Ordering::SeqCst);
                        let now = counts.now.fetch_add(1, Ordering::SeqCst) + 1;
                        counts.most.fetch_max(now, Ordering::SeqCst);
                        // As long as a call takes, so that those under way meet.
                        std::thread::sleep(Duration::from_millis(5));
                        counts.now.fetch_sub(1, Ordering::SeqCst);
                        _ = stream
                            .get_mut()
                            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1");
                    }
                    line.clear();
                }
            });
        }
    });
    (url, counts)
}

#[test]
fn v20_a_thousand_calls_are_made_as_many_at_once_as_config_says() {
    let (url, counts) = counting();
    // Unoptimised, and beside other tests, the shipped CPU budget is soon used up.
    let more = format!("{PATIENT}\nconcurrency = 64\n[scripts]\ncpu_budget = \"30s\"");
    let script = "get(\"/many\", #{ auth: \"none\" }, |req| {
        let list = [];
        list.pad(50, 0);
        parallel(list, |n| x.get(\"/\"), #{ limit: 50 }).len()
    });";
    let project = Project::with_config(&config(2, "development", &[("x", &url, &more)]), script);
    let rhaiway = project.start();
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..20).map(|_| scope.spawn(|| rhaiway.get("/many"))).collect();
        for call in calls {
            let answer = call.join().unwrap();
            assert_eq!((answer.status, answer.text()), (200, "50"));
        }
    });
    assert_eq!(counts.all.load(Ordering::SeqCst), 1_000);
    let most = counts.most.load(Ordering::SeqCst);
    assert!((33..=64).contains(&most), "{most} at once, over two workers");
}

#[test]
fn v20_waiting_for_a_place_ends_at_the_call_s_time_out() {
    let upstream = Upstream::always(vec![Step::Read, Step::Hang]);
    let more = format!("{PATIENT}\nconcurrency = 1\ntimeout = \"3s\"");
    let soon = "get(\"/soon\", #{ auth: \"none\" }, |req| x.get(\"/\", #{ timeout: \"200ms\" }));";
    let script = format!("{}{soon}", routes(&["x"]));
    let project =
        Project::with_config(&config(1, "development", &[("x", &upstream.url(), &more)]), &script);
    let rhaiway = project.start();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| get(&rhaiway, "/x/get"));
        crate::support::eventually("it is under way", || {
            (!upstream.requests().is_empty()).then_some(())
        });
        let (answer, took) = timed(|| rhaiway.get("/soon"));
        assert_eq!(answer.status, 503);
        assert!((200..2_000).contains(&took.as_millis()), "{took:?}");
        rhaiway.wait_for_log("no place came free in time (`concurrency`)");
        failed(&first.join().unwrap(), "TIMEOUT", "it did not answer within 3s");
    });
    assert_eq!(upstream.requests().len(), 1);
}
