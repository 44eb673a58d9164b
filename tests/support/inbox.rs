//! Looking into the inbox: through the admin socket while an instance runs, through `rhaiway events` as an operator would.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use serde_json::Value;

use super::{Project, eventually};

impl Project {
    /// What the admin API answers to a GET, as JSON.
    pub(crate) fn admin(&self, path: &str) -> Value {
        let mut stream = UnixStream::connect(self.at("data/rhaiway.sock")).expect("the socket");
        write!(stream, "GET {path} HTTP/1.1\r\nhost: rhaiway\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("it answers");
        let answer = String::from_utf8(answer).expect("it is text");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        serde_json::from_str(body).unwrap_or_else(|error| panic!("no JSON ({error}): {answer}"))
    }

    /// Events of the running instance, newest first: 1,000 at least where there are so many. A list stops after a while, and says how it goes on.
    pub(crate) fn stored(&self) -> Vec<Value> {
        let mut events = Vec::new();
        let mut path = "/v1/events?limit=1000".to_owned();
        loop {
            let answer = super::admin(self, &path);
            let page: Vec<Value> = serde_json::from_slice(&answer.body).expect("a list");
            events.extend(page);
            match answer.header("rhaiway-next") {
                Some(next) if events.len() < 1_000 => {
                    path = format!("/v1/events?limit=1000&after={next}");
                }
                _ => return events,
            }
        }
    }

    /// Each delivery's state.
    pub(crate) fn states(&self) -> BTreeMap<String, String> {
        let state = |event: &Value| (text(&event["delivery_id"]), text(&event["state"]));
        self.stored().iter().map(state).collect()
    }

    /// The event of a delivery with its jobs and attempts; it must be there.
    pub(crate) fn event_of(&self, delivery_id: &str) -> Value {
        let stored = self.stored();
        let found = stored.iter().find(|event| event["delivery_id"] == delivery_id);
        let found = found.unwrap_or_else(|| panic!("{delivery_id} is not in {stored:?}"));
        self.admin(&format!("/v1/events/{}", text(&found["id"])))
    }

    /// Waits until the delivery's event stands so, and gives it.
    pub(crate) fn wait_for_state(&self, delivery_id: &str, state: &str) -> Value {
        eventually(&format!("{delivery_id} is {state}"), || {
            let at_it = self.states().get(delivery_id).is_some_and(|now| now == state);
            at_it.then(|| self.event_of(delivery_id))
        })
    }

    /// `rhaiway events … --json`, a value a line.
    pub(crate) fn events(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.run(&[&["events", "--json"], arguments].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let lines = String::from_utf8(output.stdout).expect("it prints text");
        lines.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
