//! Health, API, events and metrics of the real daemon, over plain sockets.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod support;

use std::collections::HashMap;
use std::io::Write;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::http::{Stream, get, get_json, open, open_over, request};
use support::{
    Client, Daemon, EMERGENCY, Hello, LIMIT, ROUTINE, Signal, Subscribe, Subscriber, code, connect_from,
    message, not_tested,
};

/// Repeats the request until `is_met`. The API shows an event at most a second after it happens.
fn wait(daemon: &Daemon, path: &str, is_met: impl Fn(&Value) -> bool) -> Value {
    let started = Instant::now();
    loop {
        let found = get_json(daemon.http(), path);
        if is_met(&found) {
            return found;
        }
        assert!(started.elapsed() < LIMIT, "{path} stays {found:#}");
    }
}

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
    let gone = wait(&daemon, "/api/v1/sources", |found| found["sources"][0]["state"] == "ended");
    assert_eq!(gone["sources"][0]["session"], Value::Null);
    assert_eq!(get_json(daemon.http(), "/api/v1/sources?state=connected")["total"], 0);
    assert_eq!(get_json(daemon.http(), "/api/v1/sources?state=disconnected")["total"], 1);
    wait(&daemon, "/api/v1/stats", |found| found["archive"]["disk_free_bytes"].as_u64().unwrap() > 0);
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
        wait(&daemon, "/api/v1/stats", |stats| is_met(&stats["fleet"]))["fleet"].clone()
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
    let started = Instant::now();
    loop {
        client.deliver(ROUTINE, sequence, &[7; 100]);
        sequence += 1;
        let rate =
            get_json(daemon.http(), "/api/v1/stats")["lanes"]["routine"]["frames_per_s"].as_f64().unwrap();
        if rate > 0.0 {
            break;
        }
        assert!(started.elapsed() < LIMIT, "no rate after {sequence} frames");
    }
    wait(&daemon, "/api/v1/stats", |found| found["lanes"]["routine"]["ack_latency"]["p99_ms"].is_number());
    wait(&daemon, "/api/v1/stats", |found| found["lanes"]["routine"]["frames_per_s"] == 0.0);
}

#[test]
fn a_removed_source_gets_the_reason_and_may_reconnect() {
    let daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(3));
    client.deliver(ROUTINE, 0, b"kept");
    let session = get_json(daemon.http(), "/api/v1/sources")["sources"][0]["session"].as_u64().unwrap();
    let path = format!("/api/v1/sources/{session}");
    for (header, value) in [("Origin", "http://evil.example"), ("Host", "evil.example")] {
        let refused = request(daemon.http(), "DELETE", &path, &[(header, value)], b"");
        assert_eq!(refused.status, 403, "{}", refused.text());
        assert!(refused.json()["reason"].as_str().unwrap().contains("evil.example"));
    }
    assert_eq!(request(daemon.http(), "DELETE", &path, &[], b"").status, 204);
    client.expect_error(code::REMOVED);
    let unknown = wait_gone(&daemon, &path);
    assert_eq!(unknown["error"], "not_found");
    let (_again, welcome) = Client::open(daemon.address(), &Hello::new(3));
    assert_eq!(welcome.resume_next[ROUTINE], 1);
}

