//! Makes the answers about input links and outputs. Each answer is a page, and is made without the rest.

use std::ops::Range;

use super::Handles;
use api::{Link, LinkChannels, Links, Output, OutputReaders, Outputs};
use equipment::switchboard::Reporter;
use frame::unix_now_ns;

/// A page of links or outputs has this many channels or readers of each, at most.
const PARTS_MAX: usize = 64;

impl Handles {
    /// The input links in `page`, now.
    #[must_use]
    pub fn links(&self, page: Range<usize>) -> Links {
        let all = self.link_list.reporters();
        let page = all.iter().skip(page.start).take(page.len());
        let mut links: Vec<_> = page.map(|link| link.report(0..PARTS_MAX)).collect();
        let rates = self.rates.borrow().clone();
        for link in &mut links {
            let rate = rates.links.get(&link.name).copied().unwrap_or_default();
            (link.units_per_s, link.bytes_per_s) = (rate.units_per_s, rate.bytes_per_s);
        }
        Links { total: all.len(), links }
    }

    /// All input links without their rates. They have `channels_max` channels in all, at most. Each link has a share of
    /// them that no other link takes.
    #[must_use]
    pub fn all_links(&self, channels_max: usize) -> Vec<Link> {
        let mut left = channels_max;
        let reporters = self.link_list.reporters();
        let with_shares = reporters.iter().zip((1..=reporters.len()).rev());
        let report = |(link, links_left): (&Reporter<Link>, usize)| {
            let link = link.report(0..left / links_left);
            left -= link.channels.len();
            link
        };
        with_shares.map(report).collect()
    }

    /// The channels in `page` of the link `name`. `None` if there is no such link.
    #[must_use]
    pub fn link_channels(&self, name: &str, page: Range<usize>) -> Option<LinkChannels> {
        let link = self.link_list.report(name, page)?;
        Some(LinkChannels { total: link.channels_total, channels: link.channels })
    }

    /// The outputs in `page`, now.
    #[must_use]
    pub fn outputs(&self, page: Range<usize>) -> Outputs {
        let all = self.output_list.reporters();
        let page = all.iter().skip(page.start).take(page.len());
        let mut outputs: Vec<_> = page.map(|output| output.report(0..PARTS_MAX)).collect();
        self.measure_lags(&mut outputs);
        Outputs { total: all.len(), outputs }
    }

    /// All outputs, without their readers.
    #[must_use]
    pub fn all_outputs(&self) -> Vec<Output> {
        let mut outputs: Vec<_> =
            self.output_list.reporters().iter().map(|output| output.report(0..0)).collect();
        self.measure_lags(&mut outputs);
        outputs
    }

    /// A sentence for each output that is further behind than its `lag_max`.
    #[must_use]
    pub fn late(&self) -> Vec<String> {
        self.all_outputs().iter().filter_map(Output::lateness).collect()
    }

    /// A sentence for the outputs that keep retention from making room.
    pub(super) fn holding(&self) -> Option<String> {
        let outputs = self.all_outputs();
        let holds = outputs.iter().filter(|output| {
            output.forwarding.is_some_and(|of| of.retention_hold && of.lag_frames.is_none_or(|lag| lag > 0))
        });
        let names: Vec<_> = holds.map(|output| output.name.as_str()).collect();
        let (names, verb) = (names.join(", "), if names.len() == 1 { "has" } else { "have" });
        (!names.is_empty())
            .then(|| format!("retention_hold keeps what {names} {verb} not forwarded, see /api/v1/outputs"))
    }

    fn measure_lags(&self, outputs: &mut [Output]) {
        let (head, now_ns) = (self.history.watermark(), unix_now_ns());
        let lanes = self.books.lanes();
        let frames = lanes.emergency.frames + lanes.routine.frames;
        let bytes = lanes.emergency.payload_bytes + lanes.routine.payload_bytes;
        for Output { cursor, forwarding, .. } in outputs {
            let Some(forwarding) = forwarding else { continue };
            // The cursor may have moved since the end of the log was read.
            forwarding.lag_frames = cursor.map(|cursor| head.saturating_sub(cursor));
            let all = forwarding.lag_frames.map(|lag| u128::from(lag) * u128::from(bytes));
            let mean = all.and_then(|all| all.checked_div(frames.into()));
            forwarding.lag_bytes = mean.and_then(|bytes| u64::try_from(bytes).ok());
            forwarding.lag_ms = forwarding
                .oldest_ms
                .map_or(0, |oldest_ms| u64::try_from(now_ns / 1_000_000 - oldest_ms).unwrap_or(0));
            forwarding.late = forwarding.lag_max_ms.is_some_and(|max_ms| forwarding.lag_ms > max_ms);
        }
    }

    /// The readers in `page` of the output `name`. `None` if there is no such output.
    #[must_use]
    pub fn output_readers(&self, name: &str, page: Range<usize>) -> Option<OutputReaders> {
        let output = self.output_list.report(name, page)?;
        Some(OutputReaders { total: output.readers_total, readers: output.readers })
    }
}
