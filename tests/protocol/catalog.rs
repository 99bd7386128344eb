//! The catalog on the wire: which clients get it, when, and which catalog is in force after a restart.

use std::net::{SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

use crate::support::command::{aggregator, expect_exit, uplink_sim};
use crate::support::elements::text_of;
use crate::support::inside::Inside;
use crate::support::message::{bye, ping};
use crate::support::{Client, Daemon, Hello, NO_ACK, ROUTINE, Server, WANT_CATALOG};

/// Most bytes of data in one part, from docs/catalog.md.
const PART_BYTES_MAX: usize = 16 << 10;

fn wants(source_id: u32) -> Hello {
    Hello::new(source_id).flags(WANT_CATALOG)
}

/// Reads until a version is complete. The first list names the versions that the server did not finish.
fn next_catalog(client: &mut Client) -> (Vec<u64>, u64, Vec<u8>) {
    let (mut given_up, mut begun, mut data) = (Vec::new(), None, Vec::new());
    loop {
        let (part, parts, version, bytes) = match client.next_answering() {
            Server::Catalog { format: 0, part, parts, version, data } => (part, parts, version, data),
            Server::Ack(_) => continue,
            other => panic!("a part of the catalog is due, not {other:?}"),
        };
        if part == 0 {
            given_up.extend(begun.replace((version, 0)).map(|(version, _)| version));
            data.clear();
        }
        assert_eq!(begun, Some((version, part)), "parts come in order");
        assert!(bytes.len() <= PART_BYTES_MAX, "a part of {} bytes", bytes.len());
        data.extend(bytes);
        begun = Some((version, part + 1));
        if part + 1 == parts {
            return (given_up, version, data);
        }
    }
}

/// Asserts that the server sends nothing except the answer to a PING.
fn assert_quiet(client: &mut Client) {
    client.send(&ping(9));
    assert_eq!(client.next(), Server::Pong(9));
}

#[test]
fn the_configured_catalog_follows_the_first_acks_if_requested() {
    let dir = tempfile::tempdir().unwrap();
    let text = text_of(200);
    std::fs::write(dir.path().join("fleet.tle"), &text).unwrap();
    let mut daemon = Daemon::start_at(dir, "[catalog]\nfile = \"fleet.tle\"");
    daemon.wait_line("fleet.tle");
    let (mut client, _) = Client::open(daemon.address(), &wants(1));
    let (given_up, version, data) = next_catalog(&mut client);
    assert_eq!((given_up, String::from_utf8(data).unwrap()), (vec![], text.clone()));
    assert!(version > 0);
    assert_quiet(&mut client);
    client.deliver(ROUTINE, 0, b"frames go on");

    let (mut other, _) = Client::open(daemon.address(), &Hello::new(2));
    assert_quiet(&mut other);

    let (mut no_ack, _) = Client::welcomed(daemon.address(), &wants(3).epoch(0).flags(WANT_CATALOG | NO_ACK));
    assert_eq!(next_catalog(&mut no_ack).2, text.as_bytes());
    drop((client, other, no_ack));
    assert_eq!(daemon.stop().archived, 1);
}

#[test]
fn a_daemon_without_a_catalog_sends_the_first_one_as_soon_as_it_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Inside::start(dir.path(), |_| {});
    let (mut client, _) = Client::open(daemon.address, &wants(1));
    assert_quiet(&mut client);
    for satellites in [3, 150, 1] {
        let given = daemon.catalog.replace(text_of(satellites)).unwrap();
        let (given_up, version, data) = next_catalog(&mut client);
        assert_eq!((given_up, version), (vec![], given.version()));
        assert_eq!(data, text_of(satellites).as_bytes());
    }
    let before = daemon.catalog.current().version();
    let bad = text_of(2).replace("51.6416", "51.6417");
    let error = daemon.catalog.replace(bad).unwrap_err().to_string();
    assert!(error.starts_with("line 3: checksum is ") && error.ends_with(" (SAT 10000)"), "{error}");
    assert_eq!(daemon.catalog.current().version(), before);
    assert_quiet(&mut client);
    drop(client);
    assert_eq!(daemon.stop().exit_code(), 0);
}

#[test]
fn a_catalog_of_an_operator_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Inside::start(dir.path(), |_| {});
    let version = daemon.catalog.replace(text_of(5)).unwrap().version();
    daemon.stop();
    let daemon = Inside::start(dir.path(), |_| {});
    let (mut client, _) = Client::open(daemon.address, &wants(1));
    assert_eq!(next_catalog(&mut client), (vec![], version, text_of(5).into_bytes()));
    drop(client);
    daemon.stop();
}

/// Connects a socket with a small receive buffer.
fn narrow(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4 << 10).unwrap();
    socket.connect(&address.into()).unwrap();
    socket.into()
}

