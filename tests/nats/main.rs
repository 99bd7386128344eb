//! Forwarders into real servers of NATS: each frame once, in order, whatever is killed or cut.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

mod line;
mod server;
mod trouble;

use std::path::Path;
use std::process::{Child, Command};

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use serde_json::Value;

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
fn batches_reach_a_consumer_in_python_that_is_killed() {
    let Some(python) = python() else { return };
    let server = Server::start(&python, &[]);
    create(&server.url(), |_| {});
    let mut daemon = Daemon::start(&config(&server.url(), "message = \"batch\""));
    let out = daemon.home().join("frames.txt");
    let mut consumer = consume(&python, &server.url(), &out);
    for _ in 0..2 {
        let before = lines(&out).len();
        send(&daemon, 500);
        wait_until("frames at the consumer", || {
            if lines(&out).len() > before { Ok(()) } else { Err("none".to_owned()) }
        });
        drop(consumer);
        consumer = consume(&python, &server.url(), &out);
    }
    let frames = archived(&daemon.archive_dir());
    wait_until("all frames at the consumer", || {
        let found = lines(&out).len();
        if found >= frames.len() { Ok(()) } else { Err(format!("{found} of {}", frames.len())) }
    });
    drop(consumer);
    let mut found: Vec<(u64, String)> = lines(&out)
        .iter()
        .map(|line| {
            let fields: Vec<_> = line.split(' ').collect();
            (fields[3].parse().unwrap(), fields[5].to_owned())
        })
        .collect();
    found.sort();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let expected: Vec<_> = frames.iter().map(|frame| (frame.offset, hex(&frame.payload))).collect();
    assert!(found == expected, "{} lines for {} frames", found.len(), expected.len());
    let messages = stored(&server.url());
    assert!(messages.len() < frames.len() / 4, "{} messages", messages.len());
    assert_eq!(messages.iter().map(|message| message.frames).sum::<u64>(), frames.len() as u64);
    daemon.stop();
}

/// A process that ends with this value.
struct Consumer(Child);

impl Drop for Consumer {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn consume(python: &Python, url: &str, out: &Path) -> Consumer {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/examples/nats/consumer.py");
    let mut command: Command = python.tool("python");
    Consumer(command.arg(script).args([url, STREAM]).arg(out).spawn().unwrap())
}

fn lines(out: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(out).unwrap_or_default();
    text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(str::to_owned).collect()
}
