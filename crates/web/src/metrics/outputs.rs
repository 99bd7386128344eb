//! The metrics of the output links. Without outputs there are none.

use std::fmt;

use prometheus_client::registry::Unit;

use super::{Out, Scrape};
use api::{Output, OutputCounts, OutputState};

const STATES: [OutputState; 5] = [
    OutputState::Disabled,
    OutputState::Listening,
    OutputState::Connecting,
    OutputState::Connected,
    OutputState::Failed,
];

impl Scrape {
    pub(super) fn outputs(&self, out: &mut Out<'_>) -> fmt::Result {
        if self.outputs.is_empty() {
            return Ok(());
        }
        self.output_states(out)?;
        let each = |count: fn(&OutputCounts) -> u64| {
            self.outputs.iter().map(move |output| (label(output), count(&output.counts)))
        };
        let frames = each(|counts| counts.frames);
        out.counters("output_frames", "Frames that were sent, whole or as packets", None, frames)?;
        let packets = each(|counts| counts.packets);
        out.counters("output_packets", "Space packets that went out of frames", None, packets)?;
        let sent = each(|counts| counts.bytes);
        out.counters("output_sent", "Handed over to the kernel, framing included", Some(&Unit::Bytes), sent)?;
        let filtered = each(|counts| counts.filtered);
        out.counters("output_filtered_frames", "Frames that the selection left out", None, filtered)?;
        let skipped = each(|counts| counts.skipped);
        out.counters("output_skipped_frames", "Frames that a timely reader was too slow for", None, skipped)?;
        let gaps = each(|counts| counts.gaps);
        out.counters("output_gaps", "Gaps in the history", None, gaps)?;
        let missing = each(|counts| counts.missing);
        out.counters("output_missing_frames", "Frames in the gaps of the history", None, missing)?;
        let undecoded = each(|counts| counts.undecoded);
        out.counters("output_undecoded_frames", "Frames without packets to take out", None, undecoded)?;
        let cut = each(|counts| counts.cut);
        out.counters("output_cut_packets", "Packets that began and did not end", None, cut)?;
        let too_long = each(|counts| counts.too_long);
        out.counters("output_too_long", "Frames and packets that are too long to go out", None, too_long)?;
        let unreachable = each(|counts| counts.unreachable);
        out.counters("output_unreachable", "Datagrams that no program received", None, unreachable)?;
        let refused = each(|counts| counts.refused);
        out.counters("output_refused", "Connections refused", None, refused)?;
        out.counters("output_connects", "Connections so far", None, each(|counts| counts.connects))
    }

    /// State, readers, and how far a cursor is behind.
    fn output_states(&self, out: &mut Out<'_>) -> fmt::Result {
        let states = self.outputs.iter().flat_map(|output| {
            let value = |state: OutputState| u64::from(output.state == state);
            STATES
                .map(|state| ([("output", output.name.clone()), ("state", state.to_string())], value(state)))
        });
        out.gauges("output_state", "1 for the state the output has", None, states)?;
        let readers = self.outputs.iter().map(|output| (label(output), output.readers_total as u64));
        out.gauges("output_readers", "Readers connected", None, readers)?;
        let head = self.stats.archive.next_offset;
        let lags = self.outputs.iter().filter_map(|output| {
            // The cursor may have moved since the end of the log was read.
            Some((label(output), head.saturating_sub(output.cursor?)))
        });
        out.gauges(
            "output_lag_frames",
            "Durable frames between the cursor and the end of the log",
            None,
            lags,
        )?;
        self.output_lags(out)
    }

    /// How far forwarders are behind.
    fn output_lags(&self, out: &mut Out<'_>) -> fmt::Result {
        let forwarders = || {
            let outputs = self.outputs.iter();
            outputs.filter_map(|output| Some((label(output), output.forwarding?)))
        };
        let ages = forwarders().map(|(label, of)| (label, of.lag_ms as f64 / 1_000.0));
        out.gauges(
            "output_lag",
            "Age of the oldest frame that is not forwarded",
            Some(&Unit::Seconds),
            ages,
        )?;
        let sizes = forwarders().filter_map(|(label, of)| Some((label, of.lag_bytes?)));
        out.gauges("output_lag", "About the payloads of output_lag_frames", Some(&Unit::Bytes), sizes)?;
        let late = forwarders().map(|(label, of)| (label, u64::from(of.late)));
        out.gauges("output_late", "1 while the lag is above lag_max", None, late)
    }
}

fn label(output: &Output) -> [(&'static str, String); 1] {
    [("output", output.name.clone())]
}
