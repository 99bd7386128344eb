//! Makes the answers about input links and outputs. Each answer is a page, and is made without the rest.

use std::ops::Range;

use super::Handles;
use api::{Link, LinkChannels, Links, Output, OutputReaders, Outputs};
use equipment::switchboard::Reporter;

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
        Outputs { total: all.len(), outputs: page.map(|output| output.report(0..PARTS_MAX)).collect() }
    }

    /// All outputs, without their readers.
    #[must_use]
    pub fn all_outputs(&self) -> Vec<Output> {
        self.output_list.reporters().iter().map(|output| output.report(0..0)).collect()
    }

    /// The readers in `page` of the output `name`. `None` if there is no such output.
    #[must_use]
    pub fn output_readers(&self, name: &str, page: Range<usize>) -> Option<OutputReaders> {
        let output = self.output_list.report(name, page)?;
        Some(OutputReaders { total: output.readers_total, readers: output.readers })
    }
}
