//! Yamcs as a child process.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::http::{get_json, request};
use crate::support::lines::Lines;
use crate::support::python::Python;
use crate::support::{not_tested, wait_until};

/// Longest time for a start of Yamcs, and for the 10 s after which a link connects again.
const SLOW: Duration = Duration::from_secs(120);
/// The most packets in an answer of Yamcs.
const PAGE: usize = 1_000;

/// The jars of Yamcs. They stay below `target` across runs.
pub struct Jars {
    directory: PathBuf,
    pub python: Python,
}

impl Jars {
    /// Installs the jars from PyPI. Reports it if they or Java are missing.
    pub fn find() -> Option<Self> {
        let python =
            Python::with("yamcs").map_err(|missing| not_tested(format_args!("Yamcs: {missing}"))).ok()?;
        let print = "import fprime_yamcs_bundle; print(fprime_yamcs_bundle.LIB_DIR, end='')";
        let printed = python.tool("python").args(["-c", print]).output().expect("Python runs");
        let directory = PathBuf::from(String::from_utf8(printed.stdout).expect("a path"));
        let jars = Self { directory, python };
        match jars.java().arg("--version").output() {
            Ok(ran) if ran.status.success() => Some(jars),
            Ok(ran) => {
                not_tested(format_args!("Yamcs, Java fails: {}", String::from_utf8_lossy(&ran.stderr)));
                None
            }
            Err(error) => {
                not_tested(format_args!("Yamcs, java cannot be started: {error}"));
                None
            }
        }
    }

    /// Yamcs without arguments, tuned for a fast start.
    fn java(&self) -> Command {
        let mut command = Command::new("java");
        command.args(["-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"]);
        command.arg(self.directory.join("*")).arg("org.yamcs.YamcsServer");
        command
    }
}

/// A running Yamcs. Dropping it kills the process, and shows its log if the test failed.
pub struct Yamcs {
    child: Child,
    log: Lines,
    http: SocketAddr,
}

/// A packet in the archive of Yamcs.
#[derive(Clone, Debug)]
pub struct Packet {
    /// The generation time.
    pub time: String,
    pub bytes: Vec<u8>,
}

impl Yamcs {
    /// Starts Yamcs in `directory`, which has `etc` and `mdb`. Its HTTP server must be configured for `http`.
    ///
    /// Returns when Yamcs is ready.
    pub fn start(jars: &Jars, directory: &Path, http: SocketAddr) -> Self {
        let (output, input) = std::io::pipe().expect("a pipe");
        let mut command = jars.java();
        command.args(["--no-color", "--no-stream-redirect", "--etc-dir", "etc", "--data-dir", "yamcs-data"]);
        command.current_dir(directory).stdin(Stdio::null());
        command.stdout(input.try_clone().expect("a pipe")).stderr(input);
        let child = command.spawn().expect("Yamcs cannot be started");
        // The log ends when the process ends: the command would keep the pipe open.
        drop(command);
        let yamcs = Self { child, log: Lines::read(output), http };
        yamcs.wait_lines("Yamcs started in", 1);
        yamcs
    }

    /// Waits until `count` lines of the log contain `text`.
    #[track_caller]
    pub fn wait_lines(&self, text: &str, count: usize) {
        let found = |lines: &[String]| lines.iter().filter(|line| line.contains(text)).count();
        let what = format!("{count} lines with {text:?} in the log of Yamcs");
        self.log.wait_within(SLOW, &what, |lines| (found(lines) >= count).then_some(()));
    }

    /// What Yamcs reports of a link.
    pub fn link(&self, instance: &str, link: &str) -> Value {
        get_json(self.http, &format!("/api/links/{instance}/{link}"))
    }

    /// Packets that a link has received since the start of Yamcs.
    pub fn received(&self, instance: &str, link: &str) -> u64 {
        let count = &self.link(instance, link)["dataInCount"];
        count.as_str().and_then(|count| count.parse().ok()).expect("a count")
    }

    /// Enables a link, as an operator does.
    pub fn enable(&self, instance: &str, link: &str) {
        self.post(&format!("/api/links/{instance}/{link}:enable"), &json!({}));
    }

    /// The number of archived packets.
    pub fn archived_count(&self, instance: &str) -> usize {
        let query = json!({ "statement": "select count(*) from tm" });
        let answer = self.post(&format!("/api/archive/{instance}:executeSql"), &query);
        let count = answer["rows"][0]["values"][0]["sint64Value"].as_str();
        count.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("no count in {answer:#}"))
    }

    /// Waits until `count` packets are archived. Returns all archived packets, the earliest first.
    #[track_caller]
    pub fn wait_archived(&self, instance: &str, count: usize) -> Vec<Packet> {
        wait_until("packets in the archive of Yamcs", || match self.archived_count(instance) {
            found if found >= count => Ok(()),
            found => Err(format!("{found} of {count} packets in {instance}")),
        });
        let packets = self.archived(instance);
        assert_eq!(packets.len(), count, "packets in {instance}");
        packets
    }

    /// All archived packets, the earliest first.
    pub fn archived(&self, instance: &str) -> Vec<Packet> {
        let (mut packets, mut next) = (Vec::new(), String::new());
        loop {
            let path = format!("/api/archive/{instance}/packets?order=asc&limit={PAGE}{next}");
            let page = get_json(self.http, &path);
            packets.extend(page["packet"].as_array().into_iter().flatten().map(|packet| Packet {
                time: packet["generationTime"].as_str().expect("a time").to_owned(),
                bytes: STANDARD.decode(packet["packet"].as_str().expect("bytes")).expect("base64"),
            }));
            let Some(token) = page["continuationToken"].as_str() else { return packets };
            next = format!("&next={token}");
        }
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        self.log.read_to_end();
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let headers = [("Content-Type", "application/json")];
        let answer = request(self.http, "POST", path, &headers, body.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }
}

impl Drop for Yamcs {
    #[allow(clippy::print_stderr, reason = "the log of a failed test")]
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            for line in self.log.all() {
                eprintln!("yamcs: {line}");
            }
        }
    }
}

/// Asserts that `archived` is `expected` in any order, each packet once.
#[track_caller]
pub fn assert_same(archived: Vec<Packet>, mut expected: Vec<Vec<u8>>) {
    let mut archived: Vec<_> = archived.into_iter().map(|packet| packet.bytes).collect();
    archived.sort_unstable();
    expected.sort_unstable();
    assert!(archived == expected, "{} archived packets differ from {}", archived.len(), expected.len());
}

/// The example of `deploy/examples/yamcs`.
pub fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/examples/yamcs")
}

/// Copies the files below `from` to `to`, with other numbers in place of those of `ports`.
pub fn copy(from: &Path, to: &Path, ports: &BTreeMap<&str, String>) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target, ports);
        } else {
            std::fs::write(target, with_ports(&std::fs::read_to_string(entry.path()).unwrap(), ports))
                .unwrap();
        }
    }
}

/// `text` with other numbers in place of those of `ports`.
fn with_ports(text: &str, ports: &BTreeMap<&str, String>) -> String {
    let words = text.split_inclusive(|next: char| !next.is_ascii_digit());
    let replaced = words.map(|word| {
        let number = word.trim_end_matches(|next: char| !next.is_ascii_digit());
        let rest = &word[number.len()..];
        ports.get(number).map_or(word.to_owned(), |port| format!("{port}{rest}"))
    });
    replaced.collect()
}