/// A catalog larger than the buffers of both sockets on the way to a [`narrow`] client.
fn large(satellites: usize) -> String {
    let comment = format!("#{}\n", "x".repeat(1 << 20));
    format!("{}{}", text_of(satellites), comment.repeat(3) + &comment[..900 << 10])
}

#[test]
fn a_client_that_does_not_read_may_miss_versions_except_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Inside::start(dir.path(), |_| {});
    let first = daemon.catalog.replace(large(1)).unwrap().version();
    let mut client = Client::over(narrow(daemon.address));
    client.send(&wants(1).bytes());
    client.expect_welcome();
    client.expect_first_acks();
    let Server::Catalog { part: 0, parts, version, .. } = client.next() else { panic!("part 0 is due") };
    assert_eq!((version, usize::from(parts)), (first, large(1).len().div_ceil(PART_BYTES_MAX)));
    for satellites in 2..20 {
        daemon.catalog.replace(large(satellites)).unwrap();
    }
    let newest = daemon.catalog.replace(text_of(20)).unwrap().version();
    let mut complete = Vec::new();
    // The test has read only one part of the first version.
    let mut next_part = 1;
    let version = loop {
        match client.next_answering() {
            Server::Catalog { part: 0, parts, version, data, .. } => {
                if (version, parts) == (newest, 1) {
                    assert_eq!(data, text_of(20).as_bytes());
                    break version;
                }
                next_part = 1;
            }
            Server::Catalog { part, parts, version, .. } => {
                assert_eq!(part, next_part);
                next_part += 1;
                complete.extend((next_part == parts).then_some(version));
            }
            Server::Ack(_) => {}
            other => panic!("a part of the catalog is due, not {other:?}"),
        }
    };
    assert_eq!(version, newest);
    assert_eq!(complete, Vec::<u64>::new(), "nothing old was sent to its end");
    assert_quiet(&mut client);
    drop(client);
    assert_eq!(daemon.stop().exit_code(), 0);
}

#[test]
fn a_client_that_says_bye_gets_the_complete_catalog() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Inside::start(dir.path(), |_| {});
    daemon.catalog.replace(large(1)).unwrap();
    let mut client = Client::connect(daemon.address);
    client.send(&[wants(1).bytes(), bye([0, 0])].concat());
    client.expect_welcome();
    client.expect_first_acks();
    assert_eq!(next_catalog(&mut client).2, large(1).as_bytes());
    assert_eq!(client.expect_bye(), [0, 0]);
    daemon.stop();
}

#[test]
fn a_drain_does_not_wait_for_clients_that_do_not_read_the_catalog() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Inside::start(dir.path(), |_| {});
    daemon.catalog.replace(large(1)).unwrap();
    let clients = [&wants(1).bytes()[..], &[wants(2).bytes(), bye([0, 0])].concat()].map(|hello| {
        let mut client = Client::over(narrow(daemon.address));
        client.send(hello);
        client.expect_welcome();
        client.expect_first_acks();
        client
    });
    assert_eq!(daemon.stop().exit_code(), 0);
    drop(clients);
}

#[test]
fn a_bad_catalog_file_fails_the_start_with_its_name_and_line() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("fleet.tle"), "# none\nISS\n").unwrap();
    let config = "[ingest]\nlisten = \"127.0.0.1:0\"\n[feed]\nlisten = \"127.0.0.1:0\"\n[catalog]\nfile = \"fleet.tle\"";
    std::fs::write(dir.path().join("aggregator.toml"), config).unwrap();
    let (_, error) =
        expect_exit(aggregator(["run", "--config", "aggregator.toml"]).current_dir(dir.path()), 1);
    let expected =
        "fleet.tle, line 2: the text ends, but line 1 of the element set is due (ISS) (catalog.file)";
    assert!(error.contains(expected), "{error}");
    let (_, error) =
        expect_exit(aggregator(["check", "--config", "aggregator.toml"]).current_dir(dir.path()), 2);
    assert!(error.contains(expected), "{error}");
}

#[test]
fn the_simulator_reports_and_saves_what_it_received() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = Inside::start(dir.path(), |_| {});
    let version = daemon.catalog.replace(text_of(300)).unwrap().version();
    let saved = dir.path().join("received.tle");
    let address = daemon.address.to_string();
    let args = ["--connect", &address, "--satellites", "3", "--replays", "1", "--frames", "10"];
    let mut sim = uplink_sim(args);
    sim.args(["--report", "json", "--save-catalog"]).arg(&saved);
    let (report, _) = expect_exit(&mut sim, 0);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["catalog"], serde_json::json!({"versions": 1, "complete": 4, "newest": version}));
    assert_eq!(std::fs::read_to_string(saved).unwrap(), text_of(300));

    let (report, _) = expect_exit(uplink_sim(args).arg("--catalog"), 0);
    let line = format!("catalog versions 1, received complete 4, newest {version}");
    assert!(report.contains(&line), "{report}");
    assert_eq!(daemon.stop().exit_code(), 0);
}
