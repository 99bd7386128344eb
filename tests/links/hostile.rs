//! Hostile and broken equipment. The rest of the daemon does not notice.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use crate::equipment::{Numbers, address_of, connect, expect, listening, nctrs_unit, packet, wait_for};
use crate::support::{Client, Daemon, Hello, LIMIT, ROUTINE};

const FRAMINGS: [(&str, &str); 5] = [
    ("packet", "framing = { kind = \"packet\", max = 2000 }"),
    ("cadu", "framing = { kind = \"cadu\", length = 1024 }"),
    ("fixed", "framing = { kind = \"fixed\", length = 1000 }"),
    (
        "length",
        "framing = { kind = \"length\", length_field_length = 4, num_skip = 4, max_frame_length = 2000 }",
    ),
    ("kiss", "framing = { kind = \"kiss\", max = 4000 }"),
];

/// Random bytes, absurd lengths, and headers that never end.
fn garbage() -> Vec<Vec<u8>> {
    let mut numbers = Numbers::new(11);
    let random = [1, 31, 1_000, 100_000].map(|length| numbers.bytes(length));
    let fills = [0xFF, 0xC0, 0x00].map(|fill| vec![fill; 70_000]);
    random.into_iter().chain(fills).collect()
}

/// A peer may be cut off while it writes.
fn write_all(socket: &mut TcpStream, bytes: &[u8]) {
    let _ = socket.write_all(bytes);
}

#[test]
fn garbage_on_every_framing_leaves_the_rest_alone() {
    let links = FRAMINGS.iter().zip(100..).map(|((name, framing), source)| {
        listening(name, &format!("station = \"KIRUNA\"\n{framing}\nsource = {source}"))
    });
    let mut daemon = Daemon::start(&links.collect::<String>());
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(1));
    for (name, _) in FRAMINGS {
        for bytes in garbage() {
            write_all(&mut connect(&daemon, name), &bytes);
        }
    }
    client.deliver(ROUTINE, 0, b"still here");
    let link = wait_for(&daemon, "packet", "the reason", |link| !link["trouble"].is_null());
    assert_eq!(link["state"], "listening");
    client.bye([0, 1]);
    daemon.stop();
}

/// An NCTRS is connected to. Each link gets other garbage, so that no link waits long before it connects again.
#[test]
fn garbage_of_an_nctrs_ends_the_connection_and_the_link_comes_back() {
    let garbage = garbage();
    let equipment: Vec<_> = garbage.iter().map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let links = equipment.iter().zip(100..).map(|(listener, source)| {
        format!(
            "[[links]]\nname = \"nctrs-{source}\"\nconnect = \"{}\"\nstation = \"KOUROU\"\nsource = {source}\n\
             framing = {{ kind = \"nctrs\", max = 4000 }}\n",
            listener.local_addr().unwrap()
        )
    });
    let mut daemon = Daemon::start(&links.collect::<String>());
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(1));
    for (listener, bytes) in equipment.iter().zip(&garbage) {
        write_all(&mut listener.accept().unwrap().0, bytes);
    }
    client.deliver(ROUTINE, 0, b"still here");
    let good = nctrs_unit(0, b"good");
    let again: Vec<_> = equipment.iter().map(|listener| listener.accept().unwrap().0).collect();
    again.iter().for_each(|mut socket| socket.write_all(&good).unwrap());
    let frames = expect(&daemon, 1 + again.len());
    let mut sources: Vec<_> = frames[1..].iter().map(|frame| frame.source_id).collect();
    sources.sort_unstable();
    assert!(sources.into_iter().eq((100..).take(again.len())), "each link has come back");
    assert!(frames[1..].iter().all(|frame| frame.payload == b"good"), "no frame was made of garbage");
    for (name, reason) in
        [("nctrs-104", "at most 4000 are allowed"), ("nctrs-106", "shorter than its header")]
    {
        let line = daemon.wait_line(&format!("link disconnected link=\"{name}\""));
        assert!(line.contains(reason), "{line}");
    }
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
