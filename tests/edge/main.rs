//! From a daemon at the edge to a daemon at the centre: the same frames, each once, whatever happens to the line and to both.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

mod example;
mod line;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use serde_json::Value;

use line::{Line, Way};
use support::http::{get_json, wait_json};
use support::message::{Frame, cost};
use support::{Archived, Client, Daemon, EMERGENCY, Hello, ROUTINE, wait_until};

/// An output to the aggregator at `to`, with `more` keys.
fn config(to: SocketAddr, more: &str) -> String {
    format!("[[outputs]]\nname = \"centre\"\naggregator = \"{to}\"\nvia = \"SVALBARD-1\"\n{more}\n")
}

/// A source, and where it goes on.
struct Source {
    hello: Hello,
    next: [u64; 2],
    random: StdRng,
}

impl Source {
    fn new(hello: Hello) -> Self {
        let random = StdRng::seed_from_u64(u64::from(hello.source_id) << 32 | hello.epoch);
        Self { hello, next: [0; 2], random }
    }

    /// The sender restarts, and counts from 0 again.
    fn reboot(&mut self) {
        if self.hello.epoch > 0 {
            self.hello.epoch += 1;
        }
        self.next = [0; 2];
    }

    /// Sends `routine` frames and an emergency to the edge. They are durable when this returns.
    fn send(&mut self, edge: &Daemon, routine: u64) {
        let (mut client, welcome) = Client::open(edge.address(), &self.hello);
        if self.hello.epoch == 0 {
            self.next = [0; 2];
        } else {
            assert_eq!(welcome.resume_next, self.next, "{:?}", self.hello.source_id);
        }
        for _ in 0..routine {
            let mut payload = vec![0; self.random.random_range(1..1_500)];
            self.random.fill_bytes(&mut payload);
            // Some sequences never were.
            self.next[ROUTINE] += u64::from(self.random.random_bool(0.05));
            let mut frame = Frame::new(ROUTINE, self.next[ROUTINE], &payload);
            // Discontinuity and bad quality go on as they came.
            frame.flags = self.random.random_range(0..4);
            frame.ert_ns = self.random.random_range(0..2_000_000_000_000_000_000);
            client.wait_credit(ROUTINE, client.spent(ROUTINE) + cost(frame.body().len()));
            client.send_frame(&frame);
            self.next[ROUTINE] += 1;
        }
        let text = format!("abort {} {:?}", self.hello.source_id, self.next);
        client.frame_within_credit(EMERGENCY, self.next[EMERGENCY], text.as_bytes());
        self.next[EMERGENCY] += 1;
        client.wait_durable(EMERGENCY, self.next[EMERGENCY]);
        if routine > 0 {
            client.wait_durable(ROUTINE, self.next[ROUTINE]);
        }
        client.bye(self.next);
    }
}

fn sources() -> Vec<Source> {
    let named = (1..4).map(|id| Hello::new(id).station("SVALBARD").epoch(u64::from(id) * 7));
    let others = [
        Hello::new(4).epoch(0),
        Hello::new(5).kind(1).epoch(1_760_000_000_000),
        Hello::new(1).station("KIRUNA"),
    ];
    named.chain(others).map(Source::new).collect()
}

/// What is the same at the edge and at the centre: the stream and lane, and each frame.
type Lanes = BTreeMap<(u32, u8, String, usize, u64), Vec<(u64, u8, i64, Vec<u8>)>>;

/// The frames of each stream, lane and epoch, in the order of the log. An epoch of the edge alone has another name at the centre.
fn lanes(frames: &[Archived]) -> Lanes {
    let mut lanes = Lanes::new();
    for frame in frames {
        let Archived { source_id, kind, lane, flags, sequence, ert_ns, .. } = *frame;
        let epoch = frame.epoch & !(1 << 63);
        let of_lane = lanes.entry((source_id, kind, frame.station.clone(), lane, epoch)).or_default();
        of_lane.push((sequence, flags, ert_ns, frame.payload.clone()));
    }
    lanes
}

/// Waits until the centre has everything, and compares.
fn assert_same(edge: &Daemon, centre: &Daemon) {
    let frames = edge.archived();
    wait_forwarded(edge, frames.len() as u64);
    let (expected, found) = (lanes(&frames), lanes(&centre.archived()));
    let names =
        |lanes: &Lanes| lanes.iter().map(|(key, frames)| (key.clone(), frames.len())).collect::<Vec<_>>();
    assert_eq!(names(&expected), names(&found), "the frames of each lane");
    assert!(expected == found, "the frames differ");
}

/// Waits until the cursor of the output stands behind `frames` frames.
fn wait_forwarded(edge: &Daemon, frames: u64) {
    support::wait::wait_within(Duration::from_secs(120), "the cursor", || {
        let output = output(edge);
        if output["cursor"] == frames { Ok(()) } else { Err(format!("{frames} frames, {output}")) }
    });
}

fn output(edge: &Daemon) -> Value {
    let outputs = get_json(edge.http(), "/api/v1/outputs");
    let list = if outputs.is_array() { &outputs } else { &outputs["outputs"] };
    list[0].clone()
}

