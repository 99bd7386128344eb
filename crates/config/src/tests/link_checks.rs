//! Checks of links and outputs, alone and together.

use super::link_tables::link;
use super::output_tables::output;
use super::*;

const FIXED: &str = "connect = \"modem:7000\"\nframing = { kind = \"fixed\", length = 892 }\n";

/// Asserts that the link with these keys has this one problem.
#[track_caller]
fn refused(keys: &str, expected: &str) {
    let text = errors(&link(keys));
    assert_eq!(text, format!("c.toml:{expected}"), "of {keys}");
}

#[test]
fn names_are_unique_in_their_list() {
    let fixed = format!("{FIXED}source = 7\n");
    let text = errors(&format!("{0}{0}", link(&fixed)));
    assert_eq!(text, "c.toml:7:8: links[1].name: \"a\" is the name of links[0] too: give each its own");
    let out = output("connect = \"mcs:9000\"\n");
    let text = errors(&out.repeat(2));
    assert_eq!(text, "c.toml:5:8: outputs[1].name: \"a\" is the name of outputs[0] too: give each its own");
    config(&format!("{}{out}", link(&fixed)));
}

#[test]
fn listeners_of_links_and_outputs_have_ports_of_their_own() {
    let packets = "framing = { kind = \"packet\" }\nsource = \"apid\"\n";
    let tcp = |port: u16| link(&format!("listen = \"127.0.0.1:{port}\"\n{packets}"));
    let udp = |port: u16| link(&format!("udp = \"127.0.0.1:{port}\"\n{packets}")).replace("\"a\"", "\"b\"");
    let out = |port: u16| output(&format!("listen = \"127.0.0.1:{port}\"\n"));
    assert_eq!(
        errors(&tcp(7480)),
        "c.toml:3:10: links[0].listen: ingest.listen = 127.0.0.1:7480 and links[0].listen = 127.0.0.1:7480 collide: give \
         each a port of its own"
    );
    let text = errors(&format!("{}{}", tcp(1), out(1)));
    assert!(
        text.contains("links[0].listen = 127.0.0.1:1 and outputs[0].listen = 127.0.0.1:1 collide"),
        "{text}"
    );
    let text = errors(&format!("{}{}", udp(1), udp(1).replace("\"b\"", "\"c\"")));
    assert!(text.contains("links[0].udp = 127.0.0.1:1 and links[1].udp = 127.0.0.1:1 collide"), "{text}");
    config(&format!("{}{}{}", tcp(1), udp(1), out(2)));
    config(&udp(7480));
}

#[test]
fn listening_beyond_loopback_takes_peers() {
    let packets = "framing = { kind = \"packet\" }\nsource = \"apid\"\n";
    for key in ["listen", "udp"] {
        let keys = format!("{key} = \"0.0.0.0:7490\"\n{packets}");
        refused(
            &keys,
            &format!(
                "3:{}: links[0].{key}: 0.0.0.0:7490 can be reached from other hosts: add peers such as [\"10.0.8.0/24\"] to \
                 say which, or use 127.0.0.1:7490",
                key.len() + 4
            ),
        );
        config(&link(&format!("{keys}peers = [\"10.0.8.0/24\"]\n")));
    }
    let text = errors(&output("listen = \"[::]:7490\""));
    assert!(
        text.starts_with("c.toml:3:10: outputs[0].listen: [::]:7490 can be reached from other hosts"),
        "{text}"
    );
    config(&output("listen = \"[::]:7490\"\npeers = [\"::/0\"]"));
}

#[test]
fn a_key_belongs_to_its_transport() {
    let fixed = |keys: &str| format!("{FIXED}source = 7\n{keys}");
    for (key, value) in [("multicast", "239.1.2.3"), ("receive_buffer", "1 MiB")] {
        let column = key.len() + 4;
        refused(
            &fixed(&format!("{key} = \"{value}\"")),
            &format!("6:{column}: links[0].{key}: belongs to udp, and this link has connect: remove it"),
        );
    }
    let udp = |keys: &str| {
        format!("udp = \"127.0.0.1:7490\"\nframing = {{ kind = \"datagram\" }}\nsource = 7\n{keys}")
    };
    refused(
        &udp("greeting = \"00\""),
        "6:12: links[0].greeting: belongs to connect, and this link has udp: remove it",
    );
    refused(
        &udp("when_full = \"wait\""),
        "6:13: links[0].when_full: a sender of datagrams does not wait: remove it or write \"drop-routine\", or use connect \
         or listen",
    );
    refused(
        &udp("interface = \"10.0.8.1\""),
        "6:13: links[0].interface: 10.0.8.1 is the interface of an IPv4 group: add multicast such as \"239.1.2.3\"",
    );
    refused(
        &udp("multicast = \"ff02::1\""),
        "6:13: links[0].multicast: ff02::1 and udp = 127.0.0.1:7490 are of two versions of IP",
    );
    config(&link(&udp("multicast = \"239.1.2.3\"\ninterface = \"10.0.8.1\"\nwhen_full = \"drop-routine\"")));
}

