//! The metrics of the input links. Without links there are none.

use std::fmt;

use prometheus_client::registry::Unit;

use super::{Out, Scrape};
use api::{Link, LinkState};

/// At most this many channels of all links have their own series: the first by source and channel, with a
/// share for each link.
pub(super) const CHANNELS_MAX: usize = 1_000;

const STATES: [LinkState; 6] = [
    LinkState::Disabled,
    LinkState::Listening,
    LinkState::Connecting,
    LinkState::Connected,
    LinkState::Silent,
    LinkState::Failed,
];

impl Scrape {
    pub(super) fn links(&self, out: &mut Out<'_>) -> fmt::Result {
        if self.links.is_empty() {
            return Ok(());
        }
        let each = |value: fn(&Link) -> u64| {
            self.links.iter().map(move |link| ([("link", link.name.clone())], value(link)))
        };
        let bytes = Some(&Unit::Bytes);
        let is_connected =
            |link: &Link| u64::from(matches!(link.state, LinkState::Connected | LinkState::Silent));
        out.gauges("link_connected", "1 while a peer is connected", None, each(is_connected))?;
        let states = self.links.iter().flat_map(|link| {
            let value = |state: LinkState| u64::from(link.state == state);
            STATES.map(|state| ([("link", link.name.clone()), ("state", state.to_string())], value(state)))
        });
        out.gauges("link_state", "1 for the state the link has", None, states)?;
        out.counters("link_units", "Units that the framing has cut", None, each(|link| link.counts.units))?;
        out.counters("link_received", "Units with their framing", bytes, each(|link| link.counts.bytes))?;
        out.counters(
            "link_bad_units",
            "Units that are damaged or foreign",
            None,
            each(|link| link.counts.bad),
        )?;
        let dropped = self.links.iter().flat_map(|link| {
            let counts = &link.counts;
            let reasons = [
                ("idle", counts.idle_dropped),
                ("bad", counts.bad_dropped),
                ("full", counts.full_dropped),
                ("refused", counts.refused),
                ("oversize", counts.oversize),
            ];
            reasons
                .map(|(reason, count)| ([("link", link.name.clone()), ("reason", reason.to_owned())], count))
        });
        out.counters("link_dropped_units", "Units that became no frame, by reason", None, dropped)?;
        let unfollowed = each(|link| link.counts.unfollowed);
        out.counters("link_unfollowed_units", "Units of channels whose gaps go unseen", None, unfollowed)?;
        out.counters(
            "link_sync_losses",
            "Losses of the synchronisation",
            None,
            each(|link| link.counts.sync_losses),
        )?;
        let skipped = each(|link| link.counts.skipped_bytes);
        out.counters("link_skipped", "Bytes that belong to no unit", bytes, skipped)?;
        let drops = each(|link| link.counts.kernel_drops);
        out.counters("link_kernel_drops", "Datagrams that the kernel dropped", None, drops)?;
        let connects = each(|link| link.counts.connects);
        out.counters("link_connects", "Connections so far", None, connects)?;
        let channels =
            self.links.iter().flat_map(|link| link.channels.iter().map(move |channel| (link, channel)));
        let missing = channels.map(|(link, channel)| {
            let labels = [
                ("link", link.name.clone()),
                ("source", channel.source.to_string()),
                ("channel", channel.channel.to_string()),
                ("bypass", channel.bypass.to_string()),
            ];
            (labels, channel.missing)
        });
        out.counters(
            "link_missing_units",
            "Units of the spacecraft that have not come, at least",
            None,
            missing,
        )
    }
}
