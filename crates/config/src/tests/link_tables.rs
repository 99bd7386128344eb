//! Input links: the tables that are read, and what is printed of them.

use super::*;
use framing::{Cadu, Decode, Fecf, Format, Framing, Kiss, Length, Nctrs, ScidBits};

/// A link of links.md, as written there.
const KIRUNA: &str = r#"
[[links]]
name = "kiruna-x"                     # unique; in log, metrics, API, dashboard
connect = "10.0.8.5:7000"             # or: listen = "0.0.0.0:7490"  |  udp = "0.0.0.0:10015"
greeting = ""                         # bytes (hex) sent after connecting, for equipment that waits for a request
station = "KIRUNA"
framing = { kind = "cadu", length = 1279, derandomize = true, strip = 160 }
decode = { kind = "tm", fecf = "crc16" }
spacecraft = [123]                    # allow-list of spacecraft ids
source = "scid"                       # or "apid", "scid-vcid" (scid << 8 | vcid), or a number
emergency = [ { vcid = [3] }, { offset = 6, mask = 0x80, value = 0x80 } ]    # with decode = packet also { apid = [..] }
idle = "keep"                         # or "drop"
bad = "keep"                          # frames whose check fails: keep (flag BAD_QUALITY) or drop (counted)
when_full = "wait"                    # or "drop-routine" (counted); UDP always drops
silence_timeout = "0s"                # 0: off. A LEO link is silent between passes
peers = ["10.0.8.0/24"]               # who may connect or send; required when listening beyond loopback
enabled = true
"#;

/// A link with these further keys.
pub(super) fn link(keys: &str) -> String {
    format!("[[links]]\nname = \"a\"\n{keys}")
}

/// The only link of a configuration.
fn one(text: &str) -> Link {
    let mut links = config(text).links;
    assert_eq!(links.len(), 1);
    links.remove(0)
}

/// The link of a framing and a decoder.
fn cut(framing: &str, decode: &str) -> Link {
    let decode = if decode.is_empty() { String::new() } else { format!("decode = {{ {decode} }}\n") };
    one(&link(&format!("connect = \"modem:7000\"\nsource = 7\nframing = {{ {framing} }}\n{decode}")))
}

#[test]
fn the_link_that_is_specified_is_read() {
    let link = one(KIRUNA);
    let to = Endpoint::parse("10.0.8.5:7000").unwrap();
    assert_eq!(
        link,
        Link {
            name: "kiruna-x".to_owned(),
            transport: LinkTransport::Connect { to, greeting: Vec::new() },
            tls: false,
            station: frame::Station::new("KIRUNA").unwrap(),
            framing: Framing::Cadu(Cadu { length: 1279, strip: 160, ..Cadu::default() }),
            decode: Decode { format: Format::Tm, fecf: Fecf::Crc16, ..Decode::default() },
            spacecraft: [123].into(),
            source: LinkSource::Spacecraft,
            bad_source: None,
            emergency: vec![
                EmergencyRule::Channels([3].into()),
                EmergencyRule::Byte { offset: 6, mask: 0x80, value: 0x80 },
            ],
            drop_idle: false,
            drop_bad: false,
            when_full: WhenFull::Wait,
            silence_timeout: None,
            max_gap: None,
            max_sources: 64,
            enabled: true,
        }
    );
    let explained = "link kiruna-x: CADUs of 1,279 bytes from 10.0.8.5:7000, TM frames of 1,115 bytes with a CRC of 16 \
                     bits, source = spacecraft id, emergency: virtual channel 3 or byte 6 with mask 0x80 is 0x80";
    assert_eq!(link.to_string(), explained);
    assert!(
        config(KIRUNA).to_toml().contains(&format!("\n\n# {explained}\n[[links]]\nname = \"kiruna-x\"\n"))
    );
}