#[test]
fn a_framing_fits_its_transport() {
    let with = |transport: &str, framing: &str| {
        format!("{transport} = \"127.0.0.1:7490\"\nsource = 7\nframing = {{ {framing} }}\n")
    };
    refused(
        &with("connect", "kind = \"datagram\""),
        "5:11: links[0].framing: a connection has no datagrams: use udp, or a framing that finds units in a stream",
    );
    refused(
        &with("udp", "kind = \"kiss\""),
        "5:11: links[0].framing: KISS is spoken over a connection: use connect or listen, or framing = { kind = \
         \"datagram\" }",
    );
    refused(
        &with("udp", "kind = \"nctrs\""),
        "5:11: links[0].framing: an NCTRS speaks over a connection: use connect",
    );
    for framing in [
        "kind = \"packet\"",
        "kind = \"cadu\", length = 1024",
        "kind = \"fixed\", length = 9",
        "kind = \"length\"",
    ] {
        config(&link(&with("udp", framing)));
    }
}

#[test]
fn a_source_is_one_that_the_frames_name() {
    refused(
        &format!("{FIXED}source = \"apid\""),
        "5:10: links[0].source: \"apid\" takes packets: add decode = { kind = \"packet\" }, or write \"scid\" or a number",
    );
    let scid = "links[0].source: \"scid\" takes frames that name their spacecraft, or exactly one id in spacecraft: decode \
                says tm, aos or uslp, or write a number, or \"apid\" for packets";
    refused(FIXED, &format!("1:1: {scid}"));
    refused(&format!("{FIXED}source = \"scid\"\nspacecraft = [1, 2]"), &format!("5:10: {scid}"));
    refused(&format!("{FIXED}source = \"scid\"\ndecode = {{ kind = \"packet\" }}"), &format!("5:10: {scid}"));
    config(&link(&format!("{FIXED}spacecraft = [1]")));
    refused(
        &format!("{FIXED}source = \"scid-vcid\"\nspacecraft = [1]"),
        "5:10: links[0].source: \"scid-vcid\" takes frames with a virtual channel: decode says tm, aos or uslp, or write a \
         number",
    );
    let nctrs = "connect = \"nctrs:2502\"\nframing = { kind = \"nctrs\" }\n";
    config(&link(nctrs));
    config(&link(&format!("{nctrs}source = \"scid-vcid\"\nemergency = [{{ vcid = [9] }}]")));
    for (decode, id, way_out) in [
        ("kind = \"tm\"", 1024, "expected at most 1023"),
        (
            "kind = \"aos\", scid_bits = 10",
            1024,
            "expected at most 255, or at most 1023 with scid_bits = 10 in decode",
        ),
        ("kind = \"aos\"", 256, "expected at most 255, or at most 1023 with scid_bits = 10 in decode"),
    ] {
        let decode = format!("{FIXED}decode = {{ {decode} }}\n");
        refused(
            &format!("{decode}spacecraft = [{id}]"),
            &format!("6:14: links[0].spacecraft: no frame has spacecraft id {id}: {way_out}"),
        );
        config(&link(&format!("{decode}spacecraft = [{}]", id - 1)));
    }
}

#[test]
fn a_rule_is_one_that_can_hold() {
    let tm = format!("{FIXED}decode = {{ kind = \"tm\" }}\n");
    refused(
        &format!("{tm}emergency = [{{ apid = [5] }}]"),
        "6:13: links[0].emergency: a rule with apid takes packets: add decode = { kind = \"packet\" }, or write a rule with \
         vcid or offset",
    );
    refused(
        &format!("{tm}emergency = [{{ vcid = [8] }}]"),
        "6:13: links[0].emergency: no TM frame has virtual channel 8: expected at most 7",
    );
    refused(
        &format!("{tm}emergency = [{{ offset = 892, value = 0 }}]"),
        "6:13: links[0].emergency: no frame has a byte 892: the longest has 892 bytes",
    );
    config(&link(&format!("{tm}emergency = [{{ offset = 891, value = 0 }}, {{ vcid = [7] }}]")));
    refused(
        &format!("{FIXED}source = 7\nemergency = [{{ vcid = [0] }}]"),
        "6:13: links[0].emergency: a rule with vcid takes frames with a virtual channel: decode says tm, aos or uslp, or \
         write a rule with apid or offset",
    );
}

