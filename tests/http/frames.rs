//! `GET /api/v1/frames`: frames come in pages, in the order of the log.

use serde_json::{Value, json};

use crate::support::http::{get, get_json};
use crate::support::{Client, Daemon, EMERGENCY, Hello, ROUTINE};

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
