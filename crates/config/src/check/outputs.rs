//! Checks of output links.

use std::collections::BTreeMap;

use super::links::{Check, check_names};
use crate::draft::Draft;
use crate::links::Link;
use crate::outputs::{Output, OutputFraming, OutputStart, OutputTransport};
use framing::Format;
use wire::feed::Policy;

/// Adds the problems of all outputs to `draft`.
pub(super) fn check_outputs(draft: &mut Draft<'_>) {
    let outputs: Vec<_> = draft.output_keys.clone().into_iter().zip(draft.config.outputs.clone()).collect();
    let names = outputs.iter().map(|(key, output)| (key.as_str(), output.name.as_str()));
    check_names(draft, names.collect());
    check_places(draft, &outputs);
    let links = draft.config.links.clone();
    for (key, output) in &outputs {
        let mut check = Check { draft, key };
        if let OutputTransport::Listen { at, peers, .. } = &output.transport {
            check.peers("listen", *at, peers);
        }
        check.cursor(output);
        check.forwarder(output);
        // A link with problems may be the one that decodes the frames.
        if !check.draft.has_failed("links") {
            check.packets(output, &links);
        }
    }
}

/// Two forwarders to the same place would take the streams from each other, or the frames of the other for theirs.
fn check_places(draft: &mut Draft<'_>, outputs: &[(String, Output)]) {
    let (mut taken, mut addresses) = (BTreeMap::new(), BTreeMap::new());
    for (key, output) in outputs {
        if let OutputTransport::Aggregator(aggregator) = &output.transport
            && let Some(other) = addresses.insert(aggregator.to.as_str(), &output.name)
        {
            let what = format!("the output {other} forwards to the same aggregator: remove one of the two");
            Check { draft, key }.conflict("aggregator", what);
        }
        let OutputTransport::Nats(nats) = &output.transport else { continue };
        if let Some(other) = taken.insert((&nats.stream, &nats.subject), &output.name) {
            let what = format!(
                "the output {other} writes to the same subjects of stream {}: give each a subject of its own",
                nats.stream
            );
            Check { draft, key }.conflict("subject", what);
        }
    }
}

impl Check<'_, '_> {
    fn cursor(&mut self, output: &Output) {
        let clients = output.clients_max();
        if output.start == OutputStart::Cursor && clients > 1 && !output.is_forwarder() {
            let what = format!("{clients} clients cannot share one cursor: write 1, or start = \"live\"");
            self.conflict("clients", what);
        }
    }

    /// A forwarder hands over whole frames, each of them, and goes on where it stood.
    fn forwarder(&mut self, output: &Output) {
        if !output.is_forwarder() {
            let keys = [("lag_max", output.lag_max.is_some()), ("retention_hold", output.retention_hold)];
            for (key, _) in keys.into_iter().filter(|(_, is_set)| *is_set) {
                self.conflict(key, "belongs to a forwarder, whose other side acknowledges: remove it");
            }
            return;
        }
        if output.start != OutputStart::Cursor {
            self.conflict("start", "a forwarder goes on where it stood: write \"cursor\", or remove start");
        }
        if output.policy != Policy::Complete {
            self.conflict("policy", "a forwarder leaves nothing out: write \"complete\", or remove policy");
        }
        if output.extract_packets {
            self.conflict("extract", "a forwarder hands over whole frames: remove extract");
        }
        if output.framing != OutputFraming::Bare {
            self.conflict("framing", "a forwarder hands over whole frames: remove framing");
        }
    }

    /// Packets can only be taken out of frames whose format is known, and COSMOS reads packets alone.
    fn packets(&mut self, output: &Output, links: &[Link]) {
        let is_cosmos = matches!(output.framing, OutputFraming::Cosmos(_));
        match (output.extract_packets, output.decode.map(|decode| decode.format)) {
            (true, Some(Format::Packet | Format::None)) => {
                return self.conflict(
                    "decode",
                    "packets are taken out of frames: write tm, aos or uslp, or extract = \"none\"",
                );
            }
            (false, Some(Format::Packet)) if is_cosmos => {}
            (false, Some(_)) => {
                return self.conflict("decode", "is for extract = \"packets\": add that, or remove decode");
            }
            (false, None) if !is_cosmos => return,
            (true | false, _) => {}
        }
        let fits = |format: Format| match format {
            Format::Tm | Format::Aos(_) | Format::Uslp => output.extract_packets,
            Format::Packet => !output.extract_packets,
            Format::None => false,
        };
        let key = if output.extract_packets { "extract" } else { "cosmos" };
        let sources = output.select.frames.sources();
        let own = output.decode.map(|decode| decode.format);
        if sources.is_empty() && !links.iter().map(|link| link.decode.format).chain(own).any(fits) {
            self.conflict(key, refusal("any source", None, output.extract_packets));
        }
        let misfit = sources.iter().find_map(|source| {
            let decodes = output.decodes_of(*source, links);
            let fits = decodes.iter().any(|(_, decode)| fits(decode.format));
            (!fits).then(|| (source, decodes.first().map(|(_, decode)| decode.format)))
        });
        if let Some((source, format)) = misfit {
            self.conflict(key, refusal(&format!("source {source}"), format, output.extract_packets));
        }
    }
}

/// Why the output gets no packets of `whose`, and what to do.
fn refusal(whose: &str, format: Option<Format>, extracts: bool) -> String {
    match (format, extracts) {
        (Some(Format::Packet), true) => {
            format!("the frames of {whose} are packets already: write \"none\"")
        }
        (Some(Format::Tm | Format::Aos(_) | Format::Uslp), false) => {
            format!("COSMOS reads packets, and {whose} has transfer frames: add extract = \"packets\"")
        }
        (_, true) => format!(
            "no link decodes frames of {whose}: add decode to the link that delivers it, or to this output where it \
             comes over our protocol"
        ),
        (_, false) => format!(
            "COSMOS reads packets, and no link decodes packets of {whose}: add decode to the link that delivers it, or \
             decode = {{ kind = \"packet\" }} to this output where it comes over our protocol"
        ),
    }
}