#[test]
fn units_hold_a_header_and_fit_a_message() {
    let cadu = |strip: usize, decode: &str| {
        format!(
            "connect = \"modem:7000\"\nsource = 7\nframing = {{ kind = \"cadu\", length = 64, strip = {strip} }}\n\
             decode = {{ {decode} }}\n"
        )
    };
    for (decode, needed) in [
        ("kind = \"tm\"", 6),
        ("kind = \"tm\", fecf = \"crc16\"", 8),
        ("kind = \"aos\"", 6),
        ("kind = \"uslp\", fecf = \"crc32\"", 11),
        ("kind = \"packet\"", 7),
    ] {
        let short = needed - 1;
        refused(
            &cadu(60 - short, decode),
            &format!(
                "5:37: links[0].framing.length: units of {short} bytes are too short to decode: expected at least {needed} \
                 bytes"
            ),
        );
        config(&link(&cadu(60 - needed, decode)));
    }
    let sized = |kind: &str, key: &str, bytes: usize| {
        let transport = if kind == "datagram" { "udp" } else { "listen" };
        format!("{}ingest.max_message = \"4 KiB\"\n", "")
            + &link(&format!(
                "{transport} = \"127.0.0.1:7490\"\nsource = 7\nframing = {{ kind = \"{kind}\", {key} = {bytes} }}\n"
            ))
    };
    // What stands around the frame in a unit does not count.
    for (kind, key, around) in [
        ("packet", "max", 0),
        ("cadu", "length", 4),
        ("fixed", "length", 0),
        ("length", "max_frame_length", 0),
        ("kiss", "max", 0),
        ("datagram", "max", 0),
        ("nctrs", "max", 20),
    ] {
        config(&sized(kind, key, 4_076 + around));
        let text = errors(&sized(kind, key, 4_077 + around));
        let expected = format!(
            "links[0].framing.{key}: frames of 4077 bytes do not fit ingest.max_message, which is 4096 bytes with a header: \
             expected at most 4076 bytes, or raise ingest.max_message"
        );
        assert!(text.ends_with(&expected), "{text}");
        assert!(text.starts_with("c.toml:6:"), "{text}");
    }
}

#[test]
fn counters_and_idle_frames_are_those_of_the_format() {
    let with =
        |decode: &str, keys: &str| format!("{FIXED}source = 7\ndecode = {{ kind = \"{decode}\" }}\n{keys}");
    for (decode, modulo) in [("tm", 1 << 8), ("packet", 1 << 14), ("aos", 1 << 28)] {
        refused(
            &with(decode, &format!("max_gap = {modulo}")),
            &format!(
                "7:11: links[0].max_gap: {modulo} is more than the counter counts: expected less than {modulo}"
            ),
        );
        config(&link(&with(decode, &format!("max_gap = {}", modulo - 1))));
    }
    config(&link(&with("uslp", "max_gap = 4294967295")));
    refused(
        &with("none", "max_gap = 1"),
        "7:11: links[0].max_gap: frames that are not decoded have no counter: remove it, or add decode",
    );
    refused(
        &with("tm", "idle = \"drop\""),
        "7:8: links[0].idle: idle TM frames share the count of their channel, and without them it would show gaps: write \
         \"keep\"",
    );
    refused(
        &with("none", "idle = \"drop\""),
        "7:8: links[0].idle: frames that are not decoded are never idle: write \"keep\", or add decode",
    );
    for decode in ["aos", "uslp", "packet"] {
        config(&link(&with(decode, "idle = \"drop\"")));
    }
}

#[test]
fn a_cursor_has_one_reader() {
    let listen = "listen = \"127.0.0.1:10011\"\nstart = \"cursor\"\n";
    assert_eq!(
        errors(&output(&format!("{listen}clients = 2"))),
        "c.toml:5:11: outputs[0].clients: 2 clients cannot share one cursor: write 1, or start = \"live\""
    );
    config(&output(&format!("{listen}clients = 1")));
}

