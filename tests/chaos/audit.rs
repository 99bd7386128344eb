//! Reads the archive by the command `archive cat`, in a process of its own, also while no daemon runs.

use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::support::Archived;
use crate::support::command::{aggregator, expect_exit};
use crate::track::Track;

/// The part of an archive that was checked, from its start.
#[derive(Default)]
pub struct Audit {
    pub track: Track,
    /// Everything below was checked.
    pub next_offset: u64,
}

impl Audit {
    /// Reads the rest of the archive in `data_dir`. Missing offsets and damage are losses.
    pub fn read_on(&mut self, data_dir: &Path) {
        let mut command = aggregator(["archive", "cat", "--from-offset", &self.next_offset.to_string()]);
        command.arg(data_dir).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command cannot be started");
        for frame in frames(child.stdout.take().expect("stdout is piped")) {
            if frame.offset != self.next_offset {
                let gap = frame.offset.abs_diff(self.next_offset);
                self.track.faults.lose(gap, format!("offset {} follows {}", frame.offset, self.next_offset));
            }
            self.next_offset = frame.offset + 1;
            self.track.take(&frame);
        }
        let ended = child.wait_with_output().expect("waiting fails");
        if !ended.status.success() {
            let said = String::from_utf8_lossy(&ended.stderr);
            self.track.faults.lose(1, format!("archive cat: {}", said.trim()));
        }
    }
}

/// The frames in lines of JSON.
pub fn frames(text: impl Read) -> impl Iterator<Item = Archived> {
    let lines = BufReader::with_capacity(1 << 20, text).lines();
    lines.map(|line| frame_in(&line.expect("the output is text")))
}

/// The frame in a line of JSON.
fn frame_in(line: &str) -> Archived {
    let value: Value = serde_json::from_str(line).expect("a line of JSON");
    let number = |name: &str| value[name].as_u64().unwrap_or_else(|| panic!("no {name} in {line}"));
    let time = |name: &str| value[name].as_i64().unwrap_or_else(|| panic!("no {name} in {line}"));
    let text = |name: &str| value[name].as_str().unwrap_or_else(|| panic!("no {name} in {line}"));
    let choice = |name: &str, words: [&str; 2]| {
        let word = text(name);
        words.iter().position(|known| *known == word).unwrap_or_else(|| panic!("{name} in {line}"))
    };
    Archived {
        offset: number("offset"),
        source_id: number("source_id") as u32,
        kind: choice("source_kind", ["live", "replay"]) as u8,
        station: text("station").to_owned(),
        epoch: number("epoch"),
        lane: choice("priority", ["emergency", "routine"]),
        flags: number("flags") as u8,
        sequence: number("sequence"),
        ert_ns: time("ert_ns"),
        received_ns: time("received_ns"),
        payload: STANDARD.decode(text("payload")).expect("base64"),
    }
}

/// The command `archive verify` must find no damage.
pub fn verify(data_dir: &Path) {
    expect_exit(aggregator(["archive", "verify"]).arg(data_dir), 0);
}
