//! Output links: the tables that are read, and what is printed of them.

use super::link_tables::says_only;
use super::*;
use frame::{FramePriority, Selection, SourceKind, Station};
use framing::{Decode, Fecf, Format, Length};
use wire::feed::Policy;

/// The output of links.md, as written there.
const YAMCS: &str = r#"
[[outputs]]
name = "yamcs-live"
listen = "127.0.0.1:10011"            # or connect = "..", or udp = ".." (paced by `rate`)
framing = { kind = "bare" }           # bare | length (as above) | cosmos
extract = "none"                      # or "packets": space packets out of tm, aos or uslp frames (decode says which)
select = { sources = [157], kind = "live", priority = "all", stations = [], bad = false, idle = false }
start = "live"                        # live | cursor | earliest
policy = "complete"                   # or "timely", as the feed
clients = 4                           # with start = "cursor": 1
"#;

/// The output of links.md for COSMOS.
const COSMOS: &str = r#"
[[outputs]]
name = "cosmos"
udp = "10.0.9.7:8081"
rate = "512 KiB"
cosmos = { sync = 0xCAFEBABE, target = "SAT", packets = { 100 = "HS", 101 = "EVR" } }
decode = { kind = "packet" }
start = "cursor"
"#;

/// An output with these further keys.
pub(super) fn output(keys: &str) -> String {
    format!("[[outputs]]\nname = \"a\"\n{keys}")
}

/// The only output of a configuration.
fn one(text: &str) -> Output {
    let mut outputs = config(text).outputs;
    assert_eq!(outputs.len(), 1);
    outputs.remove(0)
}

#[test]
fn the_outputs_that_are_specified_are_read() {
    let yamcs = one(YAMCS);
    let live = Selection::of_sources([157]).with_kind(Some(SourceKind::LiveUplink));
    assert_eq!(
        yamcs,
        Output {
            name: "yamcs-live".to_owned(),
            transport: OutputTransport::Listen {
                at: "127.0.0.1:10011".parse().unwrap(),
                peers: Vec::new(),
                clients: 4
            },
            framing: OutputFraming::Bare,
            extract_packets: false,
            decode: None,
            select: OutputSelection { frames: live, stations: [].into(), bad: false, idle: false },
            start: OutputStart::Live,
            policy: Policy::Complete,
            lag_max: None,
            retention_hold: false,
        }
    );
    let explained = "output yamcs-live: live frames of source 157 to up to 4 clients of 127.0.0.1:10011, from the next \
                     frame on";
    assert_eq!(yamcs.to_string(), explained);
    assert!(
        config(YAMCS).to_toml().contains(&format!("\n\n# {explained}\n[[outputs]]\nname = \"yamcs-live\"\n"))
    );

    let cosmos = one(COSMOS);
    let names = [(100, "HS".to_owned()), (101, "EVR".to_owned())].into();
    let header = Cosmos { sync: 0xCAFE_BABE, target: "SAT".to_owned(), packets: names };
    assert_eq!(cosmos.framing, OutputFraming::Cosmos(header));
    assert_eq!(
        cosmos.to_string(),
        "output cosmos: live frames of all sources, as packets of COSMOS target SAT, to UDP 10.0.9.7:8081, at most 512 KiB \
         a second, from where it stood on"
    );
}

/// The keys that the text leaves out follow from it.
#[test]
fn the_shortest_output_has_the_defaults() {
    let short = one(&output("listen = \"127.0.0.1:10011\""));
    let live = Selection::default().with_kind(Some(SourceKind::LiveUplink));
    let select = OutputSelection { frames: live, stations: [].into(), bad: false, idle: false };
    assert_eq!(short.select, select);
    assert_eq!(
        (short.framing, short.start, short.policy),
        (OutputFraming::Bare, OutputStart::Live, Policy::Complete)
    );
    assert_eq!(one(&output("listen = \"127.0.0.1:10011\"")).clients_max(), 4);
    assert_eq!(one(&output("listen = \"127.0.0.1:10011\"\nstart = \"cursor\"")).clients_max(), 1);
    let udp = one(&output("udp = \"127.0.0.1:10011\""));
    assert!(
        matches!(udp.transport, OutputTransport::Udp { bytes_per_s, .. } if bytes_per_s == 4 * MIB),
        "{udp:?}"
    );
}