/// Repeats the DELETE until the session is gone.
fn wait_gone(daemon: &Daemon, path: &str) -> Value {
    let started = Instant::now();
    loop {
        let answer = request(daemon.http(), "DELETE", path, &[], b"");
        if answer.status == 404 {
            return answer.json();
        }
        assert!(started.elapsed() < LIMIT, "{path} stays");
    }
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
    let found = wait(&daemon, "/api/v1/stats", |found| hold(found).is_object());
    let reason = hold(&found)["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("the daemon has started"), "{reason}");
    let left_ms = hold(&found)["until_ms"].as_i64().unwrap() - found["time_ms"].as_i64().unwrap();
    assert!((3_000_000..=3_600_000).contains(&left_ms), "{left_ms} ms");
    assert_eq!(metric(&daemon), held());
    let path = "/api/v1/archive/trust-clock";
    assert_eq!(request(daemon.http(), "POST", path, &[("Host", "evil.example")], b"").status, 403);
    assert_eq!(request(daemon.http(), "POST", path, &[], b"").status, 204);
    wait(&daemon, "/api/v1/stats", |found| hold(found).is_null());
    assert_eq!(metric(&daemon)[0].1, 0.0);
    for line in ["nothing expires by age for now", "an operator says over HTTP", "the clock is trusted"] {
        daemon.wait_line(line);
    }
}

#[test]
fn with_a_token_changes_and_payloads_need_it() {
    let daemon = Daemon::start("[http]\ntoken = \"let me in\"");
    let asked = |method, path, token: &str| {
        request(daemon.http(), method, path, &[("Authorization", &format!("Bearer {token}"))], b"").status
    };
    for (method, path, with_token) in [
        ("DELETE", "/api/v1/sources/9", 404),
        ("POST", "/api/v1/archive/trust-clock", 204),
        ("GET", "/api/v1/frames", 200),
    ] {
        assert_eq!(request(daemon.http(), method, path, &[], b"").status, 401);
        assert_eq!(asked(method, path, "let me"), 401);
        assert_eq!(asked(method, path, "let me in"), with_token);
    }
    assert_eq!(get(daemon.http(), "/api/v1/stats").status, 200);
    assert_eq!(get(daemon.http(), "/metrics").status, 200);
}

#[test]
fn a_request_that_can_be_read_in_two_ways_is_refused() {
    let token = "Bearer let me in";
    for config in ["", "[http]\ntoken = \"let me in\""] {
        let daemon = Daemon::start(config);
        let here = daemon.http().to_string();
        let origin = format!("http://{here}");
        let asked = |path: &str, headers: &[(&str, &str)]| {
            let headers: Vec<_> =
                [("Authorization", token)].into_iter().chain(headers.iter().copied()).collect();
            request(daemon.http(), "GET", path, &headers, b"")
        };
        for (name, first, second) in [
            ("host", &*here, "evil.example"),
            ("origin", &*origin, "http://evil.example"),
            ("sec-fetch-site", "same-origin", "cross-site"),
            ("authorization", token, "Bearer let me"),
        ] {
            let headers = [(name, first), (name, second)];
            let answer = asked("/api/v1/frames", &headers);
            assert_eq!(answer.status, 400, "{name}: {}", answer.text());
            assert!(answer.json()["reason"].as_str().unwrap().starts_with(name), "{}", answer.text());
        }
        let absolute = |host: &str| format!("http://{host}/api/v1/frames");
        assert_eq!(asked(&absolute(&here), &[]).status, 200);
        let answer = asked(&absolute("evil.example"), &[]);
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(answer.json()["reason"].as_str().unwrap().contains("evil.example"), "{}", answer.text());
        let both = asked(&absolute("evil.example"), &[("Host", "evil.example")]).status;
        assert_eq!(both, if config.is_empty() { 403 } else { 200 }, "a token is enough for any host");
        let refused = &get_json(daemon.http(), "/api/v1/stats")["refusals"]["http"];
        assert_eq!(refused["protocol"], 5, "{refused}");
    }
}

#[test]
fn data_from_payloads_is_guarded_like_payloads() {
    let stranger = ("Host", "evil.example");
    let owner = ("Authorization", "Bearer let me in");
    let guarded = "[http]\ntoken = \"let me in\"";
    // With a configured token, any client that shows the token. Without a token, programs on this host.
    for (config, refused, taken) in
        [("", &[stranger][..], &[][..]), (guarded, &[][..], &[stranger, owner][..])]
    {
        let daemon = Daemon::start(config);
        let (mut client, _) = Client::open(daemon.address(), &Hello::new(7));
        client.deliver(EMERGENCY, 0, b"SAFE_MODE\x00secret");
        for (headers, label, frames) in [(refused, Value::Null, false), (taken, json!("SAFE_MODE"), true)] {
            let status = request(daemon.http(), "GET", "/api/v1/frames", headers, b"").status;
            assert_eq!(status == 200, frames, "{config} {headers:?}");
            let stats = request(daemon.http(), "GET", "/api/v1/stats", headers, b"");
            assert_eq!(stats.status, 200);
            assert_eq!(stats.json()["emergencies"][0]["label"], label, "{config} {headers:?}");
            let mut events = open(daemon.http(), "GET", "/api/v1/stream", headers, b"");
            assert_eq!(events.head().0, 200);
            let (name, stats) = events.event();
            assert_eq!((name.as_str(), &stats["emergencies"][0]["label"]), ("stats", &label), "{headers:?}");
            for path in ["/metrics", "/api/v1/sources"] {
                let text = request(daemon.http(), "GET", path, headers, b"").text();
                assert!(!text.contains("SAFE_MODE"), "{path}: {text}");
            }
        }
    }
}

#[test]
fn frames_come_in_pages_as_they_are_archived() {
    let mut daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(1));
    let (mut other, _) = Client::open(daemon.address(), &Hello::new(2));
    for sequence in 0..25 {
        client.deliver(ROUTINE, sequence, format!("routine {sequence}").as_bytes());
        other.deliver(EMERGENCY, sequence, b"emergency");
    }
    let all = pages(&daemon, "limit=7");
    assert_eq!(all.len(), 50);
    assert!(all.iter().enumerate().all(|(offset, frame)| frame["offset"] == offset));
    assert_eq!(pages(&daemon, "limit=7&source=1").len(), 25);
    assert_eq!(pages(&daemon, "limit=50&priority=emergency&from=10&to=20").len(), 5);
    let received_ms = all[30]["received_ns"].as_i64().unwrap() / 1_000_000;
    let late = pages(&daemon, &format!("from_ms={received_ms}"));
    assert!(late.iter().any(|frame| frame["offset"] == 30) && late.len() < 50);
    for bad in [
        "limit=0",
        "limit=5000",
        "priority=high",
        "source=x",
        "from=-1",
        "frm=1",
        "kind=dead",
        "source=",
        "source=1,",
    ] {
        let answer = get(daemon.http(), &format!("/api/v1/frames?{bad}"));
        assert_eq!(answer.status, 400, "{bad}: {}", answer.text());
        assert_eq!(answer.json()["error"], "bad_request");
    }
    daemon.stop();
    for (frame, archived) in all.iter().zip(daemon.archived()) {
        assert_eq!(frame["sequence"], archived.sequence);
        assert_eq!(frame["source_id"], archived.source_id);
    }
}

