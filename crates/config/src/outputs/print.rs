//! An output as in the file.

use super::table::{Extract, OutputKind};
use super::{Output, OutputFraming, OutputTransport};
use crate::framings::{inline_table, print_decode, print_kind};
use crate::print::list;
use crate::units::Size;
use crate::values::{choice, quote};

impl Output {
    /// The keys and values of its table, each as TOML.
    pub(crate) fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![("name", quote(&self.name))];
        match &self.transport {
            OutputTransport::Listen { at, peers, clients } => {
                lines.push(("listen", quote(&at.to_string())));
                if !peers.is_empty() {
                    lines.push(("peers", list(peers.iter().map(|peer| quote(&peer.to_string())))));
                }
                lines.push(("clients", clients.to_string()));
            }
            OutputTransport::Connect { to } => lines.push(("connect", quote(to.as_str()))),
            OutputTransport::Udp { to, bytes_per_s } => {
                lines.push(("udp", quote(&to.to_string())));
                lines.push(("rate", quote(&Size(*bytes_per_s).to_string())));
            }
        }
        self.framing.push_lines(&mut lines);
        let extract = if self.extract_packets { Extract::Packets } else { Extract::None };
        lines.push(("extract", quote(choice::name(&extract))));
        lines.extend(self.decode.map(|decode| ("decode", print_decode(&decode))));
        lines.push(("select", self.select_line()));
        lines.push(("start", quote(choice::name(&self.start))));
        lines.push(("policy", quote(choice::name(&self.policy))));
        lines
    }

    fn select_line(&self) -> String {
        let select = &self.select;
        inline_table(&[
            ("sources", list(select.frames.sources().iter().map(u32::to_string))),
            ("kind", quote(choice::name(&select.frames.kind))),
            ("priority", quote(choice::name(&select.frames.priority))),
            ("stations", list(select.stations.iter().map(|station| quote(station.as_str())))),
            ("bad", select.bad.to_string()),
            ("idle", select.idle.to_string()),
        ])
    }
}

impl OutputFraming {
    fn push_lines(&self, lines: &mut Vec<(&'static str, String)>) {
        let (kind, values) = match self {
            Self::Bare => (OutputKind::Bare, vec![]),
            Self::Length(length) => {
                let values = vec![
                    ("length_field_length", length.length_field_length.to_string()),
                    ("length_adjustment", length.length_adjustment.to_string()),
                    ("big_endian", length.big_endian.to_string()),
                ];
                (OutputKind::Length, values)
            }
            Self::Cosmos(_) => (OutputKind::Cosmos, vec![]),
        };
        lines.push(("framing", print_kind(kind, values)));
        if let Self::Cosmos(cosmos) = self {
            let names: Vec<_> =
                cosmos.packets.iter().map(|(apid, name)| (apid.to_string(), quote(name))).collect();
            let names: Vec<_> = names.iter().map(|(apid, name)| (apid.as_str(), name.clone())).collect();
            let values = [
                ("sync", format!("{:#010X}", cosmos.sync).replace("0X", "0x")),
                ("target", quote(&cosmos.target)),
                ("packets", inline_table(&names)),
            ];
            lines.push(("cosmos", inline_table(&values)));
        }
    }
}
