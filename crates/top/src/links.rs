//! Which links and outputs are in trouble, how far outputs are behind, and how fast they are.

use std::collections::HashMap;
use std::time::Duration;

use super::model::{LAG_TROUBLE, Model, OutputRate, Snapshot};
use api::{Link, LinkState, Output, OutputState};

impl Model {
    /// The links: first those that have failed, then those in other trouble, each by name.
    #[must_use]
    pub fn links(&self) -> Vec<&Link> {
        let mut links: Vec<_> = self.known.iter().flat_map(|(snapshot, _)| &snapshot.links).collect();
        links.sort_by_key(|link| (link.state != LinkState::Failed, !is_link_in_trouble(link)));
        links
    }

    /// The outputs, in the same order as the links.
    #[must_use]
    pub fn outputs(&self) -> Vec<&Output> {
        let Some((snapshot, _)) = &self.known else { return Vec::new() };
        let head = snapshot.stats.archive.next_offset;
        let mut outputs: Vec<_> = snapshot.outputs.iter().collect();
        outputs
            .sort_by_key(|output| (output.state != OutputState::Failed, !is_output_in_trouble(output, head)));
        outputs
    }
}

/// Whether a person should look at the link: it has failed, cannot connect, is silent, or may not carry a stream.
///
/// The trouble of a link that listens is the end of its last connection, which may be no trouble.
#[must_use]
pub fn is_link_in_trouble(link: &Link) -> bool {
    match link.state {
        LinkState::Failed | LinkState::Silent => true,
        LinkState::Connecting | LinkState::Connected => link.trouble.is_some(),
        LinkState::Listening | LinkState::Disabled => false,
    }
}

/// Whether a person should look at the output, in a log whose durable end is `head`: it has failed, cannot connect, has
/// trouble with its reader, or is far behind.
#[must_use]
pub fn is_output_in_trouble(output: &Output, head: u64) -> bool {
    // Where there may be several readers, the trouble is the end of one of them, which may be no trouble.
    let has_one_reader = output.cursor.is_some() || output.address.is_none();
    match output.state {
        OutputState::Disabled => false,
        _ if output.forwarding.is_some_and(|forwarding| forwarding.late) => true,
        OutputState::Failed => true,
        OutputState::Connecting => output.trouble.is_some() || is_far_behind(output, head),
        OutputState::Connected => (output.trouble.is_some() && has_one_reader) || is_far_behind(output, head),
        OutputState::Listening => is_far_behind(output, head),
    }
}

fn is_far_behind(output: &Output, head: u64) -> bool {
    behind(output, head).is_some_and(|frames| frames >= LAG_TROUBLE)
}

/// How many durable frames lie behind the cursor, or else behind the slowest reader. `None` without both.
pub(super) fn behind(output: &Output, head: u64) -> Option<u64> {
    Some(head.saturating_sub(output.cursor.or(output.slowest_offset)?))
}

/// The rates between two responses, by the names of the outputs. An output that is new has no rate.
pub(super) fn output_rates(
    before: &Snapshot,
    after: &Snapshot,
    elapsed: Duration,
) -> HashMap<String, OutputRate> {
    let seconds = elapsed.as_secs_f64();
    if seconds == 0.0 {
        return HashMap::new();
    }
    let rates = after.outputs.iter().filter_map(|output| {
        let earlier = before.outputs.iter().find(|earlier| earlier.name == output.name)?;
        let per_s = |before: u64, after: u64| after.saturating_sub(before) as f64 / seconds;
        let rate = OutputRate {
            frames_per_s: per_s(earlier.counts.frames, output.counts.frames),
            bytes_per_s: per_s(earlier.counts.bytes, output.counts.bytes),
        };
        Some((output.name.clone(), rate))
    });
    rates.collect()
}
