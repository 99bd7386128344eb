//! Hostile and broken equipment. The rest of the daemon does not notice.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use serde_json::Value;

use crate::equipment::{Numbers, address_of, connect, expect, listening, nctrs_unit, packet, wait_for};
use crate::support::http::request;
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

/// A unit that is no packet, and its bytes in hexadecimal digits.
const IMPOSSIBLE: &[u8] = b"\xE0GET / HTTP/1.1\r\n";
const IMPOSSIBLE_HEX: &str = "e0474554202f20485454502f312e310d0a";

/// The link `modem`, which takes packets.
fn modem() -> String {
    listening("modem", "station = \"KIRUNA\"\nframing = { kind = \"packet\", max = 100 }\nsource = 9")
}

/// Sends a good packet and then a unit that is none. Waits until the link `modem` closes the connection.
fn send_impossible(daemon: &Daemon) {
    let mut modem = connect(daemon, "modem");
    modem.write_all(&[&packet(1, 0, b"good"), IMPOSSIBLE].concat()).unwrap();
    modem.set_read_timeout(Some(LIMIT)).unwrap();
    let _ = modem.read(&mut [0; 1]);
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
    let mut daemon = Daemon::start(&("[log]\nlevel = \"debug\"\n".to_owned() + &modem()));
    send_impossible(&daemon);
    daemon.wait_line(IMPOSSIBLE_HEX);
    let link = wait_for(&daemon, "modem", "the reason", |link| !link["trouble"].is_null());
    let trouble = link["trouble"].as_str().unwrap();
    assert!(trouble.ends_with("packet version 7, expected 0 at byte 10 of the stream"), "{trouble}");
    assert_eq!(link["trouble_bytes"], IMPOSSIBLE_HEX);
    assert_eq!(expect(&daemon, 1)[0].payload, packet(1, 0, b"good"), "the packet before is kept");
    // The next connection is well, so there is neither trouble nor bytes.
    let _modem = connect(&daemon, "modem");
    let link = wait_for(&daemon, "modem", "the connection", |link| link["trouble"].is_null());
    assert_eq!(link["trouble_bytes"], Value::Null);
    daemon.stop();
}

#[test]
fn the_bytes_of_a_refused_unit_are_guarded_like_payloads() {
    let token = [("Authorization", "Bearer let me in")];
    let wrong = [("Authorization", "Bearer let me")];
    let foreign = [("Host", "evil.example")];
    let with_token = "[http]\ntoken = \"let me in\"\n";
    for (config, refused, taken) in
        [("", &[&foreign[..]][..], &[][..]), (with_token, &[&[][..], &wrong, &foreign], &token)]
    {
        let mut daemon = Daemon::start(&(config.to_owned() + &modem()));
        send_impossible(&daemon);
        wait_for(&daemon, "modem", "the reason", |link| !link["trouble"].is_null());
        for headers in refused {
            let answer = request(daemon.http(), "GET", "/api/v1/links", headers, b"");
            assert_eq!(answer.status, 200, "{config} {headers:?}");
            let link = &answer.json()["links"][0];
            assert!(link["trouble"].as_str().unwrap().contains("packet version 7"), "{link:#}");
            assert_eq!(link["trouble_bytes"], Value::Null, "{config} {headers:?}");
            assert!(!answer.text().contains(&IMPOSSIBLE_HEX[..8]), "{config} {headers:?}");
        }
        let answer = request(daemon.http(), "GET", "/api/v1/links", taken, b"");
        assert_eq!(answer.json()["links"][0]["trouble_bytes"], IMPOSSIBLE_HEX, "{config}");
        let line = daemon.wait_line("link disconnected link=\"modem\"");
        assert!(line.contains("packet version 7"), "{line}");
        daemon.stop();
        let shown: Vec<_> =
            daemon.lines().into_iter().filter(|line| line.contains(&IMPOSSIBLE_HEX[..8])).collect();
        assert_eq!(shown, [""; 0], "at the level info, no line has the bytes");
    }
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
