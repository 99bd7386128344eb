//! Operators remove streams for good, over HTTP and on the command line.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::command::{aggregator, expect_exit};
use crate::support::http::{Answer, get_json, request, wait_json};
use crate::support::{Client, Daemon, EMERGENCY, HeldDaemon, Hello, Port, ROUTINE, code, wait_until};

fn forget(address: SocketAddr, body: &Value) -> Answer {
    let headers = [("Content-Type", "application/json")];
    request(address, "POST", "/api/v1/streams/forget", &headers, body.to_string().as_bytes())
}

#[track_caller]
fn forgotten(address: SocketAddr, body: &Value) -> Value {
    let answer = forget(address, body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// A stream that has sent a frame and BYE.
fn gone(address: SocketAddr, hello: &Hello) {
    let (mut client, _) = Client::open(address, hello);
    client.deliver(ROUTINE, 5, b"done with");
    client.bye([0, 6]);
}

/// Waits until `streams` streams are known, none is connected and no frame is in flight.
fn wait_offline(address: SocketAddr, streams: usize) {
    wait_json(address, "/api/v1/sources", |found| {
        let sources = found["sources"].as_array().unwrap();
        let is_over = |source: &Value| source["state"] != "connected" && source["frames"]["in_flight"] == 0;
        sources.len() == streams && sources.iter().all(is_over)
    });
}

fn names(address: SocketAddr) -> Vec<String> {
    let all = get_json(address, "/api/v1/sources");
    let name = |source: &Value| format!("{}@{}", source["source_id"], source["station"].as_str().unwrap());
    all["sources"].as_array().unwrap().iter().map(name).collect()
}

#[test]
fn many_dead_streams_are_forgotten_at_once_and_stay_forgotten_after_a_kill() {
    let daemon = Daemon::start("[ingest]\nmax_streams = 14\nmax_streams_per_source = 12");
    for name in 0..12 {
        gone(daemon.address(), &Hello::new(7).station(&format!("invented {name}")).epoch(90));
    }
    gone(daemon.address(), &Hello::new(8).station("KIRUNA").epoch(90));
    wait_offline(daemon.http(), 13);
    let (mut live, _) = Client::open(daemon.address(), &Hello::new(9).epoch(90));
    live.deliver(ROUTINE, 0, b"alive");
    Client::refused(daemon.address(), &Hello::new(10), code::LIMIT);

    let dry_run = json!({ "station_glob": "invented *", "dry_run": true });
    assert_eq!(forgotten(daemon.http(), &dry_run)["forgotten"], 12);
    assert_eq!(names(daemon.http()).len(), 14, "a dry run does nothing");
    let answer = forgotten(daemon.http(), &json!({ "source_ids": [7], "offline_for_s": 0 }));
    assert_eq!(
        (&answer["forgotten"], &answer["refused"], &answer["remaining"]),
        (&json!(12), &json!(0), &json!(0))
    );
    assert_eq!(answer["streams"][0]["station"], "invented 0");
    assert!(answer["streams"][0]["offline_since_ms"].as_i64().unwrap() > 0, "{answer:#}");
    assert_eq!(names(daemon.http()), ["8@KIRUNA", "9@"]);
    let line = daemon.wait_line("streams were forgotten over HTTP");
    assert!(
        line.contains("WARN") && line.contains("count=12") && line.contains("live/7@invented 0"),
        "{line}"
    );

    // A new satellite gets a place, and the other streams continue.
    let (mut new, _) = Client::open(daemon.address(), &Hello::new(10).epoch(90));
    new.deliver(ROUTINE, 0, b"new");
    live.deliver(ROUTINE, 1, b"alive");
    let mut daemon = daemon.kill_and_restart();
    assert_eq!(names(daemon.http()), ["8@KIRUNA", "9@", "10@"]);
    // The daemon accepts old epochs and duplicates of a removed stream.
    let hello = Hello::new(7).station("invented 3").epoch(2);
    let (mut back, welcome) = Client::open(daemon.address(), &hello);
    assert_eq!(welcome.resume_next, [0, 0]);
    back.deliver(ROUTINE, 5, b"done with");
    back.bye([0, 6]);
    daemon.stop();
    let again = daemon.archived().into_iter().filter(|frame| frame.source_id == 7 && frame.sequence == 5);
    assert_eq!(again.count(), 13, "no frame is lost by it, and one is there twice");
}

#[test]
fn an_answered_forget_survives_repeated_kills() {
    let mut daemon = Daemon::start("");
    for source in 1..=4 {
        gone(daemon.address(), &Hello::new(source).epoch(90));
    }
    wait_offline(daemon.http(), 4);
    for source in 1..=3_u32 {
        assert_eq!(forgotten(daemon.http(), &json!({ "source_ids": [source] }))["forgotten"], 1);
        daemon = daemon.kill_and_restart();
        let left: Vec<_> = (source + 1..=4).map(|source| format!("{source}@")).collect();
        assert_eq!(names(daemon.http()), left);
    }
    let (_client, welcome) = Client::open(daemon.address(), &Hello::new(4).epoch(90));
    assert_eq!(welcome.resume_next, [0, 6]);
}

#[test]
fn connected_and_unsynced_streams_are_refused_with_the_reason() {
    let mut daemon = HeldDaemon::start("");
    let (mut client, welcome) = Client::open(daemon.address(), &Hello::new(7).station("KIRUNA").epoch(90));
    let which = json!({ "source_ids": [7] });
    let reason = |part: &str| {
        wait_until(part, || {
            let answer = forgotten(daemon.http(), &which);
            assert_eq!((&answer["forgotten"], &answer["refused"]), (&json!(0), &json!(1)), "{answer:#}");
            let reason = answer["refusals"][0]["reason"].as_str().unwrap();
            if reason.contains(part) { Ok(()) } else { Err(reason.to_owned()) }
        });
    };
    reason(&format!("DELETE /api/v1/sources/{}", welcome.session_id));
    daemon.hold();
    client.frame(ROUTINE, 0, b"on its way");
    daemon.wait_sync();
    assert_eq!(request(daemon.http(), "DELETE", "/api/v1/sources/1", &[], b"").status, 204);
    drop(client);
    reason("on their way to the disk");
    daemon.release();
    let (mut other, _) = Client::open(daemon.address(), &Hello::new(8));
    other.deliver(EMERGENCY, 0, b"everything before is durable");
    wait_until("a stream that may be forgotten", || {
        let answer = forgotten(daemon.http(), &which);
        if answer["forgotten"] == 1 { Ok(()) } else { Err(format!("{answer:#}")) }
    });
    assert_eq!(names(daemon.http()), ["8@"]);
    drop(other);
    daemon.stop();
}

#[test]
fn a_wrong_request_is_refused_with_a_remedy() {
    let daemon = Daemon::start("[http]\ntoken = \"let me in\"");
    assert_eq!(forget(daemon.http(), &json!({ "offline_for_s": 0 })).status, 401);
    let asked = |body: Value| {
        let headers = [("Content-Type", "application/json"), ("Authorization", "Bearer let me in")];
        request(daemon.http(), "POST", "/api/v1/streams/forget", &headers, body.to_string().as_bytes())
    };
    for (body, reason) in [
        (json!({}), "every stream"),
        (json!({ "dry_run": true }), "every stream"),
        (json!({ "source_ids": [] }), "1 to 512"),
        (json!({ "source_ids": vec![1; 513] }), "has 513"),
        (json!({ "source_ids": [1.5] }), "whole"),
        (json!({ "kind": "dead" }), "live"),
        (json!({ "station": null }), "null"),
        (json!({ "station": "X".repeat(257) }), "257"),
        (json!({ "offline_for_s": 1_000_000_001 }), "1000000001"),
        (json!({ "more": 1 }), "more"),
    ] {
        let answer = asked(body.clone());
        assert_eq!(answer.status, 422, "{body}: {}", answer.text());
        assert!(answer.json()["reason"].as_str().unwrap().contains(reason), "{body}: {}", answer.text());
    }
    let none = asked(json!({ "source_ids": [1.0], "kind": "live", "station": "nowhere" }));
    assert_eq!((none.status, &none.json()["forgotten"]), (200, &json!(0)));
}

fn streams(daemon: &Daemon, args: &[&str]) -> Command {
    let mut command = aggregator(["streams"]);
    command.args(&args[..1]).args(["--url", &format!("http://{}", daemon.http())]).args(&args[1..]);
    command
}

#[test]
fn the_streams_command_lists_and_forgets() {
    let daemon = Daemon::start("");
    gone(daemon.address(), &Hello::new(7).station("KIRUNA").epoch(90));
    gone(daemon.address(), &Hello::new(7).station("KIEL").epoch(91));
    gone(daemon.address(), &Hello::new(8).kind(1).epoch(92));
    wait_offline(daemon.http(), 3);
    let (_live, _) = Client::open(daemon.address(), &Hello::new(9).epoch(93));
    let (all, _) = expect_exit(&mut streams(&daemon, &["ls"]), 0);
    let lines: Vec<_> = all.lines().collect();
    let [kiel, kiruna, replay, live] = lines[..] else { panic!("{all}") };
    assert!(kiel.starts_with("live/7@KIEL  ended since 2") && kiel.ends_with("Z  epoch 91"), "{kiel}");
    assert!(kiruna.starts_with("live/7@KIRUNA  ended"), "{kiruna}");
    assert!(replay.starts_with("replay/8  ended"), "{replay}");
    assert!(live.starts_with("live/9  connected since 2"), "{live}");
    let count = |args: &[&str]| expect_exit(&mut streams(&daemon, args), 0).0.lines().count();
    assert_eq!(count(&["ls", "--source", "7", "--station", "KI*"]), 2);
    assert_eq!(count(&["ls", "--kind", "replay"]), 1);
    assert_eq!(count(&["ls", "--offline-for", "0s"]), 3);
    let (_, why) = expect_exit(&mut streams(&daemon, &["ls", "--offline-for", "30days"]), 0);
    assert!(why.contains("no stream matches"), "{why}");

    let (_, why) = expect_exit(&mut streams(&daemon, &["ls", "--source", "MERIDIAN-07"]), 2);
    assert!(why.contains("expected a number from 0 to 4294967295"), "{why}");

    let (_, why) = expect_exit(&mut streams(&daemon, &["forget"]), 2);
    assert!(why.contains("--offline-for 0s"), "{why}");
    let (said, _) = expect_exit(&mut streams(&daemon, &["forget", "--station", "K*", "--dry-run"]), 0);
    assert!(
        said.contains("live/7@KIEL") && said.ends_with("2 streams would be forgotten, 0 refused\n"),
        "{said}"
    );
    let (said, _) = expect_exit(&mut streams(&daemon, &["forget", "--station", "KIE?"]), 0);
    assert!(said.ends_with("1 streams forgotten, 0 refused\n"), "{said}");
    assert_eq!(names(daemon.http()), ["7@KIRUNA", "8@", "9@"]);
    let (said, why) = expect_exit(&mut streams(&daemon, &["forget", "--kind", "live"]), 1);
    assert!(said.ends_with("1 streams forgotten, 1 refused\n"), "{said}");
    assert!(why.contains("live/9 is refused: session") && why.contains("1 streams were refused"), "{why}");
    let (said, _) = expect_exit(&mut streams(&daemon, &["forget", "--offline-for", "0s"]), 0);
    assert!(said.contains("replay/8") && said.ends_with("1 streams forgotten, 0 refused\n"), "{said}");
    let (_, why) = expect_exit(&mut streams(&daemon, &["forget", "--offline-for", "0s"]), 0);
    assert!(why.contains("no stream matches"), "{why}");
    assert_eq!(names(daemon.http()), ["9@"]);
}

#[test]
fn fractions_of_a_second_are_rounded_up() {
    let daemon = Daemon::start("");
    gone(daemon.address(), &Hello::new(7).epoch(90));
    wait_offline(daemon.http(), 1);
    let (said, why) =
        expect_exit(&mut streams(&daemon, &["forget", "--offline-for", "9999999ms", "--dry-run"]), 0);
    assert!(why.contains("no stream matches"), "{said}{why}");
    let daemon = Port::hold();
    let url = format!("http://{}", daemon.address());
    let (_, why) = expect_exit(&mut aggregator(["streams", "ls", "--url", &url]), 1);
    assert_eq!(why.to_lowercase().matches("connection refused").count(), 1, "{why}");
}

#[test]
fn the_streams_command_sends_the_token_of_http() {
    let daemon = Daemon::start("[http]\ntoken = \"let me in\"");
    gone(daemon.address(), &Hello::new(7).epoch(90));
    wait_offline(daemon.http(), 1);
    let (_, why) = expect_exit(&mut streams(&daemon, &["forget", "--source", "7"]), 1);
    assert!(why.contains("401") && why.contains("http.token"), "{why}");
    let mut command = streams(&daemon, &["forget", "--source", "7"]);
    let (said, _) = expect_exit(command.env("TELEMETRY_AGGREGATOR_TOKEN", "let me in"), 0);
    assert!(said.ends_with("1 streams forgotten, 0 refused\n"), "{said}");
}
