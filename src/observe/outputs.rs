//! Makes the answer of `/api/v1/outputs`.

use super::Handles;
use crate::api::{Output, OutputCounts, OutputReader, OutputState, Outputs};
use crate::outputs::{self, OutputView, Phase};

impl Handles {
    /// The output links now.
    #[must_use]
    pub fn outputs(&self) -> Outputs {
        Outputs { outputs: self.output_list.views().iter().map(output).collect() }
    }
}

fn output(view: &OutputView) -> Output {
    let readers = view.clients.iter().map(|client| OutputReader {
        peer: client.peer.to_string(),
        since_ms: client.since_ns / 1_000_000,
        next_offset: client.next_offset,
    });
    Output {
        name: view.config.name.clone(),
        description: view.config.to_string(),
        state: state(view),
        since_ms: view.since_ns / 1_000_000,
        trouble: view.trouble.clone(),
        address: view.address.map(|address| address.to_string()),
        cursor: view.cursor,
        counts: counts(&view.counts),
        readers: readers.collect(),
    }
}

fn state(view: &OutputView) -> OutputState {
    match view.phase {
        Phase::Disabled => OutputState::Disabled,
        Phase::Failed => OutputState::Failed,
        _ if !view.clients.is_empty() => OutputState::Connected,
        Phase::Listening => OutputState::Listening,
        Phase::Connecting => OutputState::Connecting,
    }
}

fn counts(counts: &outputs::OutputCounts) -> OutputCounts {
    OutputCounts {
        frames: counts.frames,
        packets: counts.packets,
        bytes: counts.bytes,
        filtered: counts.filtered,
        undecoded: counts.undecoded,
        cut: counts.cut,
        encapsulated: counts.encapsulated,
        skipped: counts.skipped,
        gaps: counts.gaps,
        missing: counts.missing,
        too_long: counts.too_long,
        unreachable: counts.unreachable,
        refused: counts.refused,
        connects: counts.connects,
    }
}