/// The keys that the text leaves out follow from it.
#[test]
fn the_shortest_links_have_the_defaults() {
    let link = cut("kind = \"fixed\", length = 892", "");
    assert_eq!(link.decode, Decode::default());
    assert_eq!((link.drop_idle, link.drop_bad, link.when_full), (false, false, WhenFull::Wait));
    assert_eq!((link.silence_timeout, link.max_gap, link.enabled), (None, None, true));
    let text = "udp = \"127.0.0.1:10015\"\nsource = 7\nframing = { kind = \"datagram\" }";
    let link = one(&super::link_tables::link(text));
    assert_eq!(link.when_full, WhenFull::DropRoutine);
    let LinkTransport::Udp { multicast: None, interface: None, receive_buffer, .. } = link.transport else {
        panic!("{link:?}")
    };
    assert_eq!(receive_buffer, 4 * MIB);
}

#[test]
fn each_framing_is_read_with_its_keys() {
    for (text, framing) in [
        ("kind = \"packet\"", Framing::Packet { max: 65_542 }),
        ("kind = \"packet\", max = \"2 KiB\"", Framing::Packet { max: 2_048 }),
        ("kind = \"cadu\", length = 1024, derandomize = false, sync_errors = 3, asm = \"1acffc1d\"", {
            Framing::Cadu(Cadu { length: 1_024, derandomize: false, sync_errors: 3, ..Cadu::default() })
        }),
        ("kind = \"fixed\", length = 892", Framing::Fixed { length: 892 }),
        ("kind = \"length\"", Framing::Length(Length { max_frame_length: 65_542, ..Length::default() })),
        (
            "kind = \"length\", length_field_offset = 1, length_field_length = 2, length_adjustment = -3, num_skip = 0, \
             big_endian = false, max_frame_length = 100, strip = 4",
            Framing::Length(Length {
                length_field_offset: 1,
                length_field_length: 2,
                length_adjustment: -3,
                num_skip: Some(0),
                big_endian: false,
                max_frame_length: 100,
                strip: 4,
            }),
        ),
        ("kind = \"kiss\"", Framing::Kiss(Kiss { port: None, max: 65_536 })),
        ("kind = \"kiss\", port = 3, max = 512", Framing::Kiss(Kiss { port: Some(3), max: 512 })),
        ("kind = \"nctrs\"", Framing::Nctrs(Nctrs { max: 65_556 })),
    ] {
        let link = cut(text, "");
        assert_eq!(link.framing, framing, "{text}");
        let format = if text.contains("packet") { Format::Packet } else { Format::None };
        assert_eq!(link.decode.format, format, "{text}");
    }
}

#[test]
fn each_decoder_is_read_with_its_keys() {
    let crc = |format, fecf| Decode { format, fecf, ..Decode::default() };
    for (text, decode) in [
        ("kind = \"tm\"", crc(Format::Tm, Fecf::None)),
        (
            "kind = \"tm\", fecf = \"crc16\", trailer = 4",
            Decode { trailer: 4, ..crc(Format::Tm, Fecf::Crc16) },
        ),
        ("kind = \"aos\", scid_bits = 8", crc(Format::Aos(ScidBits::Eight), Fecf::None)),
        ("kind = \"aos\", scid_bits = 10, insert_zone = 2", {
            Decode { insert_zone: 2, ..crc(Format::Aos(ScidBits::Ten), Fecf::None) }
        }),
        ("kind = \"uslp\", fecf = \"crc32\"", crc(Format::Uslp, Fecf::Crc32)),
        ("kind = \"packet\"", crc(Format::Packet, Fecf::None)),
        ("kind = \"none\"", crc(Format::None, Fecf::None)),
    ] {
        assert_eq!(cut("kind = \"fixed\", length = 892", text).decode, decode, "{text}");
    }
}

