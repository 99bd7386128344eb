//! Direwolf, a real modem in software, serves KISS to a link.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::equipment::{expect, wait_for};
use crate::support::{Daemon, Port, not_tested};

/// Silence after the recording, so that the modem decodes all of it: four seconds of 16 bits at 44,100 Hz.
const SILENCE_BYTES: usize = 4 * 2 * 44_100;
/// Bytes before the samples in a WAV file.
const WAV_HEADER_BYTES: usize = 44;

#[test]
fn every_frame_that_direwolf_decodes_arrives() {
    let dir = tempfile::tempdir().unwrap();
    let recording = dir.path().join("packets.wav");
    let made = Command::new("gen_packets").args(["-n", "20", "-o"]).arg(&recording).output();
    if !made.is_ok_and(|made| made.status.success()) {
        return not_tested(format_args!("KISS of a real modem: direwolf is not installed"));
    }
    let mut samples = std::fs::read(&recording).unwrap().split_off(WAV_HEADER_BYTES);
    samples.resize(samples.len() + SILENCE_BYTES, 0);

    // The modem cannot share the port with a socket that holds it.
    let modem_at = Port::hold().address();
    let config = dir.path().join("direwolf.conf");
    let lines = format!(
        "ADEVICE stdin null\nARATE 44100\nCHANNEL 0\nMODEM 1200\nAGWPORT 0\nKISSPORT {}\n",
        modem_at.port()
    );
    std::fs::write(&config, lines).unwrap();
    let mut modem = Command::new("direwolf")
        .args(["-t", "0", "-c"])
        .arg(&config)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut daemon = Daemon::start(&format!(
        "[[links]]\nname = \"direwolf\"\nconnect = \"{modem_at}\"\nframing = {{ kind = \"kiss\", max = 4000 }}\nsource = 9"
    ));
    daemon.wait_line("link connected link=\"direwolf\"");
    // The modem ends with its input.
    modem.stdin.take().unwrap().write_all(&samples).unwrap();
    let said = modem.wait_with_output().unwrap().stdout;
    let said = String::from_utf8_lossy(&said);
    let decoded = said.lines().filter(|line| line.starts_with("[0")).count();
    assert!(decoded >= 10, "the modem decoded {decoded} of 20 packets:\n{said}");
    let frames = expect(&daemon, decoded);
    for frame in &frames {
        let text = String::from_utf8_lossy(&frame.payload);
        assert!(text.contains("The quick brown fox jumps over the lazy dog!"), "{text}");
    }
    wait_for(&daemon, "direwolf", "no other frame", |link| link["counts"]["units"] == decoded);
    daemon.stop();
}
