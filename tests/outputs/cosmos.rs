//! OpenC3 COSMOS reads outputs with its own client, without its stack.

use std::path::Path;

use crate::software::{address_of, deliver, feed_link, listening, packet, report};
use crate::support::python::Python;
use crate::support::recording::snpp_cadus;
use crate::support::{Client, Daemon, Frame, Hello, ROUTINE, not_tested};

const CADU_BYTES: usize = 1_024;
const SNPP: &str = "[[links]]\nname = \"modem\"\nlisten = \"127.0.0.1:0\"\nstation = \"SVALBARD\"\n\
                    framing = { kind = \"cadu\", length = 1024, strip = 128 }\ndecode = { kind = \"aos\" }\n\
                    spacecraft = [157]\nsource = \"scid\"\n";

/// The lines that the client of COSMOS prints for `count` packets of the output `name`.
fn read(python: &Python, daemon: &Daemon, name: &str, count: usize, protocol: &[&str]) -> Vec<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/cosmos.py");
    let port = address_of(daemon, name).port().to_string();
    let mut command = python.tool("python");
    let ran = command.arg(script).args([&port, &count.to_string()]).args(protocol).output().unwrap();
    let errors = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "the client of COSMOS failed: {errors}");
    String::from_utf8(ran.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// The packets that the script of the tests takes out of the recording at `path`, apart from the code of the daemon.
fn packets_by_script(python: &Python, path: &Path) -> Vec<String> {
    python.script("snpp_packets.py", path).lines().map(str::to_owned).collect()
}

/// The CADUs of `recording` with noise before them and behind every tenth, also with a marker in it.
fn with_noise(recording: &[u8]) -> Vec<u8> {
    let noise: Vec<u8> = (0_u32..1_800).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut bytes = noise.clone();
    for (cadu, number) in recording.chunks(CADU_BYTES).zip(1..) {
        bytes.extend_from_slice(cadu);
        if number % 10 == 0 {
            bytes.extend_from_slice(&noise);
            bytes.extend_from_slice(&recording[..4]);
            bytes.extend_from_slice(&noise[..300]);
        }
    }
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn cosmos_reads_bare_and_preidentified_packets() {
    let python = match Python::with("cosmos") {
        Ok(python) => python,
        Err(missing) => return not_tested(format_args!("the client of OpenC3 COSMOS: {missing}")),
    };
    let start = "start = \"earliest\"\nselect = { kind = \"all\" }\n";
    let cosmos = "framing = { kind = \"cosmos\" }\ndecode = { kind = \"packet\" }\n\
                  cosmos = { target = \"SAT\", packets = { 100 = \"HS\" } }";
    let daemon =
        Daemon::start(&(listening("bare", start) + &listening("named", &format!("{start}{cosmos}"))));
    let packets =
        [packet(100, 0, b"one"), packet(101, 1, &[7; 3_000]), packet(100, 2, &[8; 60_000][..9_000])];
    deliver(&daemon, &Hello::new(1), packets[..2].iter().cloned());
    let (mut replay, _) = Client::open(daemon.address(), &Hello::new(1).kind(1));
    let mut frame = Frame::new(ROUTINE, 0, &packets[2]);
    frame.ert_ns = 1_234_567_890_123_456_000;
    replay.send_frame(&frame);
    replay.wait_durable(ROUTINE, 1);

    let bare = read(&python, &daemon, "bare", 3, &["LENGTH", "32", "16", "7", "1", "BIG_ENDIAN"]);
    assert_eq!(bare, packets.each_ref().map(|packet| hex(packet)));
    let named = read(&python, &daemon, "named", 3, &["PREIDENTIFIED", "0xCAFEBABE"]);
    let fields: Vec<Vec<_>> = named.iter().map(|line| line.split(' ').collect()).collect();
    for ((fields, packet), name) in fields.iter().zip(&packets).zip(["HS", "UNKNOWN", "HS"]) {
        assert_eq!((fields[0], fields[1], fields[4]), ("SAT", name, &*hex(packet)));
    }
    assert_eq!((fields[0][2], fields[1][2], fields[2][2]), ("False", "False", "True"), "replays are stored");
    assert_eq!(fields[2][3], "1234567890123456");
}

/// A modem emits CADUs, and COSMOS reads the packets in them.
#[test]
fn cosmos_reads_the_packets_that_a_modem_sends_in_cadus() {
    let Some((path, recording)) = snpp_cadus() else { return };
    let python = match Python::with("cosmos") {
        Ok(python) => python,
        Err(missing) => return not_tested(format_args!("the client of OpenC3 COSMOS: {missing}")),
    };
    let expected = packets_by_script(&python, &path);
    let select = "start = \"earliest\"\nextract = \"packets\"\nselect = { sources = [157] }\n";
    let names = "cosmos = { target = \"SNPP\", packets = { 802 = \"ENG\", 803 = \"CAL\" } }";
    let outputs = listening("bare", select) + &listening("named", &format!("{select}{names}"));
    let daemon = Daemon::start(&(SNPP.to_owned() + &outputs));
    feed_link(&daemon, &with_noise(&recording));

    let bare =
        read(&python, &daemon, "bare", expected.len(), &["LENGTH", "32", "16", "7", "1", "BIG_ENDIAN"]);
    assert!(bare == expected, "{} packets differ from the script's {}", bare.len(), expected.len());
    let named = read(&python, &daemon, "named", expected.len(), &["PREIDENTIFIED", "0xCAFEBABE"]);
    for (line, packet) in named.iter().zip(&expected) {
        let fields: Vec<_> = line.split(' ').collect();
        // The first packet of the recording is the only one of its application.
        let name = if packet.starts_with("0322") { "ENG" } else { "CAL" };
        assert_eq!((fields[0], fields[1]), ("SNPP", name));
        assert!(fields[4] == packet, "a packet of {name} differs");
    }
    assert_eq!((expected.len(), named.len()), (12, 12));
    // One frame of the recording is missing. It cuts the packet that had begun.
    for name in ["bare", "named"] {
        let counts = &report(&daemon, name)["counts"];
        assert_eq!(
            (&counts["packets"], &counts["cut"], &counts["frames"]),
            (&12.into(), &1.into(), &65.into()),
            "{counts:#}"
        );
    }
}