#[test]
fn every_key_of_a_link_is_taken_and_printed() {
    let text = link(
        "udp = \"0.0.0.0:10015\"\npeers = [\"10.0.8.0/24\", \"2001:db8::/32\"]\nmulticast = \"239.1.2.3\"\n\
         interface = \"10.0.8.1\"\nreceive_buffer = \"1 MiB\"\nstation = \"say \\\"a\\\"\"\n\
         framing = { kind = \"length\", num_skip = 2 }\n\
         decode = { kind = \"aos\", fecf = \"crc16\", scid_bits = 10, insert_zone = 1, trailer = 2 }\n\
         spacecraft = [157, 9]\nsource = \"scid-vcid\"\nbad_source = 4294967295\n\
         emergency = [{ vcid = [1, 63] }, { offset = 0, value = 1 }]\nidle = \"drop\"\nbad = \"drop\"\n\
         when_full = \"drop-routine\"\nsilence_timeout = \"1h 30m\"\nmax_gap = 99\nenabled = false\n",
    );
    let link = one(&text);
    assert_eq!(
        link.transport,
        LinkTransport::Udp {
            at: "0.0.0.0:10015".parse().unwrap(),
            peers: ["10.0.8.0/24", "2001:db8::/32"].map(|text| Network::parse(text).unwrap()).to_vec(),
            multicast: "239.1.2.3".parse().ok(),
            interface: "10.0.8.1".parse().ok(),
            receive_buffer: MIB,
        }
    );
    assert_eq!((link.source, link.bad_source), (LinkSource::SpacecraftChannel, Some(u32::MAX)));
    assert_eq!((link.drop_idle, link.drop_bad, link.enabled), (true, true, false));
    assert_eq!((link.silence_timeout, link.max_gap), (Some(Duration::from_secs(5_400)), Some(99)));
    assert_eq!(link.emergency[1], EmergencyRule::Byte { offset: 0, mask: 0xFF, value: 1 });
    assert_eq!(
        link.to_string(),
        "link a: units behind a length field of 4 bytes at byte 0 sent to UDP group 239.1.2.3 port 10015, AOS frames with \
         spacecraft ids of 10 bits with a CRC of 16 bits, source = spacecraft id x 256 + virtual channel, emergency: \
         virtual channel 1 or 63 or byte 0 is 0x01, disabled"
    );
    let config = config(&text);
    assert_eq!(super::config(&config.to_toml()), config);
}

#[test]
fn what_is_printed_of_links_reads_back() {
    let packets = link(
        "listen = \"127.0.0.1:7490\"\nframing = { kind = \"packet\" }\nsource = \"apid\"\n\
         emergency = [{ apid = [100, 101] }]\nwhen_full = \"drop-routine\"\n",
    );
    let kiss = "[[links]]\nname = \"b\"\nconnect = \"tnc:8001\"\nframing = { kind = \"kiss\", port = 1 }\nsource = 5\n\
                greeting = \"00ff\"\n";
    let text = format!("{packets}{kiss}{KIRUNA}");
    let config = config(&text);
    assert_eq!(super::config(&config.to_toml()), config);
    let explained: Vec<_> = config.links.iter().map(ToString::to_string).collect();
    assert_eq!(
        explained[..2],
        [
            "link a: space packets of up to 65,542 bytes from a client of 127.0.0.1:7490, one packet a frame, source = \
             APID, emergency: APID 100 or 101",
            "link b: KISS frames of port 1 from tnc:8001, taken as they are, source = 5",
        ]
    );
}