#[test]
fn every_key_of_an_output_is_taken_and_printed() {
    let text = output(
        "listen = \"0.0.0.0:10012\"\npeers = [\"10.0.8.0/24\"]\nclients = 1\n\
         framing = { kind = \"length\", length_field_length = 2, length_adjustment = 2, big_endian = false }\n\
         extract = \"packets\"\ndecode = { kind = \"tm\", fecf = \"crc16\", trailer = 4 }\nstart = \"earliest\"\n\
         policy = \"timely\"\nselect = { sources = [2, 1], kind = \"replay\", priority = \"emergency\", stations = \
         [\"KIRUNA\"], bad = true, idle = true }\n",
    );
    let long = one(&text);
    assert_eq!(
        long.framing,
        OutputFraming::Length(Length {
            length_field_length: 2,
            length_adjustment: 2,
            big_endian: false,
            max_frame_length: 65_535,
            ..Length::default()
        })
    );
    let frames = Selection::of_sources([1, 2])
        .with_kind(Some(SourceKind::ArchivedReplay))
        .with_priority(Some(FramePriority::Emergency));
    let stations = [Station::new("KIRUNA").unwrap()].into();
    assert_eq!(long.select, OutputSelection { frames, stations, bad: true, idle: true });
    assert_eq!(
        long.decode,
        Some(Decode { format: Format::Tm, fecf: Fecf::Crc16, insert_zone: 0, trailer: 4 })
    );
    assert_eq!(
        (long.extract_packets, long.start, long.policy),
        (true, OutputStart::Earliest, Policy::Timely)
    );
    assert_eq!(
        long.to_string(),
        "output a: space packets out of replayed emergency frames of sources 1, 2 from KIRUNA, each behind a length of 2 \
         bytes, to one client of 0.0.0.0:10012, from the oldest frame on, skipping to the newest when the reader is slow"
    );
    let connect = "[[outputs]]\nname = \"b\"\nconnect = \"mcs:9000\"\nselect = { kind = \"all\", priority = \"routine\" }\n";
    let config = config(&format!("{text}{connect}{YAMCS}{COSMOS}"));
    assert_eq!(super::config(&config.to_toml()), config);
    assert_eq!(
        config.outputs[1].to_string(),
        "output b: routine frames of all sources to mcs:9000, from the next frame on"
    );
}

#[test]
fn a_wrong_key_of_an_output_is_named_with_what_is_allowed() {
    let with = |keys: &str| format!("listen = \"127.0.0.1:10011\"\n{keys}");
    for (keys, expected) in [
        (
            with("strt = \"live\""),
            "4:1: outputs[0].strt: unknown key, did you mean start? (allowed here: name, listen, ",
        ),
        (
            with("start = \"curser\""),
            "4:9: outputs[0].start: found \"curser\", expected one of \"live\", \"cursor\", \"earliest\"; write \"cursor\"",
        ),
        (
            with("policy = \"fast\""),
            "4:10: outputs[0].policy: found \"fast\", expected one of \"complete\", \"timely\"",
        ),
        (
            with("extract = \"frames\""),
            "4:11: outputs[0].extract: found \"frames\", expected one of \"none\", \"packets\"",
        ),
        (
            with("clients = 0"),
            "4:11: outputs[0].clients: found the integer 0, expected an integer from 1 to 1024",
        ),
        (
            "udp = \"127.0.0.1:10011\"\nrate = \"1 B\"".to_owned(),
            "4:8: outputs[0].rate: found \"1 B\", expected a size such as \"64 MiB\", from 1 KiB to 10 GiB",
        ),
        (
            with("rate = \"1 MiB\""),
            "4:8: outputs[0].rate: belongs to udp, and this output has listen: remove it",
        ),
        (
            with("select = [1]"),
            "4:10: outputs[0].select: expected a table such as { sources = [157], kind = \"live\" }",
        ),
        (
            with("select = { source = [1] }"),
            "4:12: outputs[0].select.source: unknown key, did you mean sources? (allowed here: sources, kind, priority, stations, bad, idle)",
        ),
        (
            with("select = { sources = 157 }"),
            "4:22: outputs[0].select.sources: expected a list of source ids from 0 to 4294967295 such as [1, 2]; empty for all",
        ),
        (
            with("select = { stations = [1] }"),
            "4:23: outputs[0].select.stations: expected a list of station names such as",
        ),
        (
            with("select = { kind = \"archived\" }"),
            "4:19: outputs[0].select.kind: found \"archived\", expected one of \"all\", \"live\", \"replay\"",
        ),
        (
            with("select = { priority = \"high\" }"),
            "4:23: outputs[0].select.priority: found \"high\", expected one of \"all\", \"emergency\", \"routine\"",
        ),
        (
            with("select = { bad = 1 }"),
            "4:18: outputs[0].select.bad: found the integer 1, expected true or false",
        ),
        (
            with("framing = { kind = \"kiss\" }"),
            "4:20: outputs[0].framing.kind: found \"kiss\", expected one of \"bare\", \"length\", \"cosmos\"",
        ),
        (
            with("framing = { kind = \"length\", strip = 1 }"),
            "4:30: outputs[0].framing.strip: unknown key (allowed here: kind, length_field_length, length_adjustment, big_endian)",
        ),
        (
            with("framing = { kind = \"length\", length_field_length = 9 }"),
            "4:52: outputs[0].framing.length_field_length: found the integer 9, expected an integer from 1 to 8",
        ),
        (
            with("framing = { kind = \"cosmos\" }"),
            "1:1: outputs[0].cosmos: is missing: expected a table such as { target = \"SAT\", packets = { 100 = \"HS\" } }",
        ),
        (
            with("framing = { kind = \"bare\" }\ncosmos = { target = \"SAT\" }"),
            "5:10: outputs[0].cosmos: belongs to framing = { kind = \"cosmos\" }: remove one of the two",
        ),
        (
            with("cosmos = { sync = 1 }"),
            "4:10: outputs[0].cosmos.target: is missing: expected the name of a COSMOS target such as \"SAT\"",
        ),
        (
            with("cosmos = { target = \"\" }"),
            "4:21: outputs[0].cosmos.target: found \"\", expected a name of 1 to 255 bytes such as \"SAT\"",
        ),
        (
            with("cosmos = { target = \"SAT\", packets = { 2048 = \"HS\" } }"),
            "4:38: outputs[0].cosmos.packets: found a table, expected names by APID such as { 100 = \"HS\", 101 = \"EVR\" }",
        ),
        (
            with("connect = \"mcs:9000\""),
            "1:1: outputs[0]: expected exactly one of listen, connect, udp, nats and aggregator",
        ),
        (
            "connect = \"mcs:9000\"\nclients = 2".to_owned(),
            "4:11: outputs[0].clients: belongs to listen, and this output has connect: remove it",
        ),
        (
            "connect = \"mcs:9000\"\npeers = [\"::/0\"]".to_owned(),
            "4:9: outputs[0].peers: belongs to listen, and this output has connect: remove it",
        ),
        (
            "udp = \"mcs:9000\"".to_owned(),
            "3:7: outputs[0].udp: found \"mcs:9000\", expected an IP address and a port such as",
        ),
        (
            "start = \"live\"".to_owned(),
            "1:1: outputs[0]: expected exactly one of listen, connect, udp, nats and aggregator",
        ),
    ] {
        says_only(&output(&keys), expected);
    }
    let text = errors("[[outputs]]\nlisten = \"127.0.0.1:10011\"");
    assert_eq!(
        text,
        "c.toml:1:1: outputs[0].name: is missing: expected a name of its own such as \"yamcs-live\""
    );
    assert_eq!(
        errors("outputs = 7"),
        "c.toml:1:11: outputs: expected a list of tables, each written [[outputs]]"
    );
    let many = "[[outputs]]\n".repeat(257);
    assert_eq!(errors(&many), "c.toml:1:1: outputs: 257 tables, at most 256 are allowed");
}

