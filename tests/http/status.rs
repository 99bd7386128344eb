//! What the API reports of frames, sources, rates, the age of the archive and readiness.

use serde_json::{Value, json};

use crate::metrics::samples;
use crate::support::http::{get, get_json, request, wait_json};
use crate::support::message::{VIA, code};
use crate::support::{Client, Daemon, EMERGENCY, Hello, ROUTINE, Signal, wait_until};

#[test]
fn stats_and_sources_report_what_was_sent() {
    let daemon = Daemon::start("");
    let hello = Hello { station: b"KIRUNA".to_vec(), ..Hello::new(7) };
    let (mut client, _) = Client::open(daemon.address(), &hello);
    client.deliver(ROUTINE, 0, b"0123456789");
    client.deliver(ROUTINE, 1, b"0123456789");
    client.deliver(ROUTINE, 5, b"01234");
    client.deliver(EMERGENCY, 6, b"SAFE_MODE\x00\x01");
    let stats = get_json(daemon.http(), "/api/v1/stats");
    let frames = &stats["frames"];
    let settled = ["archived", "not_stored", "duplicates", "rejected", "in_flight"];
    let sum: u64 = settled.iter().map(|name| frames[name].as_u64().unwrap()).sum();
    assert_eq!((frames["received"].as_u64(), sum), (Some(4), 4), "{stats:#}");
    assert_eq!(stats["lanes"]["routine"]["payload_bytes"], 25);
    assert_eq!(stats["archive"]["next_offset"], 4);
    assert_eq!(stats["connections"]["sources"], 1);
    assert_eq!(stats["emergencies"][0]["label"], "SAFE_MODE");
    assert_eq!(stats["emergencies"][0]["station"], "KIRUNA");
    // The frames 2, 3 and 4 are missing.
    assert_eq!(stats["missing"], 3);
    let sources = get_json(daemon.http(), "/api/v1/sources");
    assert_eq!(sources["total"], 1);
    let source = &sources["sources"][0];
    for (name, value) in
        [("source_id", json!(7)), ("station", json!("KIRUNA")), ("state", json!("connected"))]
    {
        assert_eq!(source[name], value, "{source:#}");
    }
    assert_eq!(source["lanes"]["routine"]["accepted_next"], 6);
    assert_eq!(source["lanes"]["routine"]["durable_next"], 6);
    assert!(source["lanes"]["emergency"]["ack_latency_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(source["peer"], client.socket().local_addr().unwrap().to_string());
    client.bye([7, 6]);
    let gone = wait_json(daemon.http(), "/api/v1/sources", |found| found["sources"][0]["state"] == "ended");
    assert_eq!(gone["sources"][0]["session"], Value::Null);
    assert_eq!(get_json(daemon.http(), "/api/v1/sources?state=connected")["total"], 0);
    assert_eq!(get_json(daemon.http(), "/api/v1/sources?state=disconnected")["total"], 1);
    wait_json(daemon.http(), "/api/v1/stats", |found| {
        found["archive"]["disk_free_bytes"].as_u64().unwrap() > 0
    });
}

#[test]
fn a_source_that_another_daemon_forwards_names_it() {
    let daemon = Daemon::start("");
    let hello = Hello { flags: VIA, trailing: b"\x04edge".to_vec(), ..Hello::new(7) };
    let (client, _) = Client::open(daemon.address(), &hello);
    let (_own, _) = Client::open(daemon.address(), &Hello::new(8));
    let sources = get_json(daemon.http(), "/api/v1/sources");
    assert_eq!(
        [&sources["sources"][0]["via"], &sources["sources"][1]["via"]],
        [&json!("edge"), &Value::Null]
    );
    client.bye([0, 0]);
    wait_json(daemon.http(), "/api/v1/sources", |found| found["sources"][0]["via"].is_null());
    for (trailing, why) in
        [(&b"\x05edge"[..], "too short"), (b"\x41", "too short"), (b"\x01\n", "control character")]
    {
        let hello = Hello { flags: VIA, trailing: trailing.to_vec(), ..Hello::new(9) };
        let error = Client::refused(daemon.address(), &hello, code::PROTOCOL);
        assert!(error.text.contains(why), "{}", error.text);
    }
}

/// Sends routine below 100 except 40 to 54, and emergencies 200 to 214.
fn send_with_15_lost(daemon: &Daemon, hello: &Hello) -> Client {
    let (mut client, _) = Client::open(daemon.address(), hello);
    for sequence in (0..100).filter(|at| !(40..55).contains(at)) {
        client.deliver(ROUTINE, sequence, b"routine");
    }
    (200..215).for_each(|sequence| client.deliver(EMERGENCY, sequence, b"emergency"));
    client
}

#[test]
fn missing_frames_are_counted_as_the_client_counts() {
    const SHARED_SEQUENCE: u16 = 4;
    let daemon = Daemon::start("");
    let _apart = send_with_15_lost(&daemon, &Hello::new(1));
    let shared = Hello { flags: SHARED_SEQUENCE, ..Hello::new(2) };
    let mut client = send_with_15_lost(&daemon, &shared);
    let source = |daemon: &Daemon, id| {
        get_json(daemon.http(), &format!("/api/v1/sources?source={id}"))["sources"][0].clone()
    };
    assert_eq!(
        (source(&daemon, 1)["missing"].as_u64(), source(&daemon, 2)["missing"].as_u64()),
        (Some(15), Some(115))
    );
    assert_eq!(get_json(daemon.http(), "/api/v1/stats")["missing"], 130);
    // The number of missing frames falls while routine catches up.
    (100..200).for_each(|sequence| client.deliver(ROUTINE, sequence, b"routine"));
    assert_eq!(source(&daemon, 2)["missing"], 15);
    assert_eq!(source(&daemon, 2)["shared_sequence"], true);
    // The sequences of this client look shared, but its HELLO does not say so.
    let (mut silent, _) = Client::open(daemon.address(), &Hello::new(3));
    for (lane, sequence) in
        [(ROUTINE, 0), (ROUTINE, 1), (EMERGENCY, 2), (ROUTINE, 3), (EMERGENCY, 4), (ROUTINE, 5)]
    {
        silent.deliver(lane, sequence, b"one counter");
    }
    let looks = source(&daemon, 3);
    assert_eq!((&looks["missing"], &looks["shared_sequence"]), (&json!(3), &json!(false)), "{looks:#}");
    let hints = |id| {
        let lines = daemon.lines();
        lines
            .iter()
            .filter(|line| line.contains("SHARED_SEQUENCE") && line.contains(&format!("live/{id}")))
            .count()
    };
    for (id, is_hinted) in [(1, false), (2, false), (3, true)] {
        assert_eq!(source(&daemon, id)["looks_shared"], is_hinted, "source {id}");
        assert_eq!(hints(id), usize::from(is_hinted), "source {id}: {:?}", daemon.lines());
    }
    // After a restart the count continues at the resume positions: 200 for both lanes of source 2, and 215.
    let daemon = daemon.kill_and_restart();
    assert_eq!(source(&daemon, 2)["missing"], 0);
    let (mut client, welcome) = Client::open(daemon.address(), &shared);
    assert_eq!(welcome.resume_next, [215, 200]);
    client.deliver(ROUTINE, 219, b"routine");
    assert_eq!(source(&daemon, 2)["missing"], 4);
}

#[test]
fn a_source_that_vanishes_is_lost_and_one_that_says_bye_is_not() {
    let daemon = Daemon::start("");
    let open = |id| {
        let (mut client, _) = Client::open(daemon.address(), &Hello::new(id));
        client.deliver(ROUTINE, 0, b"here");
        client
    };
    let fleet = |is_met: &dyn Fn(&Value) -> bool| {
        wait_json(daemon.http(), "/api/v1/stats", |stats| is_met(&stats["fleet"]))["fleet"].clone()
    };
    assert_eq!(fleet(&|_| true)["state"], "idle");
    let [ending, vanishing, removed, staying] = [1, 2, 3, 4].map(open);
    assert_eq!(fleet(&|fleet| fleet["connected"] == 4)["state"], "ok");
    ending.bye([0, 1]);
    let session = get_json(daemon.http(), "/api/v1/sources?source=3")["sources"][0]["session"].clone();
    assert_eq!(request(daemon.http(), "DELETE", &format!("/api/v1/sources/{session}"), &[], b"").status, 204);
    fleet(&|fleet| fleet["removed"] == 1 && fleet["ended"] == 1);
    drop((vanishing, removed));
    let degraded = fleet(&|fleet| fleet["lost"] == 1);
    let expected =
        json!({"state": "degraded", "connected": 1, "ended": 1, "lost": 1, "removed": 1, "offline": 0});
    assert_eq!(degraded, expected);
    for (id, state) in [(1, "ended"), (2, "lost"), (3, "removed"), (4, "connected")] {
        let found = get_json(daemon.http(), &format!("/api/v1/sources?state={state}"));
        assert_eq!((&found["total"], &found["sources"][0]["source_id"]), (&json!(1), &json!(id)), "{state}");
        assert_eq!(found["sources"][0]["ended_ms"].is_number(), id != 4);
        let series = format!("fleet_sources{{state=\"{state}\"}} 1\n");
        assert!(get(daemon.http(), "/metrics").text().contains(&series), "{series}");
    }
    drop(staying);
    assert_eq!(fleet(&|fleet| fleet["lost"] == 2)["state"], "lost");
    // A source that is connected at another station is not lost.
    let (_elsewhere, _) = Client::open(daemon.address(), &Hello::new(2).station("KIRUNA"));
    let back = fleet(&|fleet| fleet["connected"] == 1);
    assert_eq!((&back["state"], &back["lost"]), (&json!("degraded"), &json!(1)));
    let daemon = daemon.kill_and_restart();
    let known = get_json(daemon.http(), "/api/v1/stats")["fleet"].clone();
    assert_eq!((&known["state"], &known["offline"]), (&json!("idle"), &json!(4)));
}

#[test]
fn rates_follow_the_received_frames() {
    let daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(1));
    let mut sequence = 0;
    wait_until("a rate", || {
        client.deliver(ROUTINE, sequence, &[7; 100]);
        sequence += 1;
        let routine = get_json(daemon.http(), "/api/v1/stats")["lanes"]["routine"].take();
        if routine["frames_per_s"].as_f64() > Some(0.0) { Ok(()) } else { Err(routine.to_string()) }
    });
    wait_json(daemon.http(), "/api/v1/stats", |found| {
        found["lanes"]["routine"]["ack_latency"]["p99_ms"].is_number()
    });
    wait_json(daemon.http(), "/api/v1/stats", |found| found["lanes"]["routine"]["frames_per_s"] == 0.0);
}

#[test]
fn the_age_hold_is_reported_until_an_operator_trusts_the_clock() {
    let held = || vec![("telemetry_aggregator_archive_age_hold".to_owned(), 1.0)];
    let metric = |daemon: &Daemon| -> Vec<_> {
        let samples = samples(&get(daemon.http(), "/metrics").text());
        samples.into_iter().filter(|(name, _)| name.contains("age_hold")).collect()
    };
    let daemon = Daemon::start("[archive]\nretention_age = \"30days\"");
    let hold = |found: &Value| found["archive"]["age_hold"].clone();
    let found = wait_json(daemon.http(), "/api/v1/stats", |found| hold(found).is_object());
    let reason = hold(&found)["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("the daemon has started"), "{reason}");
    let left_ms = hold(&found)["until_ms"].as_i64().unwrap() - found["time_ms"].as_i64().unwrap();
    assert!((3_000_000..=3_600_000).contains(&left_ms), "{left_ms} ms");
    assert_eq!(metric(&daemon), held());
    let path = "/api/v1/archive/trust-clock";
    assert_eq!(request(daemon.http(), "POST", path, &[("Host", "evil.example")], b"").status, 403);
    assert_eq!(request(daemon.http(), "POST", path, &[], b"").status, 204);
    wait_json(daemon.http(), "/api/v1/stats", |found| hold(found).is_null());
    assert_eq!(metric(&daemon)[0].1, 0.0);
    for line in ["nothing expires by age for now", "an operator says over HTTP", "the clock is trusted"] {
        daemon.wait_line(line);
    }
}

#[test]
fn readiness_gives_the_reason_during_a_drain() {
    let daemon = Daemon::start("");
    assert_eq!(
        get_json(daemon.http(), "/readyz"),
        json!({ "service": "telemetry-aggregator", "ready": true, "reasons": [], "degraded": [] })
    );
    let alive = json!({ "service": "telemetry-aggregator", "status": "ok" });
    assert_eq!(get_json(daemon.http(), "/healthz"), alive);
    // A silent client keeps the drain waiting for some time.
    let (_silent, _) = Client::open(daemon.address(), &Hello::new(1));
    daemon.signal(Signal::TERM);
    let answer = wait_until("a daemon that is not ready", || {
        let answer = get(daemon.http(), "/readyz");
        if answer.status == 503 { Ok(answer.json()) } else { Err(answer.text()) }
    });
    assert!(answer["reasons"][0].as_str().unwrap().starts_with("draining"), "{answer}");
}