/// Asserts that `text` has one problem, which begins as `expected`.
pub(super) fn says_only(text: &str, expected: &str) {
    let said = errors(text);
    assert!(said.starts_with(&format!("c.toml:{expected}")), "{said}\n{expected}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn a_wrong_key_of_a_link_is_named_with_what_is_allowed() {
    const FIXED: &str =
        "connect = \"modem:7000\"\nsource = 7\nframing = { kind = \"fixed\", length = 892 }\n";
    let fixed = |keys: &str| format!("{FIXED}{keys}");
    let framing = |keys: &str| format!("connect = \"modem:7000\"\nsource = 7\nframing = {{ {keys} }}\n");
    for (keys, expected) in [
        (
            fixed("statoin = \"K\""),
            "6:1: links[0].statoin: unknown key, did you mean station? (allowed here: name, ",
        ),
        (
            fixed("greeting = \"0\""),
            "6:12: links[0].greeting: found \"0\", expected up to 1024 bytes in hex such as \"1ACFFC1D\"",
        ),
        (
            fixed("greeting = \"+1\""),
            "6:12: links[0].greeting: found \"+1\", expected up to 1024 bytes in hex",
        ),
        (
            fixed("station = \"a\\tb\""),
            "6:11: links[0].station: station name \"a\\tb\" contains a control character",
        ),
        (
            fixed("station = 7"),
            "6:11: links[0].station: found the integer 7, expected the name of a station such as \"KIRUNA\"",
        ),
        (
            fixed("spacecraft = [65536]"),
            "6:14: links[0].spacecraft: found an array, expected a list of integers from 0 to 65535 such as [1, 2]",
        ),
        (
            fixed("spacecraft = []"),
            "6:14: links[0].spacecraft: found an array, expected a list of integers from 0 to 65535",
        ),
        (
            fixed("bad_source = -1"),
            "6:14: links[0].bad_source: found the integer -1, expected an integer from 0 to 4294967295",
        ),
        (fixed("idle = \"dorp\""), "6:8: links[0].idle: found \"dorp\", expected one of \"keep\", \"drop\""),
        (fixed("bad = true"), "6:7: links[0].bad: found true, expected one of \"keep\", \"drop\""),
        (
            fixed("when_full = \"drop-rutine\""),
            "6:13: links[0].when_full: found \"drop-rutine\", expected one of \"wait\", \"drop-routine\"; write \"drop-routine\"",
        ),
        (
            fixed("silence_timeout = 30"),
            "6:19: links[0].silence_timeout: found the integer 30, expected a duration such as \"5s\", from 0s to 30days; write \"30s\" if seconds are meant",
        ),
        (
            fixed("max_gap = 0"),
            "6:11: links[0].max_gap: found the integer 0, expected an integer from 1 to 4294967295",
        ),
        (fixed("enabled = \"yes\""), "6:11: links[0].enabled: found \"yes\", expected true or false"),
        (
            fixed("decode = \"tm\""),
            "6:10: links[0].decode: expected a table such as { kind = \"tm\", fecf = \"crc16\" }",
        ),
        (
            fixed("decode = { fecf = \"none\" }"),
            "6:10: links[0].decode.kind: is missing: expected one of \"tm\", \"aos\", \"uslp\", \"packet\", \"none\"",
        ),
        (
            fixed("decode = { kind = \"aso\" }"),
            "6:19: links[0].decode.kind: found \"aso\", expected one of \"tm\", \"aos\", \"uslp\", \"packet\", \"none\"",
        ),
        (
            fixed("decode = { kind = \"tm\", scid_bits = 8 }"),
            "6:25: links[0].decode.scid_bits: unknown key (allowed here: kind, fecf, trailer)",
        ),
        (
            fixed("decode = { kind = \"aos\", scid_bits = 9 }"),
            "6:38: links[0].decode.scid_bits: found the integer 9, expected 8 or 10",
        ),
        (
            fixed("decode = { kind = \"tm\", fecf = \"crc61\" }"),
            "6:32: links[0].decode.fecf: found \"crc61\", expected one of \"none\", \"crc16\", \"crc32\"",
        ),
        (
            fixed("decode = { kind = \"tm\", fecf = \"crc32\" }"),
            "6:32: links[0].decode.fecf: crc32 is the checksum of USLP frames alone; write \"crc16\", or \"none\" where Reed-Solomon is the check",
        ),
        (
            fixed("decode = { kind = \"uslp\", trailer = -1 }"),
            "6:37: links[0].decode.trailer: found the integer -1, expected a number of bytes from 0 to 16515072, such as 1279 or \"2 KiB\"",
        ),
        (
            fixed("emergency = { vcid = [3] }"),
            "6:13: links[0].emergency: expected a list of tables, each written { vcid = [3] }",
        ),
        (fixed("emergency = [3]"), "6:14: links[0].emergency[0]: expected a table, written { vcid = [3] }"),
        (
            fixed("emergency = [{ vcid = [64] }]"),
            "6:23: links[0].emergency[0].vcid: found an array, expected a list of integers from 0 to 63 such as [1, 2]",
        ),
        (
            fixed("emergency = [{ vicd = [3] }]"),
            "6:16: links[0].emergency[0].vicd: unknown key (allowed here: vcid, apid, offset, mask, value)",
        ),
        (
            fixed("emergency = [{ offset = 6 }]"),
            "6:14: links[0].emergency[0]: expected exactly one of { vcid = [3] }, { apid = [100] } and { offset = 6, mask = 0x80, value = 0x80 }",
        ),
        (
            fixed("emergency = [{ vcid = [3], apid = [3] }]"),
            "6:14: links[0].emergency[0]: expected exactly one of ",
        ),
        (
            fixed("emergency = [{ offset = 6, mask = 0x80, value = 0x81 }]"),
            "6:14: links[0].emergency[0]: no byte matches: value 0x81 has bits that are not in mask 0x80",
        ),
        (
            fixed("emergency = [{ offset = 6, mask = 0, value = 0 }]"),
            "6:35: links[0].emergency[0].mask: found the integer 0, expected an integer from 1 to 255",
        ),
        (
            framing("length = 892"),
            "5:11: links[0].framing.kind: is missing: expected one of \"packet\", \"cadu\", ",
        ),
        (
            framing("kind = \"cdau\""),
            "5:20: links[0].framing.kind: found \"cdau\", expected one of \"packet\", \"cadu\", \"fixed\", \"length\", \"kiss\", \"datagram\", \"nctrs\"",
        ),
        (
            framing("kind = \"fixed\", size = 5"),
            "5:29: links[0].framing.size: unknown key (allowed here: kind, length)",
        ),
        (
            framing("kind = \"kiss\", portt = 5"),
            "5:28: links[0].framing.portt: unknown key, did you mean port? (allowed here: kind, port, max)",
        ),
        (
            framing("kind = \"fixed\""),
            "5:11: links[0].framing.length: is missing: expected the bytes of a unit, marker and check symbols included",
        ),
        (
            framing("kind = \"fixed\", length = 0"),
            "5:38: links[0].framing.length: found the integer 0, expected a number of bytes from 1 to 16515072, such as 1279 or \"2 KiB\"",
        ),
        (
            framing("kind = \"cadu\", length = 64, strip = 60"),
            "5:11: links[0].framing: length must be greater than the marker and strip together",
        ),
        (
            framing("kind = \"cadu\", length = 64, asm = \"1ACFFC1\""),
            "5:47: links[0].framing.asm: found \"1ACFFC1\", expected up to 32 bytes in hex such as \"1ACFFC1D\"",
        ),
        (
            framing("kind = \"kiss\", port = 16"),
            "5:35: links[0].framing.port: found the integer 16, expected an integer from 0 to 15",
        ),
        (
            "connect = \"modem:7000\"".to_owned(),
            "1:1: links[0].framing: is missing: expected a table such as { kind = \"fixed\", length = 892 }",
        ),
        (
            "connect = \"modem:7000\"\nframing = \"kiss\"".to_owned(),
            "4:11: links[0].framing: expected a table such as { kind = \"fixed\", length = 892 }",
        ),
        (
            "framing = { kind = \"kiss\" }".to_owned(),
            "1:1: links[0]: expected exactly one of connect, listen and udp",
        ),
        (
            "udp = \"127.0.0.1:1\"\nconnect = \"modem:7000\"\nframing = { kind = \"kiss\" }".to_owned(),
            "1:1: links[0]: expected exactly one of connect, listen and udp",
        ),
        (
            "connect = \"modem\"\nframing = { kind = \"kiss\" }".to_owned(),
            "3:11: links[0].connect: found \"modem\", expected an IP address or the name of a host, and a port, such as \"10.0.8.5:7000\" or \"modem:7000\"",
        ),
        (
            "listen = \"localhost:7490\"\nframing = { kind = \"kiss\" }".to_owned(),
            "3:10: links[0].listen: found \"localhost:7490\", expected an IP address and a port such as",
        ),
        (
            "udp = \"localhost:7490\"\nframing = { kind = \"datagram\" }".to_owned(),
            "3:7: links[0].udp: found \"localhost:7490\", expected an IP address and a port such as",
        ),
    ] {
        says_only(&link(&keys), expected);
    }
}

#[test]
fn a_wrong_transport_key_of_a_link_is_named() {
    for (keys, expected) in [
        (
            "peers = \"10.0.8.0/24\"",
            "9: links[0].peers: expected a list of networks such as [\"10.0.8.0/24\", \"2001:db8::/32\"]",
        ),
        ("peers = [1]", "9: links[0].peers: expected a list of networks such as"),
        ("peers = [\"10.0.8\"]", "9: links[0].peers: found \"10.0.8\", expected a list of networks such as"),
        (
            "peers = [\"10.0.8.5/24\"]",
            "9: links[0].peers: \"10.0.8.5/24\" has bits behind its prefix; write \"10.0.8.0/24\"",
        ),
        (
            "multicast = \"10.0.8.5\"",
            "13: links[0].multicast: found \"10.0.8.5\", expected an IP address of multicast such as \"239.1.2.3\"",
        ),
        (
            "interface = \"eth0\"",
            "13: links[0].interface: found \"eth0\", expected the IPv4 address of an interface of this host such as \"10.0.8.1\"",
        ),
        (
            "receive_buffer = \"1 KiB\"",
            "18: links[0].receive_buffer: found \"1 KiB\", expected a size such as \"64 MiB\", from 4 KiB to 1 GiB",
        ),
        (
            "source = \"sicd\"",
            "10: links[0].source: found \"sicd\", expected \"scid\", \"apid\", \"scid-vcid\" or an integer from 0 to 4294967295",
        ),
        (
            "source = -1",
            "10: links[0].source: found the integer -1, expected \"scid\", \"apid\", \"scid-vcid\" or an integer from 0 to 4294967295",
        ),
    ] {
        let framing = "framing = { kind = \"datagram\" }\nudp = \"127.0.0.1:1\"\n";
        says_only(&link(&format!("{framing}{keys}")), &format!("5:{expected}"));
    }
    for name in ["", "Kiruna", "a b", ".a", "-a", "ä", &"a".repeat(65)] {
        let text = errors(&format!("[[links]]\nname = {name:?}\n"));
        let expected = "expected a name of 1 to 64 characters of a-z, 0-9, \"-\", \"_\" and \".\", which begins with a letter \
                        or a digit";
        assert!(text.contains("c.toml:2:8: links[0].name: found") && text.contains(expected), "{text}");
    }
    let text = errors("[[links]]\nconnect = \"modem:7000\"\nframing = { kind = \"kiss\" }");
    assert_eq!(
        text,
        "c.toml:1:1: links[0].name: is missing: expected a name of its own such as \"kiruna-x\""
    );
    assert_eq!(errors("links = 7"), "c.toml:1:9: links: expected a list of tables, each written [[links]]");
    let many = |count: usize| "[[links]]\n".repeat(count);
    assert_eq!(errors(&many(257)), "c.toml:1:1: links: 257 tables, at most 256 are allowed");
}

#[test]
fn problems_of_all_links_are_reported_at_once() {
    let bad = "connect = 1\nlisten = 2\nframing = { kind = \"cadu\", length = \"x\", strip = \"y\", colour = 1 }\n\
               emergency = [{ mask = -1 }, { vcid = 1 }]\n";
    let text = errors(&format!("{}{}", link(bad), "[[links]]\nframing = 7\n"));
    let keys: Vec<_> = text.lines().map(|line| line.split(": ").nth(1).unwrap()).collect();
    assert_eq!(
        keys,
        [
            "links[0]",
            "links[0].framing.length",
            "links[0].framing.strip",
            "links[0].framing.colour",
            "links[0].emergency[0].mask",
            "links[0].emergency[1].vcid",
            "links[1].framing",
        ],
        "{text}"
    );
}
