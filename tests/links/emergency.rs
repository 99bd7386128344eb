//! Emergencies of links.

use std::io::Write as _;

use crate::equipment::{cadu, connect, expect, listening, packet, tm_frame};
use crate::support::{Daemon, EMERGENCY, ROUTINE};

#[test]
fn a_virtual_channel_a_byte_and_an_application_make_emergencies() {
    let tm = r#"
        station = "KIRUNA"
        framing = { kind = "cadu", length = 104, derandomize = true }
        decode = { kind = "tm", fecf = "crc16" }
        spacecraft = [123]
        source = "scid"
        emergency = [ { vcid = [3] }, { offset = 6, mask = 0x80, value = 0x80 } ]
    "#;
    let packets = "station = \"KIRUNA\"\nframing = { kind = \"packet\", max = 2000 }\nsource = 9\nemergency = [ { apid = [77] } ]";
    let mut daemon = Daemon::start(&(listening("tm", tm) + &listening("packets", packets)));
    let frames = [(0, 0x00), (3, 0x00), (0, 0x80), (1, 0x7F)];
    let bytes: Vec<_> = frames
        .iter()
        .flat_map(|(channel, content)| cadu(&tm_frame(123, *channel, 0, 100, *content), 0))
        .collect();
    connect(&daemon, "tm").write_all(&bytes).unwrap();
    let found = expect(&daemon, 4);
    let lane_of = |content: u8, channel: u8| {
        let sent = tm_frame(123, channel, 0, 100, content);
        found.iter().find(|frame| frame.payload == sent).expect("the frame").lane
    };
    assert_eq!(
        [lane_of(0x00, 0), lane_of(0x00, 3), lane_of(0x80, 0), lane_of(0x7F, 1)],
        [ROUTINE, EMERGENCY, EMERGENCY, ROUTINE]
    );
    connect(&daemon, "packets")
        .write_all(&[packet(76, 0, b"routine"), packet(77, 0, b"abort")].concat())
        .unwrap();
    let found = expect(&daemon, 6);
    let mut lanes: Vec<_> =
        found[4..].iter().map(|frame| (frame.lane, frame.payload[0..2].to_vec())).collect();
    lanes.sort();
    assert_eq!(lanes.iter().map(|(lane, _)| *lane).collect::<Vec<_>>(), [EMERGENCY, ROUTINE]);
    assert_eq!(lanes[0].1, 0x084D_u16.to_be_bytes());
    daemon.stop();
}