fn pages(daemon: &Daemon, query: &str) -> Vec<Value> {
    let (mut frames, mut from) = (Vec::new(), None);
    loop {
        let query = match from {
            None => query.to_owned(),
            Some(from) => {
                let kept: Vec<&str> = query.split('&').filter(|part| !part.starts_with("from=")).collect();
                format!("{}&from={from}", kept.join("&"))
            }
        };
        let page = get_json(daemon.http(), &format!("/api/v1/frames?{query}"));
        assert_eq!(page["gaps"], json!([]));
        frames.extend(page["frames"].as_array().unwrap().iter().cloned());
        let next = page["next"].as_u64().expect("a position to continue from");
        match page["more"].as_bool() {
            Some(true) => from = Some(next),
            more => {
                assert_eq!(more, Some(false));
                return frames;
            }
        }
    }
}

#[test]
fn the_end_of_a_page_is_the_start_of_a_later_request() {
    let daemon = Daemon::start("");
    let page = |from: &str| get_json(daemon.http(), &format!("/api/v1/frames?source=1&from={from}"));
    assert_eq!(page("0")["next"], 0);
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(1));
    let (mut other, _) = Client::open(daemon.address(), &Hello::new(2));
    client.deliver(ROUTINE, 0, b"first");
    // This is not a frame of source 1. The position advances all the same.
    other.deliver(ROUTINE, 0, b"of another source");
    let first = page("0");
    assert_eq!((first["frames"].as_array().unwrap().len(), &first["next"]), (1, &json!(2)), "{first}");
    assert_eq!(first["more"], false);
    client.deliver(ROUTINE, 1, b"second");
    let second = page("2");
    assert_eq!(second["frames"][0]["offset"], 2, "{second}");
    assert_eq!((&second["next"], &second["more"]), (&json!(3), &json!(false)));
    assert_eq!(page("99")["next"], 99, "never behind what was asked for");
}

