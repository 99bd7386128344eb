//! Makes the answer of `/api/v1/links`.

use super::Handles;
use super::sampler::LinkRate;
use crate::api::{Link, LinkChannel, LinkCounts, LinkState, Links};
use crate::framing::Continuity;
use crate::links::{self, Channel, LinkView, Phase};

impl Handles {
    /// The input links now.
    #[must_use]
    pub fn links(&self) -> Links {
        let rates = self.rates.borrow().clone();
        let rate = |view: &LinkView| rates.links.get(&view.config.name).copied().unwrap_or_default();
        Links { links: self.link_list.views().iter().map(|view| link(view, rate(view))).collect() }
    }
}

fn link(view: &LinkView, rate: LinkRate) -> Link {
    let peer = match view.phase {
        Phase::Connected(peer) => peer,
        _ => None,
    };
    Link {
        name: view.config.name.clone(),
        description: view.config.to_string(),
        state: state(view),
        since_ms: view.since_ns / 1_000_000,
        trouble: view.trouble.clone(),
        address: view.address.map(|address| address.to_string()),
        peer: peer.map(|peer| peer.to_string()),
        heard_ms: (view.heard_ns > 0).then_some(view.heard_ns / 1_000_000),
        receive_buffer_bytes: view.receive_buffer,
        units_per_s: rate.units_per_s,
        bytes_per_s: rate.bytes_per_s,
        counts: counts(&view.counts),
        channels: view
            .channels
            .iter()
            .map(|(channel, continuity)| link_channel(*channel, continuity))
            .collect(),
    }
}

fn state(view: &LinkView) -> LinkState {
    match view.phase {
        Phase::Disabled => LinkState::Disabled,
        Phase::Listening => LinkState::Listening,
        Phase::Connecting => LinkState::Connecting,
        Phase::Connected(_) if view.silent_since_ns.is_some() => LinkState::Silent,
        Phase::Connected(_) => LinkState::Connected,
        Phase::Failed => LinkState::Failed,
    }
}

fn counts(counts: &links::LinkCounts) -> LinkCounts {
    LinkCounts {
        units: counts.units,
        bytes: counts.bytes,
        kept: counts.kept,
        idle: counts.idle,
        idle_dropped: counts.idle_dropped,
        bad: counts.bad,
        bad_dropped: counts.bad_dropped,
        full_dropped: counts.full_dropped,
        refused: counts.refused,
        oversize: counts.oversize,
        sync_losses: counts.sync_losses,
        skipped_bytes: counts.skipped_bytes,
        kernel_drops: counts.kernel_drops,
        strangers: counts.strangers,
        connects: counts.connects,
    }
}

fn link_channel(channel: Channel, continuity: &Continuity) -> LinkChannel {
    LinkChannel {
        source: channel.source,
        channel: channel.channel,
        bypass: channel.is_bypass,
        expected: continuity.expected(),
        received: continuity.received,
        missing: continuity.missing,
        modulo: continuity.modulo(),
        restarts: continuity.restarts,
    }
}
