//! Recordings of real spacecraft go through the daemon and come out byte for byte the same.

use std::io::copy;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use crate::support::Daemon;
use crate::support::command::{aggregator, output};
use crate::support::recording::{Recording, send, send_to};

/// The output of `archive cat --format payload` on the daemon's data directory.
fn payloads(daemon: &Daemon, filter: &[&str]) -> Vec<u8> {
    let data_dir = daemon.archive_dir().parent().expect("the data directory").to_owned();
    let mut command = aggregator(["archive", "cat", "--format", "payload"]);
    let ran = output(command.args(filter).arg(data_dir));
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
    ran.stdout
}

/// Asserts that both are equal. `assert_eq` would print both files.
fn assert_same(found: &[u8], recording: &Recording) {
    let differs = found.iter().zip(&recording.bytes).position(|(found, sent)| found != sent);
    assert!(
        differs.is_none() && found.len() == recording.bytes.len(),
        "{}: {} bytes sent, {} came back, the first that differs is at {differs:?}",
        recording.path.display(),
        recording.bytes.len(),
        found.len()
    );
}

#[test]
fn a_live_recording_is_archived_byte_for_byte() {
    let mut daemon = Daemon::start("");
    let recording = Recording::find("europa_clipper.ccsds", 1_030);
    send(&daemon, &recording, 1, 0);
    let books = daemon.stop();
    assert_eq!(books.archived, recording.packets as u64);
    assert_same(&payloads(&daemon, &[]), &recording);
    assert_same(&payloads(&daemon, &["--kind", "live", "--source", "0"]), &recording);
    assert!(payloads(&daemon, &["--kind", "replay"]).is_empty());
}

#[test]
fn a_replayed_recording_is_archived_byte_for_byte() {
    let mut daemon = Daemon::start("");
    let recording = Recording::find("ssat_hs_apid130.ccsds", 14_351);
    send(&daemon, &recording, 0, 1);
    let books = daemon.stop();
    assert_eq!(books.archived, recording.packets as u64);
    assert_same(&payloads(&daemon, &["--kind", "replay"]), &recording);
    assert!(payloads(&daemon, &["--kind", "live"]).is_empty());
}

#[test]
fn a_pass_and_a_replay_at_the_same_time_do_not_mix() {
    let mut daemon = Daemon::start("");
    let pass = Recording::find("europa_clipper.ccsds", 1_030);
    let replay = Recording::find("ssat_hs_apid130.ccsds", 14_351);
    std::thread::scope(|scope| {
        scope.spawn(|| send(&daemon, &pass, 1, 0));
        scope.spawn(|| send(&daemon, &replay, 0, 1));
    });
    daemon.stop();
    assert_same(&payloads(&daemon, &["--kind", "live"]), &pass);
    assert_same(&payloads(&daemon, &["--kind", "replay"]), &replay);
}

/// Passes a connection on to `to`, while `send` connects to the address that it gets. Returns the bytes from the client.
fn counted(to: SocketAddr, send: impl FnOnce(SocketAddr)) -> u64 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::scope(|scope| {
        let relay = scope.spawn(move || {
            let (client, _) = listener.accept().unwrap();
            let daemon = TcpStream::connect(to).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let _ = copy(&mut &daemon, &mut &client);
                    client.shutdown(Shutdown::Write)
                });
                let bytes = copy(&mut &client, &mut &daemon).unwrap();
                let _ = daemon.shutdown(Shutdown::Write);
                bytes
            })
        });
        send(address);
        relay.join().unwrap()
    })
}

#[test]
fn a_compressed_recording_takes_less_of_the_line_and_is_archived_byte_for_byte() {
    for (name, packets) in [("europa_clipper.ccsds", 1_030), ("ssat_hs_apid130.ccsds", 14_351)] {
        let recording = Recording::find(name, packets);
        let [plain, packed] = ["", " --zstd"].map(|zstd| {
            let mut daemon = Daemon::start("");
            let options = format!("--satellites 1 --replays 0{zstd}");
            let bytes = counted(daemon.address(), |address| send_to(address, &recording, &options));
            assert_eq!(daemon.stop().archived, packets as u64);
            assert_same(&payloads(&daemon, &[]), &recording);
            bytes
        });
        println!("{name}: {} bytes, {plain} on the line, {packed} with zstd", recording.bytes.len());
        // A small packet that is sent alone does not become smaller.
        let is_small = recording.bytes.len() < 100 * packets;
        assert!(packed < plain || is_small && packed == plain, "{name}: {packed} of {plain} bytes");
    }
}
