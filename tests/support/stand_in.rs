//! A stand-in for Clerk, Stripe or OpenAI, running as a process of its own: `rhaiway stand-in NAME`.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::http::{Connection, Response, render, request};

/// One that answers; it ends with its test.
pub(crate) struct StandIn {
    child: Child,
    address: SocketAddr,
    /// What `authorization` says.
    key: &'static str,
}

impl StandIn {
    /// Starts one that behaves.
    pub(crate) fn start(name: &str) -> Self {
        Self::start_with(name, &[])
    }

    /// With arguments, such as `--fail 503:2`.
    pub(crate) fn start_with(name: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_rhaiway"))
            .args(["stand-in", name])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("it says where it answers");
        let said: Value = serde_json::from_str(&line).expect("a line of JSON");
        assert_eq!(said["name"], name);
        let url = said["url"].as_str().expect("its URL");
        let address = url.strip_prefix("http://").expect("plain HTTP").parse().expect("an address");
        let key = if name == "openai" { "Bearer sk-of-a-test" } else { "Bearer sk_test_of_a_test" };
        Self { child, address, key }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it answers, for `base_url`; OpenAI's own libraries have `/v1` behind it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Tells it how to misbehave from now on; `{}` is good behaviour.
    pub(crate) fn behave(&self, how: &Value) {
        let said = self.control("POST", "behave", how);
        assert_eq!(said.status, 200, "{}", said.text());
    }

    /// The requests that came, the oldest first.
    pub(crate) fn requests(&self) -> Vec<Value> {
        let said = self.control("GET", "requests", &Value::Null).json();
        said["requests"].as_array().expect("a list").clone()
    }

    /// Has a webhook posted; what the receiver said.
    pub(crate) fn webhook(&self, order: &Value) -> Value {
        let said = self.control("POST", "webhook", order);
        assert_eq!(said.status, 200, "{}", said.text());
        said.json()
    }

    /// One of the paths below `/_stand_in/`.
    pub(crate) fn control(&self, method: &str, path: &str, body: &Value) -> Response {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        request(self.address, method, &format!("/_stand_in/{path}"), &[], body.as_bytes())
    }

    /// A request with a key that it takes, unless the headers have one.
    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response {
        let mut connection = self.begin(method, path, headers, body);
        connection.read_answer_to(method).expect("an answer comes")
    }

    /// A connection on which that request has been sent and no answer been read.
    pub(crate) fn begin(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Connection {
        let mut all = headers.to_vec();
        if !headers.iter().any(|(name, _)| *name == "authorization") {
            all.push(("authorization", self.key));
        }
        let mut connection = Connection::open(self.address);
        connection.send(&render(method, path, &all, body.as_bytes())).expect("it is sent");
        connection
    }

    /// JSON there and back, with a status that has to be.
    pub(crate) fn json(&self, status: u16, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.ask(method, path, &[("content-type", "application/json")], &body);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        answer.json()
    }

    /// A form there and JSON back, with a status that has to be.
    pub(crate) fn form(&self, status: u16, method: &str, path: &str, body: &str) -> Value {
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let answer = self.ask(method, path, &headers, body);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        answer.json()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// A session token of the Clerk stand-in, as the order has it; `{}` is a right one of `user_ada`.
pub(crate) fn token(clerk: &StandIn, order: &Value) -> String {
    let said = clerk.control("POST", "token", order);
    assert_eq!(said.status, 200, "{}", said.text());
    said.json()["token"].as_str().expect("a token").to_owned()
}

/// A checkout session of the Stripe stand-in is paid; the event that says so.
pub(crate) fn pay(stripe: &StandIn, session: &str) -> Value {
    let said = stripe.control("POST", "complete", &json!({ "session": session }));
    assert_eq!(said.status, 200, "{}", said.text());
    said.json()
}
