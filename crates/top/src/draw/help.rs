//! The help: the keys and the columns.

use ratatui::style::Stylize as _;
use ratatui::text::Line;

const TEXT: &str = "\
q, Ctrl-C     quit
?, h          this page, and back
l, Tab        next list: links, outputs, sources
s, S, arrows  sort by the next column, or the previous
r             reverse the order
f             next filter: all, connected, offline, trouble
a c o t       one of these filters
up down j k   scroll; PgUp PgDn Space by pages
Home End g G  to the first, to the last

last     since the newest frame was read
credit   used of what the busier lane may hold
ack      from the socket to stable storage
missing  sequences of the epoch that have not come
trouble  live uplinks offline, frames missing or
         rejected, or 75% of the credit used
books    received = archived + not stored + duplicates
         + rejected + in flight";

pub(super) fn lines() -> Vec<Line<'static>> {
    let title = Line::from("telemetry-aggregator top").reversed();
    std::iter::once(title).chain(TEXT.lines().map(Line::from)).collect()
}
