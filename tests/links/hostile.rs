//! Hostile and broken equipment. The rest of the daemon does not notice.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::equipment::{Numbers, address_of, connect, expect, listening, packet, wait_for};
use crate::support::{Client, Daemon, Hello, LIMIT, ROUTINE};

const FRAMINGS: [(&str, &str); 6] = [
    ("packet", "framing = { kind = \"packet\", max = 2000 }"),
    ("cadu", "framing = { kind = \"cadu\", length = 1024 }"),
    ("fixed", "framing = { kind = \"fixed\", length = 1000 }"),
    (
        "length",
        "framing = { kind = \"length\", length_field_length = 4, num_skip = 4, max_frame_length = 2000 }",
    ),
    ("kiss", "framing = { kind = \"kiss\", max = 4000 }"),
    ("nctrs", "framing = { kind = \"nctrs\", max = 4000 }"),
];

/// A peer may be cut off while it writes.
fn write_all(socket: &mut TcpStream, bytes: &[u8]) {
    let _ = socket.write_all(bytes);
}

#[test]
fn garbage_on_every_framing_leaves_the_rest_alone() {
    let links = FRAMINGS.iter().enumerate().map(|(index, (name, framing))| {
        let decode = if *name == "nctrs" { "decode = { kind = \"none\" }\n" } else { "" };
        let source = if *name == "nctrs" { "connect" } else { "listen" };
        if source == "connect" {
            return String::new();
        }
        listening(name, &format!("station = \"KIRUNA\"\n{framing}\n{decode}source = {}", 100 + index))
    });
    let mut daemon = Daemon::start(&links.collect::<String>());
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(1));
    let mut numbers = Numbers::new(11);
    for (name, _) in FRAMINGS.iter().filter(|(name, _)| *name != "nctrs") {
        for length in [1, 31, 1_000, 100_000] {
            write_all(&mut connect(&daemon, name), &numbers.bytes(length));
        }
        // Absurd lengths, and headers that never end.
        write_all(&mut connect(&daemon, name), &[0xFF; 70_000]);
        write_all(&mut connect(&daemon, name), &[0xC0; 70_000]);
        write_all(&mut connect(&daemon, name), &[0x00; 70_000]);
    }
    client.deliver(ROUTINE, 0, b"still here");
    let link = wait_for(&daemon, "packet", "the reason", |link| !link["trouble"].is_null());
    assert_eq!(link["state"], "listening");
    client.bye([0, 1]);
    daemon.stop();
}

#[test]
fn an_impossible_packet_ends_the_connection_and_shows_its_first_bytes() {
    let lines = "station = \"KIRUNA\"\nframing = { kind = \"packet\", max = 100 }\nsource = 9";
    let mut daemon = Daemon::start(&listening("modem", lines));
    let mut modem = connect(&daemon, "modem");
    modem.write_all(&packet(1, 0, b"good")).unwrap();
    modem.write_all(b"\xE0GET / HTTP/1.1\r\n").unwrap();
    modem.set_read_timeout(Some(LIMIT)).unwrap();
    let _ = modem.read(&mut [0; 1]);
    let link = wait_for(&daemon, "modem", "the reason", |link| !link["trouble"].is_null());
    let trouble = link["trouble"].as_str().unwrap();
    assert!(trouble.to_lowercase().contains("e0474554202f"), "{trouble}");
    assert_eq!(expect(&daemon, 1)[0].payload, packet(1, 0, b"good"), "the packet before is kept");
    daemon.stop();
}

#[test]
fn a_thousand_connections_are_one_at_the_end() {
    let lines = "station = \"KIRUNA\"\nframing = { kind = \"packet\", max = 2000 }\nsource = 9";
    let mut daemon = Daemon::start(&listening("modem", lines));
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(1));
    let address = address_of(&daemon, "modem");
    let peers: Vec<_> = (0..1_000).filter_map(|_| TcpStream::connect_timeout(&address, LIMIT).ok()).collect();
    client.deliver(ROUTINE, 0, b"still here");
    drop(peers);
    let mut modem = connect(&daemon, "modem");
    modem.write_all(&packet(1, 0, b"good")).unwrap();
    assert_eq!(expect(&daemon, 2)[1].payload, packet(1, 0, b"good"));
    drop(modem);
    client.bye([0, 1]);
    daemon.stop();
}
