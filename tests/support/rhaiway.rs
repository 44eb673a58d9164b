//! A project in a temporary folder, and the real binary running in it. What runs is killed when its test ends; a project outlives it, so that a test
//! can kill and start again.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use super::http::{Response, request};
use super::{SECRET, Signed, eventually, no_canary_below, no_secret};

/// What a project starts with; a test replaces what it is about.
const CONFIG: &str = r#"
[server]
listen = "127.0.0.1:0"
workers = 2

[webhooks.clerk]
path = "/api/webhooks/clerk"
scheme = "svix"
secret_env = "CLERK_WEBHOOK_SECRET"
"#;

/// A folder with config.toml and scripts/.
pub(crate) struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    /// With the small config above and one script, `scripts/main.rhai`.
    pub(crate) fn new(script: &str) -> Self {
        Self::with_config(CONFIG, script)
    }

    /// The small config with lines added at its end, so in `[webhooks.clerk]` until they open another table.
    pub(crate) fn with_more(more: &str, script: &str) -> Self {
        Self::with_config(&format!("{CONFIG}{more}\n"), script)
    }

    pub(crate) fn with_config(config: &str, script: &str) -> Self {
        let project = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        project.write("config.toml", config);
        project.write("scripts/main.rhai", script);
        project
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Writes a file and the folders above it.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.at(name);
        fs::create_dir_all(path.parent().expect("it is below the folder")).expect("its folder");
        fs::write(path, text).expect("the file");
    }

    /// A command of the real binary, in this folder, with the secret set.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rhaiway"));
        command.args(arguments).current_dir(self.path()).stdin(Stdio::null());
        command.env_remove("RUST_LOG").env("CLERK_WEBHOOK_SECRET", SECRET);
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let output = self.command(arguments).output().expect("the binary runs");
        no_secret("stdout", &output.stdout);
        no_secret("stderr", &output.stderr);
        output
    }

    /// Starts `rhaiway run` and waits until it is ready.
    pub(crate) fn start(&self) -> Rhaiway {
        self.start_as(self.command(&["run"]))
    }

    /// The same with a command of the test's own making.
    pub(crate) fn start_as(&self, command: Command) -> Rhaiway {
        let mut started = Rhaiway::spawn(command);
        started.wait_until_ready();
        started
    }
}

/// Where it serves, if this line of its log says so.
fn address(line: &str) -> Option<SocketAddr> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    line["address"].as_str()?.parse().ok()
}

/// A running instance.
pub(crate) struct Rhaiway {
    child: Child,
    address: Option<SocketAddr>,
    log: Arc<Mutex<Vec<String>>>,
}

impl Rhaiway {
    /// Starts it, and waits for nothing.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let lines = BufReader::new(child.stderr.take().expect("it is piped"));
        let log = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                kept.lock().unwrap().push(line);
            }
        });
        Self { child, address: None, log }
    }

    /// Starts it and waits until it is ready; `None` where it ends before, as one that is to be killed may.
    pub(crate) fn try_start(command: Command) -> Option<Self> {
        let mut started = Self::spawn(command);
        let is_serving = eventually("it serves or ends", || {
            if started.child.try_wait().expect("its state is known").is_some() {
                return Some(false);
            }
            started.log().iter().any(|line| line.contains("\"address\"")).then_some(true)
        });
        if !is_serving {
            return None;
        }
        started.address = started.log().iter().find_map(|line| address(line));
        Some(started)
    }

    fn wait_until_ready(&mut self) {
        let address = eventually("it says where it serves", || {
            let ended = self.child.try_wait().expect("its state is known");
            assert!(ended.is_none(), "it ended ({ended:?}):\n{}", self.log().join("\n"));
            self.log().iter().find_map(|line| address(line))
        });
        self.address = Some(address);
        eventually("it is ready", || (self.get("/readyz").status == 200).then_some(()));
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address.expect("it was waited for")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("its state is known").is_some()
    }

    /// The lines of its log so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Waits for a line of the log that holds `part`.
    pub(crate) fn wait_for_log(&self, part: &str) -> String {
        eventually(&format!("a log line with {part:?}"), || {
            self.log().into_iter().find(|line| line.contains(part))
        })
    }

    pub(crate) fn get(&self, path: &str) -> Response {
        request(self.address(), "GET", path, &[], b"")
    }

    pub(crate) fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        request(self.address(), "POST", path, headers, body)
    }

    /// Delivers to the webhook of every test's config.
    pub(crate) fn deliver(&self, delivery: &Signed) -> Response {
        self.post("/api/webhooks/clerk", &delivery.headers(), &delivery.body)
    }

    /// kill -9, and waits until it is gone.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    /// Sends a signal by its name, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits for the end; its exit code.
    pub(crate) fn wait(mut self) -> Option<i32> {
        eventually("it ends", || self.child.try_wait().expect("its state is known")).code()
    }

    /// SIGTERM, and waits for a good end.
    pub(crate) fn stop(self) {
        self.signal("TERM");
        assert_eq!(self.wait(), Some(0));
    }
}

impl Drop for Rhaiway {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
        no_secret("the log", self.log().join("\n").as_bytes());
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        no_canary_below(&self.at("data"), SECRET);
    }
}

impl Project {
    /// Removes a file or a folder with all that is in it.
    pub(crate) fn remove(&self, name: &str) {
        let path = self.at(name);
        let removed =
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.expect("it was there");
    }

    /// Runs a command that has to end with this exit code; its stdout and stderr.
    pub(crate) fn expect(&self, code: i32, arguments: &[&str]) -> (String, String) {
        let Output { status, stdout, stderr } = self.run(arguments);
        let (stdout, stderr) =
            (String::from_utf8(stdout).expect("text"), String::from_utf8(stderr).expect("text"));
        assert_eq!(status.code(), Some(code), "{arguments:?}\n{stdout}\n{stderr}");
        (stdout, stderr)
    }
}

impl Rhaiway {
    /// The number of the generation that serves, as `/v1/status` on the admin socket says it.
    pub(crate) fn generation(&self, project: &Project) -> u64 {
        self.status(project)["generation"].as_u64().expect("a number")
    }

    /// The whole of `/v1/status`.
    pub(crate) fn status(&self, project: &Project) -> serde_json::Value {
        let response = super::admin(project, "/v1/status");
        assert_eq!(response.status, 200);
        response.json()
    }

    /// How many lines of the log hold `part`.
    pub(crate) fn count_log(&self, part: &str) -> usize {
        self.log().iter().filter(|line| line.contains(part)).count()
    }
}
