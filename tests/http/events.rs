//! `GET /api/v1/stream`: everything once, then changes.

use serde_json::json;

use crate::support::http::{get_json, open, open_over};
use crate::support::{Client, Daemon, Hello, ROUTINE, connect_from, wait_until};

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
    wait_until("a free place", || match open(daemon.http(), "GET", "/api/v1/stream", &[], b"").head().0 {
        200 => Ok(()),
        status => Err(status.to_string()),
    });
}
