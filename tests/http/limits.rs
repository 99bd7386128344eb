//! Clients that read or send slowly, or not at all, are bounded and delay no other client.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use crate::support::elements::text_of;
use crate::support::http::{Stream, get, get_json, open, request};
use crate::support::{Client, Daemon, Hello, LIMIT, ROUTINE, connect_from, wait_until};

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
    wait_until("room for a long answer", || match get(daemon.http(), "/api/v1/catalog?format=tle").status {
        200 => Ok(()),
        status => Err(status.to_string()),
    });
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
    let put_short = |satellites| request(host, "PUT", "/api/v1/catalog", &[], text_of(satellites).as_bytes());
    let (text, long) = (text_of(30_000), 4 << 20);
    let slow: Vec<_> = (0..8).map(|_| put(long, &text[..1_000])).collect();
    for count in [1, 2, 3] {
        let other = put_short(count);
        assert_eq!(other.status, 200, "{}", other.text());
    }
    drop(slow);
    // One limit holds for all received bodies together: two bodies of the greatest length.
    let held = wait_until("bodies that use up the room", || {
        let held: Vec<_> = (0..2).map(|_| put(long, &text[..long - 1])).collect();
        let refused = put_short(4);
        if refused.status != 503 {
            return Err(refused.text());
        }
        assert!(refused.text().contains("ask again"), "{}", refused.text());
        Ok(held)
    });
    drop(held);
    wait_until("room for a body", || match put_short(5) {
        taken if taken.status == 200 => Ok(()),
        refused => Err(refused.text()),
    });
    // The daemon reads nothing of a body that is too long.
    let mut huge = TcpStream::connect(host).unwrap();
    huge.set_read_timeout(Some(LIMIT)).unwrap();
    write!(huge, "PUT /api/v1/catalog HTTP/1.1\r\nHost: {host}\r\nContent-Length: 999999999999\r\n\r\n")
        .unwrap();
    let mut answer = [0; 12];
    std::io::Read::read_exact(&mut huge, &mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}
