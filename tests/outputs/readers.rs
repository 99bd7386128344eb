//! What operators see of an output and its readers.

use api::{Output, OutputState};
use config::Config;

use crate::software::{address_of, listening, packet, read_packet, report, with_limit};
use crate::support::http::{get, get_json};
use crate::support::inside::Inside;
use crate::support::{Client, Daemon, Hello, ROUTINE, wait_until};

/// Waits until the report of the only output is as wanted.
fn wait_for(daemon: &Inside, what: &str, is_met: impl Fn(&Output) -> bool) -> Output {
    wait_until(what, || match daemon.outputs.list().report("yamcs", 0..64) {
        Some(output) if is_met(&output) => Ok(output),
        output => Err(format!("{output:#?}")),
    })
}

#[test]
fn the_view_shows_readers_positions_and_counts_and_an_operator_switches() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("aggregator.toml");
    let output = listening("yamcs", "start = \"earliest\"\nselect = { stations = [\"KIR\"] }");
    std::fs::write(&file, output).unwrap();
    let outputs = Config::load(Some(&file), std::iter::empty()).unwrap().config.outputs;
    let daemon = Inside::start(dir.path(), |config| config.outputs = outputs);
    let is_listening = |output: &Output| output.state == OutputState::Listening && output.address.is_some();
    let view = wait_for(&daemon, "it listens", is_listening);
    let mut reader = with_limit(std::net::TcpStream::connect(view.address.unwrap()).unwrap());
    let (mut client, _) = Client::open(daemon.address, &Hello::new(1).station("KIR"));
    client.deliver(ROUTINE, 0, &packet(1, 0, b"one"));
    let (mut other, _) = Client::open(daemon.address, &Hello::new(2).station("SVA"));
    other.deliver(ROUTINE, 0, &packet(1, 0, b"two"));
    assert_eq!(read_packet(&mut reader), packet(1, 0, b"one"));
    let view =
        wait_for(&daemon, "both frames", |view| view.readers.first().is_some_and(|it| it.next_offset == 2));
    assert_eq!(view.state, OutputState::Connected);
    assert_eq!(view.readers[0].peer, reader.local_addr().unwrap().to_string());
    let counts = view.counts;
    assert_eq!((counts.frames, counts.filtered, counts.connects), (1, 1, 1));
    assert_eq!(counts.bytes, packet(1, 0, b"one").len() as u64);

    let switch = |name: &str, is_on| daemon.runtime.block_on(daemon.outputs.switch(name, is_on)).unwrap();
    assert!(switch("yamcs", false));
    assert_eq!(std::io::Read::read(&mut reader, &mut [0; 1]).unwrap(), 0, "the reader is cut off");
    wait_for(&daemon, "it is off", |view| view.state == OutputState::Disabled && view.readers.is_empty());
    assert!(!switch("nobody", true));
    assert!(switch("yamcs", true));
    let view = wait_for(&daemon, "it is on", is_listening);
    let mut reader = with_limit(std::net::TcpStream::connect(view.address.unwrap()).unwrap());
    assert_eq!(read_packet(&mut reader), packet(1, 0, b"one"));
    assert!(!daemon.stop().failed);
}

#[test]
fn the_list_shows_the_first_readers_and_the_rest_comes_in_pages() {
    let daemon = Daemon::start(&listening("yamcs", "clients = 70"));
    let address = address_of(&daemon, "yamcs");
    let readers: Vec<_> = (0..70).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    let output = wait_until("all readers", || match report(&daemon, "yamcs") {
        output if output["readers_total"] == 70 => Ok(output),
        output => Err(format!("{output:#}")),
    });
    assert_eq!(output["readers"].as_array().unwrap().len(), 64);
    assert_eq!(output["slowest_offset"], 0);
    let page = get_json(daemon.http(), "/api/v1/outputs/yamcs/readers?offset=64");
    assert_eq!((&page["total"], page["readers"].as_array().unwrap().len()), (&70.into(), 6));
    let all = get_json(daemon.http(), "/api/v1/outputs/yamcs/readers");
    let mut peers: Vec<_> = readers.iter().map(|reader| reader.local_addr().unwrap().to_string()).collect();
    let mut found: Vec<_> =
        all["readers"].as_array().unwrap().iter().map(|one| one["peer"].clone()).collect();
    peers.sort_unstable();
    found.sort_unstable_by_key(ToString::to_string);
    assert_eq!(found, peers);
    assert_eq!(get(daemon.http(), "/api/v1/outputs/nobody/readers").status, 404);
}
