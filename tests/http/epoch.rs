//! A client used a wrong epoch, and an operator corrects it: `POST /api/v1/sources/epoch` of the real daemon.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::http::{Answer, get_json, request, wait_json};
use crate::support::{
    Client, Daemon, EMERGENCY, HeldDaemon, Hello, ROUTINE, Server, Signal, code, wait_until,
};

/// An epoch in milliseconds, from a clock that is set to the year 2106.
const MISTAKEN: u64 = 4_294_967_295_000;

fn hello(epoch: u64) -> Hello {
    Hello::new(7).station("KIRUNA").epoch(epoch)
}

fn post(address: SocketAddr, body: &Value) -> Answer {
    let headers = [("Content-Type", "application/json")];
    request(address, "POST", "/api/v1/sources/epoch", &headers, body.to_string().as_bytes())
}

fn reset(address: SocketAddr, epoch: u64) -> Answer {
    post(address, &json!({ "source_id": 7, "kind": "live", "station": "KIRUNA", "epoch": epoch }))
}

/// Repeats the request until no session speaks for the stream and no frame of the stream is in flight.
#[track_caller]
fn reset_when_free(address: SocketAddr, epoch: u64) -> Value {
    wait_until("a reset", || {
        let answer = reset(address, epoch);
        if answer.status == 200 {
            return Ok(answer.json());
        }
        assert_eq!(answer.status, 409, "{}", answer.text());
        Err(answer.text())
    })
}

#[track_caller]
fn assert_refused(answer: &Answer, status: u16, reason: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert!(answer.json()["reason"].as_str().expect("a reason").contains(reason), "{}", answer.text());
}

#[test]
fn the_right_client_connects_after_a_reset_and_resumes_after_a_kill() {
    let daemon = Daemon::start("");
    let (mut right, _) = Client::open(daemon.address(), &hello(42));
    right.deliver(ROUTINE, 0, b"right");
    let (mut mistaken, _) = Client::open(daemon.address(), &hello(MISTAKEN));
    right.expect_error(code::FENCED);
    mistaken.deliver(ROUTINE, 4, b"mistaken");
    mistaken.deliver(EMERGENCY, 8, b"mistaken");

    let session = get_json(daemon.http(), "/api/v1/sources")["sources"][0]["session"].as_u64().unwrap();
    let path = format!("/api/v1/sources/{session}");
    assert_refused(&reset(daemon.http(), 42), 409, &format!("DELETE {path}"));
    assert_eq!(request(daemon.http(), "DELETE", &path, &[], b"").status, 204);
    mistaken.expect_error(code::REMOVED);
    Client::refused(daemon.address(), &hello(42), code::FENCED);
    let answer = reset_when_free(daemon.http(), 42);
    let stand = |epoch: u64, emergency: u64, routine: u64| {
        let next = json!({ "emergency": emergency, "routine": routine });
        json!({ "epoch": epoch, "accepted_next": next, "durable_next": next })
    };
    let expected = json!({
        "source_id": 7, "kind": "live", "station": "KIRUNA", "old": stand(MISTAKEN, 9, 5), "new": stand(42, 0, 0)
    });
    assert_eq!(answer, expected);
    let warning = daemon.wait_line("the epoch of a stream was reset over HTTP");
    assert!(warning.contains("WARN") && warning.contains("live/7@KIRUNA"), "{warning}");

    Client::refused(daemon.address(), &hello(41), code::FENCED);
    let (mut right, welcome) = Client::open(daemon.address(), &hello(42));
    assert_eq!(welcome.resume_next, [0, 0]);
    for sequence in 0..3 {
        right.deliver(ROUTINE, sequence, b"again");
    }
    let mut daemon = daemon.kill_and_restart();
    Client::refused(daemon.address(), &hello(41), code::FENCED);
    let (_right, welcome) = Client::open(daemon.address(), &hello(42));
    assert_eq!(welcome.resume_next, [0, 3]);
    daemon.stop();
    let archived: Vec<_> = daemon.archived().iter().map(|frame| (frame.epoch, frame.sequence)).collect();
    assert_eq!(archived, [(42, 0), (MISTAKEN, 4), (MISTAKEN, 8), (42, 0), (42, 1), (42, 2)]);
}

#[test]
fn an_answered_reset_survives_repeated_kills() {
    let mut daemon = Daemon::start("");
    let (mut mistaken, _) = Client::open(daemon.address(), &hello(MISTAKEN));
    mistaken.deliver(ROUTINE, 0, b"mistaken");
    mistaken.bye([0, 1]);
    for epoch in [1_000, 100, 10] {
        reset_when_free(daemon.http(), epoch);
        daemon = daemon.kill_and_restart();
        let source = &get_json(daemon.http(), "/api/v1/sources")["sources"][0];
        assert_eq!(source["epoch"], epoch, "{source:#}");
        Client::refused(daemon.address(), &hello(epoch - 1), code::FENCED);
    }
    let (mut right, welcome) = Client::open(daemon.address(), &hello(10));
    assert_eq!(welcome.resume_next, [0, 0]);
    right.deliver(ROUTINE, 0, b"right");
}

#[test]
fn an_epoch_that_never_had_a_frame_is_lowered_as_well() {
    let daemon = Daemon::start("");
    let (mut right, _) = Client::open(daemon.address(), &hello(42));
    right.deliver(ROUTINE, 5, b"right");
    right.bye([0, 6]);
    let (mistaken, _) = Client::open(daemon.address(), &hello(MISTAKEN));
    mistaken.bye([0, 0]);
    reset_when_free(daemon.http(), 42);
    // The reset applies with and without a restart in between.
    let daemon = daemon.kill_and_restart();
    let (_right, welcome) = Client::open(daemon.address(), &hello(42));
    assert_eq!(welcome.resume_next, [0, 0]);
}