#[test]
fn the_centre_has_the_frames_of_the_edge_once_after_cuts_stalls_outages_and_kills_of_both() {
    let mut centre = Daemon::start("");
    let line = Line::new(centre.address(), Duration::from_millis(20), 2_000_000, Way::Up);
    let mut edge = Daemon::start(&config(line.address(), "connections = 4"));
    let mut sources = sources();
    for round in 0..10 {
        for source in &mut sources {
            source.send(&edge, 60);
        }
        match round % 6 {
            0 => line.cut(),
            1 => edge = edge.kill_and_restart(),
            2 => {
                line.cut();
                centre = centre.kill_and_restart();
                line.lead_to(centre.address());
            }
            3 => {
                line.set(Way::Stalled);
                sources.iter_mut().for_each(Source::reboot);
                sources[0].send(&edge, 200);
                line.cut();
                line.set(Way::Up);
            }
            4 => {
                line.set(Way::Down);
                edge.stop();
                edge = edge.restart();
                sources.iter_mut().for_each(|source| source.send(&edge, 30));
                sources.iter_mut().for_each(Source::reboot);
                sources.iter_mut().for_each(|source| source.send(&edge, 30));
                line.set(Way::Up);
            }
            _ => {
                edge.stop();
                edge = edge.restart();
            }
        }
    }
    assert_same(&edge, &centre);
    edge.stop();
    centre.stop();
}

#[test]
fn emergencies_pass_a_backlog_also_those_of_a_later_epoch() {
    let mut centre = Daemon::start("");
    // 600 ms there and back, 2 Mbit/s.
    let line = Line::new(centre.address(), Duration::from_millis(300), 250_000, Way::Down);
    let mut edge = Daemon::start(&config(line.address(), ""));
    let mut sources: Vec<_> = (1..6).map(|id| Source::new(Hello::new(id).station("SVALBARD"))).collect();
    sources.iter_mut().for_each(|source| source.send(&edge, 300));
    sources[0].reboot();
    sources[0].send(&edge, 0);
    let emergencies = 6;
    line.set(Way::Up);
    let began = Instant::now();
    let lane_of = |lane: usize| {
        let frames = centre.archived();
        frames.iter().filter(|frame| frame.lane == lane).count()
    };
    wait_until("the emergencies", || {
        let found = lane_of(EMERGENCY);
        if found == emergencies { Ok(()) } else { Err(format!("{found}")) }
    });
    println!(
        "{emergencies} emergencies after {:?}, {} routine frames before",
        began.elapsed(),
        lane_of(ROUTINE)
    );
    assert_same(&edge, &centre);
    let frames = centre.archived();
    let last = frames.iter().rposition(|frame| frame.lane == EMERGENCY).unwrap();
    let ahead = frames[..last].iter().filter(|frame| frame.lane == ROUTINE).count();
    // Frames that are under way already go on: at most a window of them.
    assert!(ahead < 500, "{ahead} of 1500 routine frames came before the last emergency");
    println!("everything after {:?}, {} bytes on the line", began.elapsed(), line.up_bytes());
    edge.stop();
    centre.stop();
}

#[test]
fn the_centre_shows_the_forwarder_and_the_edge_the_state_of_the_line() {
    let mut centre = Daemon::start("");
    let line = Line::new(centre.address(), Duration::ZERO, 10_000_000, Way::Up);
    let mut edge = Daemon::start(&config(line.address(), ""));
    let mut source = Source::new(Hello::new(7).station("SVALBARD"));
    source.send(&edge, 10);
    wait_forwarded(&edge, 11);
    wait_json(centre.http(), "/api/v1/sources", |sources| sources["sources"][0]["via"] == "SVALBARD-1");
    assert_eq!(output(&edge)["state"], "connected");
    line.set(Way::Down);
    source.send(&edge, 10);
    wait_json(edge.http(), "/api/v1/outputs", |_| {
        let output = output(&edge);
        output["state"] == "connecting"
            && output["trouble"].as_str().is_some_and(|text| text.contains("live/7@SVALBARD"))
    });
    // The emergency may have come later and have the lower offset.
    let oldest_ns = edge.archived()[11..].iter().map(|frame| frame.received_ns).min().unwrap();
    wait_json(edge.http(), "/api/v1/outputs", |_| {
        let forwarding = output(&edge)["forwarding"].clone();
        forwarding["lag_frames"] == 11 && forwarding["oldest_ms"] == oldest_ns / 1_000_000
    });
    line.set(Way::Up);
    assert_same(&edge, &centre);
    assert_eq!(output(&edge)["trouble"], Value::Null);
    wait_json(edge.http(), "/api/v1/outputs", |_| output(&edge)["forwarding"]["lag_ms"] == 0);
    edge.stop();
    centre.stop();
}

#[test]
fn a_refusal_is_named_with_its_way_out() {
    let token = "a-token-of-sixteen-characters";
    let tokens = format!("[[ingest.tokens]]\ntoken = \"{token}\"\nsources = [7]\n");
    let mut centre = Daemon::start(&tokens);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "another-token-of-the-same-kind").unwrap();
    let keys = format!("token_file = \"{}\"", file.display());
    let mut edge = Daemon::start(&config(centre.address(), &keys));
    let wait_trouble = |edge: &Daemon, text: &str| {
        wait_until(text, || {
            let output = output(edge);
            let is_there = output["trouble"].as_str().is_some_and(|trouble| trouble.contains(text));
            if is_there { Ok(()) } else { Err(output.to_string()) }
        });
    };
    let mut named = Source::new(Hello::new(7));
    named.send(&edge, 5);
    wait_trouble(&edge, "check token_file");
    std::fs::write(&file, token).unwrap();
    edge.hang_up();
    wait_forwarded(&edge, 6);
    Source::new(Hello::new(8)).send(&edge, 5);
    wait_trouble(&edge, "leave the source out with select");
    named.send(&edge, 5);
    wait_until("the frames that are allowed", || {
        let found = centre.archived().len();
        if found == 12 { Ok(()) } else { Err(found.to_string()) }
    });
    edge.stop();
    centre.stop();
}
