//! A stream has one owner at a time: a link, another link, or a client of the daemon's own protocol.

use std::io::Write as _;

use crate::equipment::{connect, expect, listening, packet, tm_frame, wait_for};
use crate::support::http::get_json;
use crate::support::{Client, Daemon, Hello, ROUTINE, code, wait_until};

fn of_source(source: &str) -> String {
    format!("station = \"KIRUNA\"\nframing = {{ kind = \"packet\", max = 2000 }}\nsource = {source}")
}

fn hello() -> Hello {
    let mut hello = Hello::new(5);
    hello.station = "KIRUNA".into();
    hello.epoch = 3;
    hello
}

#[test]
fn a_client_cannot_take_a_stream_from_a_link() {
    let mut daemon = Daemon::start(&listening("modem", &of_source("5")));
    let mut modem = connect(&daemon, "modem");
    modem.write_all(&packet(1, 0, b"one")).unwrap();
    expect(&daemon, 1);
    let refused = Client::refused(daemon.address(), &hello(), code::BUSY);
    assert!(refused.text.contains("link modem"), "{}", refused.text);
    modem.write_all(&packet(1, 1, b"two")).unwrap();
    expect(&daemon, 2);
    drop(modem);
    daemon.wait_line("link disconnected link=\"modem\"");
    // The link has let go of the stream. Another epoch begins its own sequence.
    let (mut client, welcome) = Client::open(daemon.address(), &hello());
    assert_eq!(welcome.epoch, 3);
    client.deliver(ROUTINE, 0, b"three");
    client.bye([0, 1]);
    // The next connection of the link adopts that epoch and goes on.
    connect(&daemon, "modem").write_all(&packet(1, 2, b"four")).unwrap();
    let frames = expect(&daemon, 4);
    let places: Vec<_> = frames.iter().map(|frame| (frame.epoch, frame.sequence)).collect();
    assert_eq!(places, [(1, 0), (1, 1), (3, 0), (3, 1)]);
    daemon.stop();
}

#[test]
fn a_link_does_not_take_a_stream_from_a_client() {
    let mut daemon = Daemon::start(&listening("modem", &of_source("5")));
    let (mut client, welcome) = Client::open(daemon.address(), &hello());
    client.deliver(ROUTINE, 0, b"one");
    let mut modem = connect(&daemon, "modem");
    modem.write_all(&packet(1, 0, b"two")).unwrap();
    let link = wait_for(&daemon, "modem", "a refusal", |link| link["counts"]["refused"] == 1);
    let trouble = link["trouble"].as_str().expect("the reason");
    assert!(trouble.contains(&format!("session {}", welcome.session_id)), "{trouble}");
    client.bye([0, 1]);
    daemon.stop();
}

#[test]
fn two_links_on_a_stream_are_one_owner_and_one_that_waits() {
    let links = listening("prime", &of_source("5")) + &listening("backup", &of_source("5"));
    let mut daemon = Daemon::start(&links);
    let (mut prime, mut backup) = (connect(&daemon, "prime"), connect(&daemon, "backup"));
    prime.write_all(&packet(1, 0, b"one")).unwrap();
    expect(&daemon, 1);
    backup.write_all(&packet(1, 0, b"one")).unwrap();
    let link = wait_for(&daemon, "backup", "a refusal", |link| link["counts"]["refused"] == 1);
    assert!(link["trouble"].as_str().unwrap().contains("link prime"), "{link:#}");
    drop(prime);
    daemon.wait_line("link disconnected link=\"prime\"");
    // The backup asks again after a second. Each packet before is refused.
    let mut count = 0;
    wait_until("the stream of the backup", || {
        count += 1;
        backup.write_all(&packet(1, count, b"two")).unwrap();
        let link = wait_for(&daemon, "backup", "the packet", |link| link["counts"]["units"] == count + 1);
        if link["counts"]["kept"] == 1 { Ok(()) } else { Err(format!("{link:#}")) }
    });
    assert_eq!(expect(&daemon, 2)[1].payload, packet(1, count, b"two"));
    daemon.stop();
}

#[test]
fn damaged_headers_make_no_streams() {
    let lines = r#"
        station = "KIRUNA"
        framing = { kind = "fixed", length = 64 }
        decode = { kind = "tm", fecf = "none" }
        spacecraft = [123]
        source = "scid"
    "#;
    let mut daemon = Daemon::start(&listening("modem", lines));
    let mut modem = connect(&daemon, "modem");
    modem.write_all(&tm_frame(123, 0, 0, 64, 0xAA)).unwrap();
    for foreign in 0..1_000_u16 {
        let foreign = if foreign == 123 { 1_001 } else { foreign };
        modem.write_all(&tm_frame(foreign, 0, 0, 64, 0xAA)).unwrap();
    }
    modem.write_all(&tm_frame(123, 0, 1, 64, 0xAA)).unwrap();
    let link = wait_for(&daemon, "modem", "all units", |link| link["counts"]["units"] == 1_002);
    assert_eq!((&link["counts"]["bad"], &link["counts"]["kept"]), (&1_000.into(), &1_002.into()));
    let channel = &link["channels"][0];
    assert_eq!(
        (&channel["received"], &channel["missing"], &channel["restarts"]),
        (&2.into(), &0.into(), &0.into())
    );
    let sources = get_json(daemon.http(), "/api/v1/sources");
    assert_eq!(sources["sources"].as_array().unwrap().len(), 1, "{sources:#}");
    let frames = expect(&daemon, 1_002);
    assert!(frames.iter().all(|frame| frame.source_id == 123));
    let bad = |flags: u8| flags & 2 != 0;
    assert!(
        !bad(frames[0].flags) && !bad(frames[1_001].flags) && frames[1..1_001].iter().all(|f| bad(f.flags))
    );
    daemon.stop();
}
