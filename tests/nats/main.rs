//! Forwarders into real servers of NATS: each frame once, in order, whatever is killed or cut.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

mod cluster;
#[allow(dead_code, reason = "main is for the example")]
#[path = "../../crates/jetstream/examples/consumer.rs"]
mod consumer;
mod line;
mod server;
mod sight;
mod trouble;

use std::path::Path;
use std::process::{Child, Command};
use std::thread::JoinHandle;

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use serde_json::Value;
use tokio::sync::oneshot;

use line::Line;
use server::{STREAM, Server, Stored, count, create, stored};
use support::http::wait_json;
use support::python::Python;
use support::{Archived, Client, Daemon, EMERGENCY, Hello, ROUTINE, archived, not_tested, wait_until};

/// An output into [`STREAM`] at `url`, with `more` keys.
pub fn config(url: &str, more: &str) -> String {
    format!("[[outputs]]\nname = \"bus\"\nnats = \"{url}\"\nstream = \"{STREAM}\"\n{more}\n")
}

/// The program, or a line that it is missing.
pub fn python() -> Option<Python> {
    Python::with("nats").inspect_err(|missing| not_tested(format_args!("NATS: {missing}"))).ok()
}

/// Sends frames with random payloads, which are durable when this returns: `routine` routine ones, and then an
/// emergency.
pub fn send(daemon: &Daemon, routine: u64) {
    let (mut client, welcome) = Client::open(daemon.address(), &Hello::new(7).station("KIRUNA"));
    let [emergency, first] = [EMERGENCY, ROUTINE].map(|lane| welcome.resume_next[lane]);
    let mut random = StdRng::seed_from_u64(first);
    for sequence in first..first + routine {
        let mut payload = vec![0; random.random_range(1..4 << 10)];
        random.fill_bytes(&mut payload);
        client.frame_within_credit(ROUTINE, sequence, &payload);
    }
    client.wait_durable(ROUTINE, first + routine);
    client.frame_within_credit(EMERGENCY, emergency, format!("abort {emergency}").as_bytes());
    client.wait_durable(EMERGENCY, emergency + 1);
    client.bye([emergency + 1, first + routine]);
}

/// Waits until the cursor of the output stands behind `frames` frames.
fn wait_forwarded(daemon: &Daemon, frames: u64) {
    wait_json(daemon.http(), "/api/v1/outputs", |outputs| output(outputs)["cursor"] == frames);
}

/// The only output of an answer.
pub fn output(outputs: &Value) -> &Value {
    let list = if outputs.is_array() { outputs } else { &outputs["outputs"] };
    &list[0]
}

/// Asserts that the stream holds each frame of the archive once, in the order of each lane.
fn assert_each_once(messages: &[Stored], frames: &[Archived]) {
    for (lane, name) in [(EMERGENCY, "emergency"), (ROUTINE, "routine")] {
        let expected: Vec<_> = frames
            .iter()
            .filter(|frame| frame.lane == lane)
            .map(|frame| (frame.offset, &frame.payload))
            .collect();
        let found: Vec<_> = messages
            .iter()
            .filter(|message| message.lane == name)
            .map(|message| (message.offset, &message.body))
            .collect();
        let differs = expected.iter().zip(&found).position(|(one, other)| one != other);
        assert!(
            differs.is_none() && expected.len() == found.len(),
            "{name}: {} in the archive, {} in the stream, the first that differs is {differs:?}",
            expected.len(),
            found.len()
        );
    }
}

#[test]
fn each_frame_is_in_the_stream_once_after_kills_of_both_sides_and_cuts() {
    let Some(python) = python() else { return };
    let mut server = Server::start(&python, &[]);
    let line = Line::to(server.address());
    create(&server.url(), |_| {});
    let mut daemon = Daemon::start(&config(&line.url(), ""));
    for round in 0..4 {
        let before = count(&server.url());
        send(&daemon, 400);
        // Something is on its way.
        wait_until(
            "messages",
            || if count(&server.url()) > before { Ok(()) } else { Err("none".to_owned()) },
        );
        match round % 4 {
            0 => line.cut(),
            1 => daemon = daemon.kill_and_restart(),
            2 => {
                server.kill();
                send(&daemon, 100);
                server.go_on();
            }
            _ => {
                daemon.stop();
                daemon = daemon.restart();
            }
        }
    }
    let frames = archived(&daemon.archive_dir());
    wait_forwarded(&daemon, frames.len() as u64);
    let messages = stored(&server.url());
    assert_each_once(&messages, &frames);

    let (message, frame) = (&messages[0], &frames[messages[0].offset as usize]);
    let header = |name: &str| message.header.get(name).map_or("", |value| value.as_str());
    assert!(message.subject.ends_with(".live.7.routine"), "{}", message.subject);
    assert_eq!(header("Telemetry-Source"), "7");
    assert_eq!(header("Telemetry-Station"), "KIRUNA");
    assert_eq!(header("Telemetry-Kind"), "live");
    assert_eq!(header("Telemetry-Epoch"), frame.epoch.to_string());
    assert_eq!(header("Telemetry-Sequence"), frame.sequence.to_string());
    assert_eq!(header("Telemetry-Received"), frame.received_ns.to_string());
    assert_eq!(header("Nats-Msg-Id"), format!("{}-{}", header("Telemetry-Log"), message.offset));
    daemon.stop();
}

