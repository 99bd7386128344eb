//! OpenC3 COSMOS reads outputs with its own client, without its stack.

use std::path::Path;

use crate::software::{address_of, deliver, listening, packet};
use crate::support::python::Python;
use crate::support::{Client, Daemon, Frame, Hello, ROUTINE, not_tested};

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