#[test]
fn packets_come_out_of_frames_that_a_link_or_the_output_decodes() {
    let tm = link(&format!("{FIXED}decode = {{ kind = \"tm\" }}\nspacecraft = [123]\n"));
    let packets =
        link(&format!("{FIXED}decode = {{ kind = \"packet\" }}\nsource = 5\n")).replace("\"a\"", "\"b\"");
    let plain = link(&format!("{FIXED}source = 9\n")).replace("\"a\"", "\"c\"");
    let links = format!("{tm}{packets}{plain}");
    let out = |keys: &str| format!("{links}{}", output(&format!("listen = \"127.0.0.1:10011\"\n{keys}")));
    let extract = |keys: &str| out(&format!("extract = \"packets\"\n{keys}"));
    let cosmos = |keys: &str| out(&format!("cosmos = {{ target = \"SAT\" }}\n{keys}"));
    let select = |id: u32| format!("select = {{ sources = [{id}] }}\n");
    for text in [
        extract(&select(123)),
        extract(""),
        extract(&format!("{}decode = {{ kind = \"aos\" }}", select(77))),
        cosmos(&select(5)),
        cosmos(""),
        cosmos(&format!("{}decode = {{ kind = \"packet\" }}", select(77))),
        cosmos(&format!("extract = \"packets\"\n{}", select(123))),
    ] {
        config(&text);
    }
    for (text, expected) in [
        (extract(&select(5)), "extract: the frames of source 5 are packets already: write \"none\""),
        (
            extract(&select(9)),
            "extract: no link decodes frames of source 9: add decode to the link that delivers it, or to this output where it \
             comes over our protocol",
        ),
        (
            extract(&select(77)),
            "extract: no link decodes frames of source 77: add decode to the link that delivers it, or",
        ),
        (
            extract("decode = { kind = \"packet\" }"),
            "decode: packets are taken out of frames: write tm, aos or uslp, or extract = \"none\"",
        ),
        (
            out("decode = { kind = \"tm\" }"),
            "decode: is for extract = \"packets\": add that, or remove decode",
        ),
        (
            cosmos(&select(123)),
            "cosmos: COSMOS reads packets, and source 123 has transfer frames: add extract = \"packets\"",
        ),
        (
            cosmos(&select(77)),
            "cosmos: COSMOS reads packets, and no link decodes packets of source 77: add decode to the link that delivers it, \
             or decode = { kind = \"packet\" } to this output where it comes over our protocol",
        ),
    ] {
        let text = errors(&text);
        let (_, text) = text.split_once("outputs[0].").unwrap();
        assert!(text.starts_with(expected), "{text}");
    }
    let nobody = output("listen = \"127.0.0.1:10011\"\nextract = \"packets\"\n");
    assert!(errors(&nobody).contains("no link decodes frames of any source"));
    // A link that cannot be read may be the one that decodes them.
    let text = errors(&format!("[[links]]\ncolour = 1\n{nobody}"));
    assert!(!text.contains("outputs[0]"), "{text}");
}

#[test]
fn links_and_outputs_count_for_the_memory_and_the_files() {
    let fixed = format!("{FIXED}source = 7\n");
    let with = |links: &str, clients: u32| {
        config(&format!("{links}{}", output(&format!("listen = \"127.0.0.1:1\"\nclients = {clients}"))))
    };
    let none = Config::default();
    let one = with(&link(&fixed), 3);
    let items = &one.memory_bound().items[none.memory_bound().items.len()..];
    let sizes: Vec<_> = items.iter().map(|item| (item.count, item.bytes_each)).collect();
    let link_alone = [(1, (128 + 320) * KIB + 6 * 892), (1, 1600 * KIB), (1, 12 * KIB), (256, 320)];
    let readers = (3, (1024 + 256 + 128) * KIB);
    assert_eq!(sizes, [&link_alone[..], &[readers]].concat());
    assert_eq!(one.open_files_needed(), none.open_files_needed() + 3 + 3 + 7);

    let disabled = with(&link(&format!("{fixed}enabled = false\n")), 3);
    assert_eq!(disabled.memory_bound().items.len(), none.memory_bound().items.len() + 1);

    let text = errors(&output("listen = \"127.0.0.1:1\"\nclients = 1024"));
    assert!(text.starts_with("c.toml:1:1: outputs: the limits come to "), "{text}");
}

#[test]
fn a_link_whose_peer_invents_sources_counts_for_the_memory_and_is_warned_of() {
    let with = |lines: &str| {
        let tm = format!("{FIXED}decode = {{ kind = \"tm\" }}\n{lines}");
        load(&link(&tm)).unwrap()
    };
    let named = with("source = \"scid\"\nspacecraft = [1, 2]\nbad_source = 9\n");
    assert_eq!(named.warnings, [""; 0]);
    assert_eq!(named.config.links[0].streams_max(), 3);
    let invented = with("source = \"scid\"\nmax_sources = 100\n");
    let warning = &invented.warnings[0];
    assert!(
        warning.contains("up to 100 sources (max_sources)") && warning.contains("spacecraft"),
        "{warning}"
    );
    let items = invented.config.memory_bound().items;
    let found: Vec<_> = items[items.len() - 4..].iter().map(|item| item.count).collect();
    assert_eq!(found, [1, 100, 400, 200], "windows, streams at a time, channels, known streams");
    assert_eq!(invented.config.archive_config().max_streams, 4_096 + 256);
    let off = with("source = \"scid\"\nenabled = false\n");
    assert_eq!(off.warnings, [""; 0]);
}

#[test]
fn a_configuration_with_links_that_was_changed_can_be_checked_again() {
    let mut config = config(&link(&format!("{FIXED}source = 7\n")));
    config.validate().unwrap();
    config.links[0].source = LinkSource::Apid;
    let error = config.validate().unwrap_err();
    assert_eq!(error.problems()[0].key, "links[0].source");
}