#[test]
fn a_reset_is_refused_while_frames_are_on_their_way_and_no_session_opens_the_stream_during_it() {
    let mut daemon = HeldDaemon::start("");
    let (mut mistaken, _) = Client::open(daemon.address(), &hello(MISTAKEN));
    daemon.hold();
    mistaken.frame(ROUTINE, 0, b"mistaken");
    daemon.wait_sync();
    // A session whose client closes the connection waits for its frames. A session that an operator removes ends at
    // once.
    assert_eq!(request(daemon.http(), "DELETE", "/api/v1/sources/1", &[], b"").status, 204);
    drop(mistaken);
    wait_until("frames on their way", || {
        let answer = reset(daemon.http(), 42);
        assert_eq!(answer.status, 409, "{}", answer.text());
        if answer.text().contains("on their way") { Ok(()) } else { Err(answer.text()) }
    });
    daemon.release();
    let (mut other, _) = Client::open(daemon.address(), &Hello::new(8));
    other.deliver(ROUTINE, 0, b"everything before is durable");
    wait_offline(daemon.http());
    // The daemon is syncing the new segment. The reset is not decided yet.
    daemon.hold();
    let address = daemon.http();
    let asked = std::thread::spawn(move || reset(address, 42));
    wait_busy(daemon.address());
    Client::refused(daemon.address(), &hello(MISTAKEN + 1), code::BUSY);
    assert_refused(&reset(daemon.http(), 41), 409, "another reset");
    daemon.release();
    assert_eq!(asked.join().unwrap().status, 200);
    let (_right, welcome) = Client::open(daemon.address(), &hello(42));
    assert_eq!(welcome.resume_next, [0, 0]);
    daemon.stop();
}

/// Waits until the daemon answers `busy` to new connections of the stream. The test connects with an epoch that would
/// otherwise be fenced.
fn wait_busy(address: SocketAddr) {
    wait_until("a reset that has begun", || {
        let mut client = Client::connect(address);
        client.send(&hello(1).bytes());
        match client.next() {
            Server::Error(error) if error.code == code::BUSY => Ok(()),
            Server::Error(error) if error.code == code::FENCED => Err(error.text),
            other => panic!("{other:?}"),
        }
    });
}

/// Waits until no session speaks for the stream and no frame of the stream is in flight.
fn wait_offline(address: SocketAddr) {
    wait_json(address, "/api/v1/sources?source=7", |found| {
        let source = &found["sources"][0];
        source["state"] != "connected" && source["frames"]["in_flight"] == 0
    });
}

#[test]
fn a_reset_that_fails_in_the_archive_is_reported() {
    let mut daemon = HeldDaemon::start("");
    let (mut mistaken, _) = Client::open(daemon.address(), &hello(MISTAKEN));
    mistaken.deliver(ROUTINE, 0, b"mistaken");
    mistaken.bye([0, 1]);
    wait_offline(daemon.http());
    daemon.fail();
    assert_refused(&reset(daemon.http(), 42), 503, "archive");
    daemon.wait_end();
}

#[test]
fn an_impossible_reset_is_refused_with_a_remedy() {
    let daemon = Daemon::start("");
    let (mut client, _) = Client::open(daemon.address(), &hello(42));
    client.deliver(ROUTINE, 0, b"right");
    client.bye([0, 1]);
    wait_offline(daemon.http());
    let asked = |field: &str, value: Value| {
        let mut body = json!({ "source_id": 7, "kind": "live", "station": "KIRUNA", "epoch": 1 });
        body[field] = value;
        post(daemon.http(), &body)
    };
    for (field, value) in [("source_id", json!(8)), ("kind", json!("replay")), ("station", json!("ESRANGE"))]
    {
        assert_refused(&asked(field, value), 404, "/api/v1/sources");
    }
    assert_refused(&asked("station", json!("X".repeat(65))), 404, "65 bytes");
    for epoch in [42, 43, u64::MAX >> 1] {
        assert_refused(&asked("epoch", json!(epoch)), 409, "is 42");
    }
    let wrong = [
        ("epoch", json!(0), "1 to"),
        ("epoch", json!(1_u64 << 63), "1 to"),
        ("epoch", json!(-1), "epoch"),
        ("epoch", json!(1.5), "whole"),
        ("epoch", json!(1e30), "whole"),
        ("kind", json!("dead"), "live"),
        ("source_id", json!(1_u64 << 32), "source_id"),
        ("more", json!(1), "more"),
    ];
    for (field, value, reason) in wrong {
        assert_refused(&asked(field, value), 422, reason);
    }
    // A JSON number with a decimal point can be a whole number.
    assert_refused(&asked("epoch", json!(43.0)), 409, "above 43");
    let raw = |headers: &[(&str, &str)], body: &[u8]| {
        request(daemon.http(), "POST", "/api/v1/sources/epoch", headers, body)
    };
    assert_eq!(raw(&[], b"{}").status, 415);
    assert_eq!(raw(&[("Content-Type", "application/json")], b"{").status, 400);
    let foreign = [("Content-Type", "application/json"), ("Origin", "http://evil.example")];
    assert_refused(&raw(&foreign, b"{}"), 403, "evil.example");
    let (_waiting, _) = Client::open(daemon.address(), &Hello::new(9));
    daemon.signal(Signal::TERM);
    let answer = wait_until("the drain", || {
        let answer = reset(daemon.http(), 1);
        if answer.status == 503 { Ok(answer) } else { Err(answer.text()) }
    });
    assert_refused(&answer, 503, "draining");
}

#[test]
fn a_reset_needs_the_configured_token() {
    let daemon = Daemon::start("[http]\ntoken = \"let me in\"");
    assert_eq!(reset(daemon.http(), 1).status, 401);
}
