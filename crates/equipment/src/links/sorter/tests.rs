//! The source and the lane of units, and which are dropped.

use std::collections::BTreeSet;

use super::*;
use FramePriority::{Emergency, Routine};
use config::Config;
use framing::{Decode, Fecf};

/// The only link of a file with these lines.
fn link(lines: &str) -> Link {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("aggregator.toml");
    let text = format!("[[links]]\nname = \"modem\"\nlisten = \"127.0.0.1:7490\"\n{lines}\n");
    std::fs::write(&path, text).unwrap();
    let loaded = Config::load(Some(&path), std::iter::empty()).unwrap();
    loaded.config.links.into_iter().next().unwrap()
}

fn judge(link: Link, data: Vec<u8>) -> Fate {
    let unit = Unit { data: data.into(), ..Unit::default() };
    Sorter::new(Arc::new(link)).judge(&unit).0
}

/// The first bytes of a TM transfer frame.
fn tm(spacecraft: u16, channel: u8) -> Vec<u8> {
    let id = spacecraft << 4 | u16::from(channel) << 1;
    [&id.to_be_bytes()[..], &[0, 0, 0x18, 0, 0xAA, 0xAA, 0xAA, 0xAA]].concat()
}

fn packet(apid: u16) -> Vec<u8> {
    [&apid.to_be_bytes()[..], &[0xC0, 0, 0, 0, 0xAA]].concat()
}

const TM: &str = "framing = { kind = \"fixed\", length = 10 }\ndecode = { kind = \"tm\" }";

fn kept(source: u32, priority: FramePriority) -> Fate {
    Fate::Keep(Kept { source, priority, is_bad: false, is_idle: false })
}

fn bad(source: u32) -> Fate {
    Fate::Keep(Kept { source, priority: Routine, is_bad: true, is_idle: false })
}

#[test]
fn a_source_is_what_the_rule_says() {
    let by = |rule: &str| link(&format!("{TM}\nspacecraft = [123, 124]\nsource = {rule}"));
    assert_eq!(judge(by("\"scid\""), tm(123, 5)), kept(123, Routine));
    assert_eq!(judge(by("\"scid-vcid\""), tm(124, 5)), kept(124 << 8 | 5, Routine));
    assert_eq!(judge(by("77"), tm(124, 5)), kept(77, Routine));
    let packets = link("framing = { kind = \"packet\" }\nsource = \"apid\"");
    assert_eq!(judge(packets, packet(0x123)), kept(0x123, Routine));
}

#[test]
fn a_bad_frame_goes_where_its_header_has_no_say() {
    let foreign = || tm(200, 0);
    let with = |lines: &str| link(&format!("{TM}\n{lines}"));
    assert_eq!(judge(with("spacecraft = [123]\nsource = \"scid\""), foreign()), bad(123));
    assert_eq!(judge(with("spacecraft = [123, 124]\nsource = \"scid\""), foreign()), Fate::DropBad);
    assert_eq!(judge(with("spacecraft = [123, 124]\nsource = \"scid\"\nbad_source = 9"), foreign()), bad(9));
    assert_eq!(
        judge(with("spacecraft = [123]\nsource = \"scid\"\nbad = \"drop\""), foreign()),
        Fate::DropBad
    );
    assert_eq!(judge(with("spacecraft = [123]\nsource = 5"), foreign()), bad(5));
    assert_eq!(judge(with("spacecraft = [123]\nsource = 5"), vec![0x07]), bad(5), "too short for a header");
    let checked =
        Link { decode: Decode { fecf: Fecf::Crc16, ..with("source = 5").decode }, ..with("source = 5") };
    assert_eq!(judge(checked, tm(123, 0)), bad(5), "a wrong checksum");
}

#[test]
fn a_checksum_or_a_list_of_spacecraft_recognises_a_lone_unit() {
    let check = |lines: &str| Sorter::new(Arc::new(link(lines))).unit_check();
    assert!(check(&format!("{TM}\nsource = 5")).is_none());
    assert!(check(&format!("{TM}\nspacecraft = [123]\nsource = 5")).is_some());
    assert!(check("framing = { kind = \"fixed\", length = 10 }\nsource = 5").is_none());
    let checked = "framing = { kind = \"fixed\", length = 10 }\ndecode = { kind = \"tm\", fecf = \"crc16\" }";
    assert!(check(&format!("{checked}\nsource = 5")).is_some());
}

#[test]
fn an_emergency_needs_one_rule_and_a_good_frame() {
    let rules = "emergency = [{ vcid = [3, 4] }, { offset = 6, mask = 0xF0, value = 0xB0 }]";
    let link = || link(&format!("{TM}\nspacecraft = [123]\nsource = \"scid\"\n{rules}"));
    let with_byte = |byte: u8| {
        let mut frame = tm(123, 0);
        frame[6] = byte;
        frame
    };
    assert_eq!(judge(link(), tm(123, 4)), kept(123, Emergency));
    assert_eq!(judge(link(), tm(123, 5)), kept(123, Routine));
    assert_eq!(judge(link(), with_byte(0xBF)), kept(123, Emergency));
    assert_eq!(judge(link(), with_byte(0xCF)), kept(123, Routine));
    assert_eq!(judge(link(), tm(200, 4)), bad(123), "a damaged header may name any channel");
}

#[test]
fn an_emergency_rule_beyond_the_end_of_a_unit_does_not_hold() {
    let header = Header::default();
    let rule = EmergencyRule::Byte { offset: 4, mask: 0, value: 0 };
    assert!(holds(&rule, &header, &[0; 5]));
    assert!(!holds(&rule, &header, &[0; 4]));
    assert!(!holds(&EmergencyRule::Channels(BTreeSet::from([1])), &header, &[]));
}

#[test]
fn idle_packets_are_dropped_only_where_that_is_configured() {
    let keeps = link("framing = { kind = \"packet\" }\nsource = 5");
    let drops = Link { drop_idle: true, ..keeps.clone() };
    let idle = Fate::Keep(Kept { source: 5, priority: Routine, is_bad: false, is_idle: true });
    assert_eq!(judge(keeps, packet(0x7FF)), idle);
    assert_eq!(judge(drops, packet(0x7FF)), Fate::DropIdle);
}
