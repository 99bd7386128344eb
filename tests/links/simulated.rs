//! `uplink-sim --link` as a child process against links of the daemon.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::equipment::{address_of, listening, wait_for};
use crate::support::command::{expect_exit, uplink_sim};
use crate::support::{Archived, Daemon, Port};

/// The keys of a link that reads TM frames, as `uplink-sim` prints them.
fn keys(framing: &str) -> String {
    format!(
        "framing = {{ {framing} }}\ndecode = {{ kind = \"tm\", fecf = \"crc16\" }}\nsource = \"scid\"\n\
         emergency = [{{ vcid = [3] }}]\nstation = \"KIRUNA\""
    )
}

/// Sends 200 frames of each of 3 satellites. `keys` are those that the simulator must print.
fn simulate(args: &[&str], keys: &str) -> Value {
    let common = ["--satellites", "3", "--frames", "200", "--payload", "100", "--report", "json"];
    let (report, said) = expect_exit(uplink_sim(common).args(args), 0);
    let printed = keys.replace("\nstation = \"KIRUNA\"", "");
    assert!(said.contains(&printed), "{said}");
    serde_json::from_str(&report).unwrap()
}

/// Frames that are missing between the first and the last of each virtual channel, of fewer than 256.
fn missing(frames: &[Archived]) -> u64 {
    let mut channels: BTreeMap<_, (u8, u8, u64)> = BTreeMap::new();
    for frame in frames {
        let count = frame.payload[3];
        let channel = frame.payload[1] >> 1 & 7;
        assert_eq!(u8::from(channel != 3), frame.lane as u8, "the emergencies are those of channel 3");
        let channel = channels.entry((frame.source_id, channel)).or_insert((count, count, 0));
        channel.1 = count;
        channel.2 += 1;
    }
    channels.values().map(|(first, last, found)| u64::from(last - first) + 1 - found).sum()
}

#[test]
fn simulated_cadus_with_losses_and_noise_reach_the_archive() {
    let keys = keys("kind = \"cadu\", length = 136, strip = 32");
    let mut daemon = Daemon::start(&listening("modem", &keys));
    let address = address_of(&daemon, "modem").to_string();
    let args =
        ["--link", "cadu", "--connect", &address, "--loss", "5", "--noise", "70", "--emergency-ratio", "0.1"];
    let report = simulate(&args, &keys);
    let (sent, left_out) = (report["sent"].as_u64().unwrap(), report["left_out"].as_u64().unwrap());
    assert!(sent + left_out == 600 && left_out > 0, "{report}");
    let link = wait_for(&daemon, "modem", "all frames", |link| link["counts"]["kept"] == sent);
    daemon.stop();
    let found = daemon.archived();
    assert!(found.iter().all(|frame| frame.source_id < 3 && frame.station == "KIRUNA"));
    let channels = link["channels"].as_array().unwrap();
    let counted: u64 = channels.iter().map(|channel| channel["missing"].as_u64().unwrap()).sum();
    assert_eq!(counted, missing(&found), "{link:#}");
    assert!(counted > 0 && counted <= left_out);
}

#[test]
fn a_simulated_nctrs_waits_for_the_link() {
    let keys = keys("kind = \"nctrs\"");
    let port = Port::hold();
    let address = port.address().to_string();
    // The tests' daemons take small messages.
    let own = keys.replace("\"nctrs\"", "\"nctrs\", max = 4000");
    let link = format!("[[links]]\nname = \"nctrs\"\nconnect = \"{address}\"\n{own}\n");
    let mut daemon = Daemon::start(&link);
    let report = simulate(&["--link", "nctrs", "--listen", &address], &keys);
    assert_eq!((&report["sent"], &report["connections"]), (&600.into(), &1.into()), "{report}");
    wait_for(&daemon, "nctrs", "all frames", |link| link["counts"]["kept"] == 600);
    daemon.stop();
    let found = daemon.archived();
    assert_eq!((found.len(), missing(&found)), (600, 0));
    assert!(found.iter().all(|frame| frame.ert_ns > 0));
}
