//! A link as in the file.

use super::table::{Keep, SOURCES};
use super::{EmergencyRule, Link, LinkSource, LinkTransport};
use crate::framings::{inline_table, print_decode, print_framing};
use crate::link_values::to_hex;
use crate::print::list;
use crate::units::{Size, print_duration};
use crate::values::{choice, quote};

impl Link {
    /// The keys and values of its table, each as TOML.
    pub(crate) fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![("name", quote(&self.name))];
        self.transport.push_lines(&mut lines);
        if !matches!(self.transport, LinkTransport::Udp { .. }) {
            lines.push(("tls", self.tls.to_string()));
        }
        lines.push(("station", quote(self.station.as_str())));
        lines.push(("framing", print_framing(&self.framing)));
        lines.push(("decode", print_decode(&self.decode)));
        if !self.spacecraft.is_empty() {
            lines.push(("spacecraft", list(self.spacecraft.iter().map(u16::to_string))));
        }
        let named = SOURCES.iter().find(|(_, source)| *source == self.source);
        lines.push(match (self.source, named) {
            (LinkSource::Fixed(id), _) => ("source", id.to_string()),
            (_, named) => ("source", quote(named.map_or("", |(name, _)| name))),
        });
        lines.extend(self.bad_source.map(|id| ("bad_source", id.to_string())));
        if !self.emergency.is_empty() {
            lines.push(("emergency", list(self.emergency.iter().map(print_rule))));
        }
        let keep = |drops| quote(choice::name(if drops { &Keep::Drop } else { &Keep::Keep }));
        lines.extend([
            ("idle", keep(self.drop_idle)),
            ("bad", keep(self.drop_bad)),
            ("when_full", quote(choice::name(&self.when_full))),
            ("silence_timeout", quote(&print_duration(self.silence_timeout.unwrap_or_default()))),
        ]);
        lines.extend(self.max_gap.map(|gap| ("max_gap", gap.to_string())));
        lines.push(("max_sources", self.max_sources.to_string()));
        lines.push(("enabled", self.enabled.to_string()));
        lines
    }
}

impl LinkTransport {
    fn push_lines(&self, lines: &mut Vec<(&'static str, String)>) {
        let (address, peers) = match self {
            Self::Connect { to, .. } => (to.to_string(), &[][..]),
            Self::Listen { at, peers } | Self::Udp { at, peers, .. } => (at.to_string(), &peers[..]),
        };
        lines.push((self.key(), quote(&address)));
        if !peers.is_empty() {
            lines.push(("peers", list(peers.iter().map(|peer| quote(&peer.to_string())))));
        }
        match self {
            Self::Connect { greeting, .. } => lines.push(("greeting", quote(&to_hex(greeting)))),
            Self::Listen { .. } => {}
            Self::Udp { multicast, interface, receive_buffer, .. } => {
                lines.extend(multicast.map(|group| ("multicast", quote(&group.to_string()))));
                lines.extend(interface.map(|address| ("interface", quote(&address.to_string()))));
                lines.push(("receive_buffer", quote(&Size(*receive_buffer).to_string())));
            }
        }
    }
}

fn print_rule(rule: &EmergencyRule) -> String {
    match rule {
        EmergencyRule::Channels(channels) => {
            inline_table(&[("vcid", list(channels.iter().map(u8::to_string)))])
        }
        EmergencyRule::Apids(apids) => inline_table(&[("apid", list(apids.iter().map(u16::to_string)))]),
        EmergencyRule::Byte { offset, mask, value } => inline_table(&[
            ("offset", offset.to_string()),
            ("mask", format!("{mask:#04x}")),
            ("value", format!("{value:#04x}")),
        ]),
    }
}
