//! Links are switched on and off, changed by a reload, and drained.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use crate::equipment::{address_of, connect, expect, listening, packet, receiving, report, sender, wait_for};
use crate::support::http::request;
use crate::support::{Daemon, LIMIT, Signal};

fn of_source(source: u32) -> String {
    format!("station = \"KIRUNA\"\nframing = {{ kind = \"packet\", max = 2000 }}\nsource = {source}")
}

/// Sends POST to the link `name`. Returns the status.
fn post(daemon: &Daemon, name: &str, action: &str) -> u16 {
    request(daemon.http(), "POST", &format!("/api/v1/links/{name}/{action}"), &[], b"").status
}

/// Waits until the daemon closes the connection.
fn expect_end(socket: &mut TcpStream) {
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let end = socket.read(&mut [0; 1]);
    assert!(matches!(end, Ok(0)) || end.is_err_and(|error| error.raw_os_error() == Some(104)));
}

#[test]
fn an_operator_switches_a_link_off_and_on() {
    let mut daemon = Daemon::start(&listening("modem", &of_source(5)));
    let mut modem = connect(&daemon, "modem");
    modem.write_all(&packet(1, 0, b"one")).unwrap();
    expect(&daemon, 1);
    assert_eq!(post(&daemon, "modem", "disable"), 204);
    expect_end(&mut modem);
    wait_for(&daemon, "modem", "off", |link| link["state"] == "disabled");
    assert!(TcpStream::connect(address_of(&daemon, "modem")).is_err(), "a link that is off does not listen");
    assert_eq!(post(&daemon, "modem", "disable"), 204, "it is off already");
    assert_eq!(post(&daemon, "modem", "enable"), 204);
    wait_for(&daemon, "modem", "on", |link| link["state"] == "listening");
    let address = report(&daemon, "modem")["address"].as_str().unwrap().to_owned();
    TcpStream::connect(address).unwrap().write_all(&packet(1, 1, b"two")).unwrap();
    assert_eq!(expect(&daemon, 2)[1].sequence, 1);
    assert_eq!(post(&daemon, "nobody", "enable"), 404);
    daemon.stop();
}

#[test]
fn a_reload_adds_changes_and_removes_links_without_touching_others() {
    let (one, two) = (listening("one", &of_source(1)), listening("two", &of_source(2)));
    let mut daemon = Daemon::start(&(one.clone() + &two));
    let (mut first, mut second) = (connect(&daemon, "one"), connect(&daemon, "two"));
    first.write_all(&packet(1, 0, b"one")).unwrap();
    expect(&daemon, 1);
    second.write_all(&packet(1, 0, b"two")).unwrap();
    expect(&daemon, 2);
    let lines = daemon.reload(&(one.clone() + &listening("three", &of_source(3))));
    assert!(lines.iter().any(|line| line.contains("links")), "{lines:#?}");
    expect_end(&mut second);
    connect(&daemon, "three").write_all(&packet(1, 0, b"three")).unwrap();
    expect(&daemon, 3);
    first.write_all(&packet(1, 1, b"one more")).unwrap();
    expect(&daemon, 4);
    // A changed link ends its connection and goes on with what is new.
    daemon.reload(&listening("one", &of_source(11)));
    expect_end(&mut first);
    wait_for(&daemon, "one", "the new form", |link| link["state"] == "listening");
    let address = report(&daemon, "one")["address"].as_str().unwrap().to_owned();
    TcpStream::connect(address).unwrap().write_all(&packet(1, 2, b"last")).unwrap();
    let sources: Vec<_> = expect(&daemon, 5).iter().map(|frame| frame.source_id).collect();
    assert_eq!(sources, [1, 2, 3, 1, 11]);
    daemon.stop();
}

#[test]
fn the_newest_connection_of_a_listening_link_wins() {
    let mut daemon = Daemon::start(&listening("modem", &of_source(5)));
    let mut old = connect(&daemon, "modem");
    old.write_all(&packet(1, 0, b"one")).unwrap();
    expect(&daemon, 1);
    let mut new = connect(&daemon, "modem");
    expect_end(&mut old);
    new.write_all(&packet(1, 1, b"two")).unwrap();
    let frames = expect(&daemon, 2);
    assert_eq!((frames[1].sequence, frames[1].flags & 1), (1, 1), "a reconnect is a discontinuity");
    drop(new);
    daemon.stop();
}

#[test]
fn a_link_that_connects_greets_and_comes_back() {
    let equipment = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = equipment.local_addr().unwrap();
    let link = format!(
        "[[links]]\nname = \"modem\"\nconnect = \"{address}\"\ngreeting = \"53454e440a\"\n{}",
        of_source(5)
    );
    let mut daemon = Daemon::start(&link);
    for round in 0..2_u8 {
        let (mut socket, _) = equipment.accept().unwrap();
        let mut greeting = [0; 5];
        socket.read_exact(&mut greeting).unwrap();
        assert_eq!(&greeting, b"SEND\n");
        socket.write_all(&packet(1, round.into(), b"frame")).unwrap();
        expect(&daemon, usize::from(round) + 1);
    }
    drop(equipment);
    let link = wait_for(&daemon, "modem", "trouble", |link| {
        let is_waiting = link["state"] == "connecting";
        assert!(is_waiting || link["trouble"].is_null(), "a lost connection is over: {link:#}");
        is_waiting && link["trouble"].as_str().is_some_and(|text| text.contains("cannot connect"))
    });
    assert_eq!(link["counts"]["connects"], 2);
    daemon.stop();
}

#[test]
fn a_silent_connection_ends_where_a_timeout_is_set() {
    let lines = of_source(5) + "\nsilence_timeout = \"300ms\"";
    let mut daemon = Daemon::start(&listening("modem", &lines));
    let mut modem = connect(&daemon, "modem");
    expect_end(&mut modem);
    let link = wait_for(&daemon, "modem", "the reason", |link| !link["trouble"].is_null());
    assert!(link["trouble"].as_str().unwrap().contains("silence_timeout"), "{link:#}");
    daemon.stop();
}

/// The daemon gets SIGTERM while the bytes are in its socket. All of them reach the archive.
#[test]
fn a_drain_reads_what_the_sockets_hold() {
    let links = listening("tcp", &of_source(1)) + &receiving("udp", &of_source(2));
    let mut daemon = Daemon::start(&links);
    let (mut tcp, udp) = (connect(&daemon, "tcp"), sender(&daemon, "udp"));
    tcp.write_all(&packet(1, 0, b"first")).unwrap();
    udp.send(&packet(1, 0, b"first")).unwrap();
    expect(&daemon, 2);
    daemon.signal(Signal::STOP);
    let burst: Vec<_> = (1..500).map(|count| packet(1, count, &[7; 100])).collect();
    tcp.write_all(&burst.concat()).unwrap();
    for packet in &burst {
        udp.send(packet).unwrap();
    }
    daemon.signal(Signal::TERM);
    daemon.signal(Signal::CONT);
    let exit = daemon.wait_exit(LIMIT);
    assert_eq!(exit.code, Some(0));
    let books = daemon.final_books();
    books.assert_balanced();
    assert_eq!((books.archived, books.undelivered), (1_000, 0));
    for source in [1, 2] {
        let frames = daemon.archived();
        let mut of_source = frames.iter().filter(|frame| frame.source_id == source);
        assert!((0..500).all(|sequence| of_source.next().is_some_and(|frame| frame.sequence == sequence)));
    }
}
