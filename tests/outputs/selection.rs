//! What the selection of an output lets through.

use crate::software::{connect, deliver, listening, packet, read_packet};
use crate::support::{Client, Daemon, EMERGENCY, Frame, Hello, ROUTINE};

const BAD_QUALITY: u8 = 2;

#[test]
fn sources_kinds_lanes_stations_and_quality_select() {
    let output =
        |name: &str, select: &str| listening(name, &format!("start = \"earliest\"\nselect = {select}"));
    let config = output("source", "{ sources = [2] }")
        + &output("replay", "{ kind = \"replay\" }")
        + &output("live", "{ kind = \"live\", sources = [1, 2] }")
        + &output("emergency", "{ priority = \"emergency\" }")
        + &output("station", "{ stations = [\"SVALBARD\"] }")
        + &output("bad", "{ bad = true, sources = [1] }");
    let daemon = Daemon::start(&config);
    let content = |number: u16| packet(number, number, b"content");
    deliver(&daemon, &Hello::new(1).station("KIRUNA"), [content(1)]);
    deliver(&daemon, &Hello::new(2).station("SVALBARD"), [content(2)]);
    deliver(&daemon, &Hello::new(3).kind(1), [content(3)]);
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(4));
    client.deliver(EMERGENCY, 0, &content(4));
    let (mut client, _) = Client::open(daemon.address(), &Hello::new(1).station("KIRUNA").epoch(2));
    let mut bad = Frame::new(ROUTINE, 0, &content(5));
    bad.flags = BAD_QUALITY;
    client.send_frame(&bad);
    client.wait_durable(ROUTINE, 1);
    deliver(&daemon, &Hello::new(2).station("SVALBARD").epoch(3), [content(6)]);
    let (mut last, _) = Client::open(daemon.address(), &Hello::new(1).station("SVALBARD").epoch(3));
    last.deliver(EMERGENCY, 0, &content(7));
    for (name, expected) in [
        ("source", &[2, 6][..]),
        ("replay", &[3]),
        ("live", &[1, 2, 6, 7]),
        ("emergency", &[4, 7]),
        ("station", &[2, 6, 7]),
        ("bad", &[1, 5, 7]),
    ] {
        let mut reader = connect(&daemon, name);
        for number in expected {
            assert_eq!(read_packet(&mut reader), content(*number), "{name}");
        }
    }
}