#[test]
fn the_format_of_a_source_is_that_of_its_link() {
    let link = |name: &str, station: &str, rest: &str| {
        format!(
            "[[links]]\nname = {name:?}\nconnect = \"modem:1\"\nstation = {station:?}\n\
             framing = {{ kind = \"fixed\", length = 892 }}\n{rest}\n"
        )
    };
    let text = [
        link("any", "", "decode = { kind = \"aos\" }"),
        link("kiruna", "KIRUNA", "decode = { kind = \"tm\", fecf = \"crc16\" }\nspacecraft = [123]"),
        link("svalbard", "SVALBARD", "decode = { kind = \"tm\" }\nsource = 123"),
        link("channels", "", "decode = { kind = \"uslp\" }\nspacecraft = [9]\nsource = \"scid-vcid\""),
        output("listen = \"127.0.0.1:1\""),
    ]
    .concat();
    let Config { links, outputs, .. } = config(&text);
    let mut output = outputs[0].clone();
    let decode = |output: &Output, source, station| {
        let decode = output.decode_of(source, &Station::new(station).unwrap(), &links);
        decode.map(|decode| (decode.format, decode.fecf))
    };
    assert_eq!(decode(&output, 123, "KIRUNA"), Some((Format::Tm, Fecf::Crc16)));
    assert_eq!(decode(&output, 123, "SVALBARD"), Some((Format::Tm, Fecf::None)));
    assert_eq!(decode(&output, 123, "INUVIK"), Some((Format::Tm, Fecf::Crc16)), "the first that names it");
    assert_eq!(decode(&output, (9 << 8) + 3, ""), Some((Format::Uslp, Fecf::None)));
    let aos = Format::Aos(framing::ScidBits::Eight);
    assert_eq!(decode(&output, 5, ""), Some((aos, Fecf::None)), "the link that takes any");
    assert_eq!(decode(&output, 70_000, ""), None, "no spacecraft has this id");
    output.decode = Some(Decode { format: Format::Packet, ..Decode::default() });
    assert_eq!(decode(&output, 5, ""), Some((Format::Packet, Fecf::None)));
    assert_eq!(decode(&output, 70_000, ""), Some((Format::Packet, Fecf::None)));
}