#[test]
fn events_send_everything_once_and_then_changes() {
    let daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(1));
    let (_quiet, _) = Client::open(daemon.address(), &Hello::new(2));
    let mut events = open(daemon.http(), "GET", "/api/v1/stream", &[], b"");
    assert_eq!(events.head().0, 200);
    assert_eq!(events.event().0, "stats");
    let (name, all) = events.event();
    assert_eq!((name.as_str(), all["total"].as_u64()), ("sources", Some(2)));
    client.deliver(ROUTINE, 0, b"news");
    let changed = loop {
        let (name, data) = events.event();
        if name == "changes" && data["sources"] != json!([]) {
            break data;
        }
    };
    let ids: Vec<_> =
        changed["sources"].as_array().unwrap().iter().map(|source| &source["source_id"]).collect();
    assert_eq!(ids, [1]);
    // A new stream changes the set of streams.
    let (_third, _) = Client::open(daemon.address(), &Hello::new(3));
    loop {
        let (name, data) = events.event();
        if name == "sources" && data["total"] == 3 {
            break;
        }
    }
}

#[test]
fn event_listeners_that_do_not_read_are_bounded_and_delay_no_one() {
    let daemon = Daemon::start("");
    let mut streams = Vec::new();
    let mut refused = 0;
    // Connections from one address, then from a second address.
    for last in [2; 250].into_iter().chain([3; 250]) {
        let socket = connect_from([127, 0, 0, last], daemon.http());
        let mut stream = open_over(socket, "GET", "/api/v1/stream", &[], b"");
        match stream.head() {
            (200, _) => streams.push(stream),
            (503, headers) => {
                assert!(headers.iter().any(|(name, _)| name == "retry-after"), "{headers:?}");
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    // The first address gets half of all places, the second half of the rest. A third address still gets a place.
    assert_eq!((streams.len(), refused), (64 + 32, 500 - 64 - 32));
    let mut other = open(daemon.http(), "GET", "/api/v1/stream", &[], b"");
    assert_eq!(other.head().0, 200);
    assert_eq!(get_json(daemon.http(), "/api/v1/stats")["refusals"]["http"]["busy"], refused);
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(1));
    for sequence in 0..100 {
        client.deliver(ROUTINE, sequence, &[1; 500]);
    }
    assert_eq!(get_json(daemon.http(), "/api/v1/stats")["frames"]["archived"], 100);
    drop(streams);
    let started = Instant::now();
    while open(daemon.http(), "GET", "/api/v1/stream", &[], b"").head().0 != 200 {
        assert!(started.elapsed() < LIMIT, "the places are never free again");
    }
}

/// Two addresses open silent connections. The daemon still answers other clients.
#[test]
fn connections_of_one_address_leave_room_for_others() {
    let daemon = Daemon::start("");
    let silent: Vec<_> =
        [2, 3].repeat(350).into_iter().map(|last| connect_from([127, 0, 0, last], daemon.http())).collect();
    for _ in 0..20 {
        assert_eq!(get(daemon.http(), "/healthz").status, 200);
    }
    let refused = get_json(daemon.http(), "/api/v1/stats")["refusals"]["http"]["busy"].as_u64();
    assert!(refused > Some(0), "all {} got in", silent.len());
}

#[test]
fn refused_connections_are_counted_and_named() {
    let tokens = "[[ingest.tokens]]\ntoken = \"right\"\nsources = [1]\n[[feed.tokens]]\ntoken = \"other\"\n";
    let daemon = Daemon::start(&format!("[ingest]\nmax_connections = 1\n{tokens}"));
    let ingest = daemon.address();
    let hello = |source_id| Hello::new(source_id).token("right");
    assert_eq!(get_json(daemon.http(), "/api/v1/stats")["refusals"], json!({}));
    Client::refused(ingest, &Hello::new(1).token("secret"), code::UNAUTHORIZED);
    Client::refused(ingest, &hello(2), code::FORBIDDEN);
    Client::refused(ingest, &Hello { version_min: 9, version_max: 9, ..hello(1) }, code::VERSION);
    let (_first, _) = Client::open(ingest, &hello(1).epoch(7));
    Client::refused(ingest, &hello(1).station("other"), code::BUSY);
    Client::refused(ingest, &hello(1).station("other"), code::BUSY);
    let (mut second, _) = Client::open(ingest, &hello(1).epoch(8));
    second.send(&message::frame(9, 0, b"no such lane"));
    second.expect_error(code::BAD_PRIORITY);
    Subscriber::refused(daemon.feed(), &Subscribe::live().token("secret"), code::UNAUTHORIZED);
    // A takeover does not count as a refusal.
    let counts = json!({
        "ingest": { "unauthorized": 1, "forbidden": 1, "version": 1, "busy": 2, "bad_priority": 1 },
        "feed": { "unauthorized": 1 },
    });
    assert_eq!(get_json(daemon.http(), "/api/v1/stats")["refusals"], counts);
    let refusals = get_json(daemon.http(), "/api/v1/refusals");
    assert_eq!(refusals["counts"], counts);
    let newest = refusals["newest"].as_array().unwrap();
    assert_eq!(newest.len(), 7);
    assert_eq!((&newest[0]["listener"], &newest[0]["reason"]), (&json!("ingest"), &json!("unauthorized")));
    assert!(newest[0]["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{newest:?}");
    assert!(newest[3]["text"].as_str().unwrap().contains("ingest.max_connections"), "{newest:?}");
    assert!(!refusals.to_string().contains("secret"), "no token is shown");
    let found = samples(&get(daemon.http(), "/metrics").text());
    let refused = "telemetry_aggregator_refusals_total{listener=\"ingest\",reason=\"busy\"}";
    assert_eq!(found[refused], 2.0);
}

#[test]
fn with_a_token_refusals_are_shown_only_to_its_owner() {
    let daemon = Daemon::start("[http]\ntoken = \"let me in\"");
    assert_eq!(get(daemon.http(), "/api/v1/refusals").status, 401);
    let token = [("Authorization", "Bearer let me in")];
    let refusals = request(daemon.http(), "GET", "/api/v1/refusals", &token, b"").json();
    assert_eq!(refusals["counts"], json!({ "http": { "unauthorized": 1 } }));
    assert_eq!(get_json(daemon.http(), "/api/v1/stats")["refusals"], refusals["counts"]);
}

/// Puts a catalog whose text fills half of the room for long answers, and returns its text.
fn put_long_catalog(daemon: &Daemon) -> Vec<u8> {
    let mut text = b"1 25544U 98067A   08264.51782528 -.00002182  00000-0 -11606-4 0  2927\n\
        2 25544  51.6416 247.4627 0006703 130.5360 325.0288 15.72125391563537\n"
        .to_vec();
    while text.len() < (4 << 20) - 100 {
        text.extend_from_slice(
            b"# a comment makes the text as long as one may be, so that no socket takes it\n",
        );
    }
    assert_eq!(request(daemon.http(), "PUT", "/api/v1/catalog", &[], &text).status, 200);
    text
}

/// Long answers that no client reads, and the status and the body of the first refusal.
type Untaken = (Vec<(Stream, Vec<(String, String)>)>, (u16, Vec<u8>));

/// Asks for the catalog and does not read it, until there is no room.
fn take_all_room(daemon: &Daemon) -> Untaken {
    let mut untaken = Vec::new();
    loop {
        let mut answer = open(daemon.http(), "GET", "/api/v1/catalog?format=tle", &[], b"");
        match answer.head() {
            (200, headers) => untaken.push((answer, headers)),
            // Read this answer and send no other request: another one might succeed, because the sockets take more
            // bytes.
            (status, headers) => return (untaken, (status, answer.body(&headers))),
        }
        assert!(untaken.len() < 20, "80 MiB for clients that read nothing");
    }
}

#[test]
fn metrics_and_health_are_answered_while_others_do_not_read() {
    let daemon = Daemon::start("");
    let clients: Vec<_> = (0..100).map(|id| Client::open(daemon.address(), &Hello::new(id))).collect();
    put_long_catalog(&daemon);
    // The sockets may take more bytes after a refusal.
    let mut untaken = Vec::new();
    while get(daemon.http(), "/api/v1/sources").status != 503 {
        untaken.push(take_all_room(&daemon).0);
        assert!(untaken.len() < 20, "there is always room");
    }
    for _ in 0..50 {
        for path in ["/metrics", "/healthz", "/readyz"] {
            let answer = get(daemon.http(), path);
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        }
        let zipped = request(daemon.http(), "GET", "/metrics", &[("Accept-Encoding", "gzip")], b"");
        assert_eq!(zipped.status, 200);
    }
    drop((untaken, clients));
}

#[test]
fn long_answers_that_are_not_read_are_bounded_and_delay_no_one() {
    let daemon = Daemon::start("");
    let text = put_long_catalog(&daemon);
    let (mut untaken, refused) = take_all_room(&daemon);
    assert_eq!(refused.0, 503);
    let reason = String::from_utf8_lossy(&refused.1);
    assert!(reason.contains("too slow"), "{reason}");
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(1));
    client.deliver(ROUTINE, 0, b"frame");
    assert_eq!(get_json(daemon.http(), "/api/v1/stats")["frames"]["archived"], 1);
    // A slow client that finally reads its answer gets all of it.
    let (answer, headers) = untaken.pop().unwrap();
    assert!(answer.body(&headers) == text);
    drop(untaken);
    let started = Instant::now();
    while get(daemon.http(), "/api/v1/catalog?format=tle").status != 200 {
        assert!(started.elapsed() < LIMIT, "there is never room again");
    }
}

/// Requests whose answers have no body. hyper finishes such a request before the client has read the answer.
#[test]
fn a_client_that_pipelines_without_reading_is_slowed_down() {
    let daemon = Daemon::start("");
    let mut socket = TcpStream::connect(daemon.http()).unwrap();
    socket.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let one = b"HEAD / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nX\r\n0\r\n\r\n";
    let mut written = 0;
    // One by one, so that each is read by itself.
    while socket.write_all(one).is_ok() {
        written += one.len();
        assert!(written < 24 << 20, "it takes all there is, and keeps the answers");
    }
    assert_eq!(get(daemon.http(), "/healthz").status, 200);
}

/// `count` copies of the elements of the ISS of 2008, under different numbers.
fn elements(count: u32) -> String {
    let line = |text: String| {
        let sum: u32 = text
            .bytes()
            .map(|byte| match byte {
                b'0'..=b'9' => u32::from(byte - b'0'),
                b'-' => 1,
                _ => 0,
            })
            .sum();
        format!("{text}{}\n", sum % 10)
    };
    (1..=count)
        .flat_map(|number| {
            [
                format!("SATELLITE {number}\n"),
                line(format!("1 {number:05}U 98067A   08264.51782528 -.00002182  00000-0 -11606-4 0  292")),
                line(format!("2 {number:05}  51.6416 247.4627 0006703 130.5360 325.0288 15.7212539156353")),
            ]
        })
        .collect()
}

fn unzipped(body: &[u8]) -> String {
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(body), &mut text).unwrap();
    text
}

#[test]
fn long_answers_are_compressed_if_the_client_accepts_it() {
    let daemon = Daemon::start("");
    let clients: Vec<_> =
        (0..20).map(|id| Client::open(daemon.address(), &Hello::new(id).station("KIRUNA"))).collect();
    let zipped = ("Accept-Encoding", "deflate, gzip;q=0.5");
    for path in
        ["/metrics", "/api/v1/sources", "/api/v1/openapi.json", "/dashboard/app.js", "/dashboard/style.css"]
    {
        let plain = get(daemon.http(), path);
        assert_eq!(plain.header("content-encoding"), None, "{path}");
        let answer = request(daemon.http(), "GET", path, &[zipped], b"");
        assert_eq!(answer.header("content-type"), plain.header("content-type"));
        if plain.body.len() < 4_096 {
            assert_eq!(answer.header("content-encoding"), None, "{path}");
            continue;
        }
        assert_eq!(answer.header("content-encoding"), Some("gzip"), "{path}");
        assert_eq!(answer.header("content-length"), Some(&*answer.body.len().to_string()), "{path}");
        assert_eq!(
            (answer.header("vary"), plain.header("vary")),
            (Some("accept-encoding"), Some("accept-encoding"))
        );
        assert!(
            answer.body.len() < plain.body.len() / 2,
            "{path}: {} of {}",
            answer.body.len(),
            plain.body.len()
        );
        let (text, plain) = (unzipped(&answer.body), plain.text());
        assert_eq!(text.lines().count(), plain.lines().count(), "{path}");
        let refused = request(daemon.http(), "GET", path, &[("Accept-Encoding", "gzip;q=0, br")], b"");
        assert_eq!(refused.header("content-encoding"), None, "{path}");
    }
    let mut events = open(daemon.http(), "GET", "/api/v1/stream", &[zipped], b"");
    let (_, headers) = events.head();
    assert!(headers.iter().all(|(name, _)| name != "content-encoding"), "{headers:?}");
    assert_eq!(events.event().0, "stats");
    drop(clients);
}

#[test]
fn satellite_positions_are_computed_once_for_all_requests() {
    let daemon = Daemon::start("");
    let path = "/api/v1/catalog";
    assert_eq!(request(daemon.http(), "PUT", path, &[], elements(500).as_bytes()).status, 200);
    // A position belongs to one moment. The moment may change between two requests.
    let started = Instant::now();
    let (plain, again, zipped, known) = loop {
        let plain = get(daemon.http(), path);
        let tag = plain.header("etag").expect("a tag").to_owned();
        let again = get(daemon.http(), path);
        let zipped = request(daemon.http(), "GET", path, &[("Accept-Encoding", "gzip")], b"");
        let known = request(daemon.http(), "GET", path, &[("If-None-Match", &tag)], b"");
        if [&again, &zipped, &known].iter().all(|answer| answer.header("etag") == Some(&tag)) {
            break (plain, again, zipped, known);
        }
        assert!(started.elapsed() < LIMIT, "the tag never stays: {tag}");
    };
    assert_eq!(plain.header("cache-control"), Some("no-cache"));
    assert_eq!(plain.json()["count"], 500);
    assert!(plain.json()["time_ms"].is_i64());
    assert_eq!(again.body, plain.body, "not computed again");
    assert_eq!(zipped.header("content-encoding"), Some("gzip"));
    assert_eq!(unzipped(&zipped.body).as_bytes(), plain.body);
    assert_eq!((known.status, known.body.len()), (304, 0));
    // Another version gives another answer. So does the text of each version.
    let text = get(daemon.http(), "/api/v1/catalog?format=tle");
    let tag = text.header("etag").unwrap().to_owned();
    let known = |tag: &str| {
        request(daemon.http(), "GET", "/api/v1/catalog?format=tle", &[("If-None-Match", tag)], b"").status
    };
    assert_eq!(known(&tag), 304);
    assert_eq!(request(daemon.http(), "PUT", path, &[], elements(3).as_bytes()).status, 200);
    assert_eq!(known(&tag), 200);
    assert_eq!(get_json(daemon.http(), path)["count"], 3);
}

#[test]
fn a_slowly_sent_catalog_delays_no_other_request() {
    let daemon = Daemon::start("");
    let host = daemon.http();
    let put = |length: usize, text: &str| {
        let mut slow = TcpStream::connect(host).unwrap();
        let head =
            format!("PUT /api/v1/catalog HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n");
        // The daemon may refuse a request before the client has sent all of it.
        let _ = slow.write_all([head.as_bytes(), text.as_bytes()].concat().as_slice());
        slow
    };
    let (text, long) = (elements(30_000), 4 << 20);
    let slow: Vec<_> = (0..8).map(|_| put(long, &text[..1_000])).collect();
    for count in [1, 2, 3] {
        let other = request(host, "PUT", "/api/v1/catalog", &[], elements(count).as_bytes());
        assert_eq!(other.status, 200, "{}", other.text());
    }
    drop(slow);
    // One limit holds for all received bodies together: two bodies of the greatest length.
    let started = Instant::now();
    let held = loop {
        let held: Vec<_> = (0..2).map(|_| put(long, &text[..long - 1])).collect();
        let refused = request(host, "PUT", "/api/v1/catalog", &[], elements(4).as_bytes());
        if refused.status == 503 {
            assert!(refused.text().contains("ask again"), "{}", refused.text());
            break held;
        }
        assert!(started.elapsed() < LIMIT, "{}", refused.text());
    };
    drop(held);
    let started = Instant::now();
    while request(host, "PUT", "/api/v1/catalog", &[], elements(5).as_bytes()).status != 200 {
        assert!(started.elapsed() < LIMIT, "the room is never free");
    }
    // The daemon reads nothing of a body that is too long.
    let mut huge = TcpStream::connect(host).unwrap();
    huge.set_read_timeout(Some(LIMIT)).unwrap();
    write!(huge, "PUT /api/v1/catalog HTTP/1.1\r\nHost: {host}\r\nContent-Length: 999999999999\r\n\r\n")
        .unwrap();
    let mut answer = [0; 12];
    std::io::Read::read_exact(&mut huge, &mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[test]
fn readiness_gives_the_reason_during_a_drain() {
    let daemon = Daemon::start("");
    assert_eq!(
        get_json(daemon.http(), "/readyz"),
        json!({ "service": "telemetry-aggregator", "ready": true, "reasons": [] })
    );
    let alive = json!({ "service": "telemetry-aggregator", "status": "ok" });
    assert_eq!(get_json(daemon.http(), "/healthz"), alive);
    // A silent client keeps the drain waiting for some time.
    let (_silent, _) = Client::open(daemon.address(), &Hello::new(1));
    daemon.signal(Signal::TERM);
    let started = Instant::now();
    let answer = loop {
        let answer = get(daemon.http(), "/readyz");
        if answer.status == 503 {
            break answer.json();
        }
        assert!(started.elapsed() < LIMIT, "the daemon stays ready");
    };
    assert!(answer["reasons"][0].as_str().unwrap().starts_with("draining"), "{answer}");
}

#[test]
fn unknown_paths_and_methods_are_named() {
    let daemon = Daemon::start("");
    for (method, path, status) in
        [("GET", "/nothing", 404), ("POST", "/api/v1/stats", 405), ("PUT", "/healthz", 405)]
    {
        let answer = request(daemon.http(), method, path, &[], b"");
        assert_eq!(answer.status, status, "{method} {path}");
        assert!(answer.json()["reason"].as_str().unwrap().contains(path));
    }
}

/// The values of the samples, by name and labels.
fn samples(text: &str) -> HashMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

#[test]
fn metrics_agree_with_the_api_and_balance() {
    let daemon = Daemon::start("");
    let (mut client, _) =
        Client::open(daemon.address(), &Hello { station: b"KIRUNA".to_vec(), ..Hello::new(7) });
    for sequence in 0..10 {
        client.deliver(ROUTINE, sequence, b"payload");
    }
    client.deliver(EMERGENCY, 0, b"SAFE_MODE");
    let accept = [("Accept", "application/openmetrics-text; version=1.0.0,text/plain;q=0.5")];
    let answer = request(daemon.http(), "GET", "/metrics", &accept, b"");
    assert!(answer.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    assert!(answer.text().ends_with("# EOF\n"));
    let found = samples(&answer.text());
    let value = |name: &str| found[&format!("telemetry_aggregator_{name}")];
    assert_eq!(value("frames_received_total"), 11.0);
    let settled =
        ["frames_archived_total", "frames_not_stored_total", "frames_duplicate_total", "frames_in_flight"];
    assert_eq!(settled.iter().map(|name| value(name)).sum::<f64>(), 11.0);
    assert_eq!(value("frames_accepted_total{lane=\"emergency\"}"), 1.0);
    assert_eq!(value("ack_latency_seconds_count{lane=\"routine\"}"), 10.0);
    assert_eq!(value("ack_latency_seconds_bucket{le=\"+Inf\",lane=\"routine\"}"), 10.0);
    let labels = "source=\"7\",kind=\"live\",station=\"KIRUNA\"";
    assert_eq!(value(&format!("source_frames_total{{{labels},lane=\"routine\"}}")), 10.0);
    assert_eq!(value(&format!("source_connected{{{labels}}}")), 1.0);
    let archive = &get_json(daemon.http(), "/api/v1/stats")["archive"];
    assert_eq!(Some(value("archive_next_offset")), archive["next_offset"].as_f64());
    assert_eq!(Some(value("archive_commits_total")), archive["commits"].as_f64());
    let classic = get(daemon.http(), "/metrics");
    assert!(classic.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    let names = |text: &str| samples(text).into_keys().collect::<std::collections::BTreeSet<_>>();
    assert_eq!(names(&classic.text()), names(&answer.text()));
    check_with_promtool(&classic.text());
}

/// Checks the metrics with Prometheus' own `promtool`.
fn check_with_promtool(text: &str) {
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        return not_tested(format_args!("the metrics with promtool: Debian's prometheus is not installed"));
    };
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