#[test]
fn emergencies_pass_a_backlog() {
    let Some(python) = python() else { return };
    let mut server = Server::away(&python, &["-js"]);
    let mut daemon = Daemon::start(&config(&server.url(), ""));
    send(&daemon, 3_000);
    server.go_on();
    wait_forwarded(&daemon, 3_001);
    let messages = stored(&server.url());
    let place = messages.iter().position(|message| message.lane == "emergency").unwrap();
    assert!(place < 1_500, "the emergency is behind {place} of 3,000 older frames");
    assert_each_once(&messages, &archived(&daemon.archive_dir()));
    daemon.stop();
}

#[test]
fn batches_reach_consumers_that_are_killed() {
    let Some((messages, frames)) = reach_consumers("batch") else { return };
    assert!(messages.len() < frames.len() / 4, "{} messages", messages.len());
    assert_eq!(messages.iter().map(|message| message.frames).sum::<u64>(), frames.len() as u64);
}

#[test]
fn frames_reach_consumers_that_are_killed() {
    let Some((messages, frames)) = reach_consumers("frame") else { return };
    assert_eq!(messages.len(), frames.len());
}

/// Forwards frames in messages of this form to the examples of consumers, which are killed on the way. Asserts that each
/// writes each frame once. Returns what the stream and the archive have.
fn reach_consumers(form: &str) -> Option<(Vec<Stored>, Vec<Archived>)> {
    let python = python()?;
    let server = Server::start(&python, &[]);
    create(&server.url(), |_| {});
    let mut daemon = Daemon::start(&config(&server.url(), &format!("message = \"{form}\"")));
    let outs = ["python.txt", "rust.txt"].map(|name| daemon.home().join(name));
    let start = || (Consumer::start(&python, &server.url(), &outs[0]), Task::start(server.url(), &outs[1]));
    let mut consumers = start();
    for _ in 0..2 {
        let before = outs.each_ref().map(|out| lines(out).len());
        send(&daemon, 500);
        for (out, before) in outs.iter().zip(before) {
            wait_until("frames at the consumer", || {
                if lines(out).len() > before { Ok(()) } else { Err("none".to_owned()) }
            });
        }
        drop(consumers);
        consumers = start();
    }
    let frames = archived(&daemon.archive_dir());
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let expected: Vec<_> = frames.iter().map(|frame| (frame.offset, hex(&frame.payload))).collect();
    for out in &outs {
        wait_until("all frames at the consumer", || match lines(out).len() {
            found if found >= frames.len() => Ok(()),
            found => Err(format!("{found} of {}", frames.len())),
        });
    }
    drop(consumers);
    for out in &outs {
        let parse = |line: &String| {
            let fields: Vec<_> = line.split(' ').collect();
            (fields[3].parse::<u64>().unwrap(), fields[5].to_owned())
        };
        let mut found: Vec<_> = lines(out).iter().map(parse).collect();
        found.sort();
        assert!(found == expected, "{}: {} lines for {} frames", out.display(), found.len(), expected.len());
    }
    daemon.stop();
    Some((stored(&server.url()), frames))
}

/// The example in Python. It ends with this value.
struct Consumer(Child);

impl Consumer {
    fn start(python: &Python, url: &str, out: &Path) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/examples/nats/consumer.py");
        let mut command: Command = python.tool("python");
        Self(command.arg(script).args([url, STREAM]).arg(out).spawn().unwrap())
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The example in Rust. It is dropped at any of its waits with this value.
struct Task(Option<(oneshot::Sender<()>, JoinHandle<()>)>);

impl Task {
    fn start(url: String, out: &Path) -> Self {
        let (out, (end_tx, end)) = (out.to_owned(), oneshot::channel());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    ran = consumer::run(&url, STREAM, &out) => panic!("the consumer ended: {ran:?}"),
                    _ = end => {}
                }
            });
        });
        Self(Some((end_tx, thread)))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let Some((end, thread)) = self.0.take() else { return };
        // It may have ended.
        let _ = end.send(());
        if !std::thread::panicking() {
            thread.join().unwrap();
        }
    }
}

fn lines(out: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(out).unwrap_or_default();
    text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(str::to_owned).collect()
}
