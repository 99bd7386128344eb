//! The lists of links and of outputs, and the banners of those in trouble.

use std::time::Duration;

use ratatui::style::Style;
use ratatui::text::Line;

use super::columns::Column;
use super::head::REASON_LINES_MAX;
use super::{View, faint};
use crate::figures::{age, between, count, megabytes, plain, rate, size};
use crate::links::{behind, is_link_in_trouble, is_output_in_trouble};
use crate::model::LAG_TROUBLE;
use api::{Link, LinkState, Output, OutputState};

/// The columns of the links, from left to right. The last one takes the space that is left.
static LINK_COLUMNS: [Column<Link>; 11] = [
    Column::text("link", 14, 0, |_, link| plain(&link.name)),
    Column::text("state", 10, 1, |_, link| link.state.to_string()),
    Column::text("peer", 21, 7, |_, link| {
        plain(link.peer.as_ref().or(link.address.as_ref()).map_or("-", String::as_str))
    }),
    Column::number("units/s", 8, 2, |_, link| rate(link.units_per_s)),
    Column::number("MB/s", 7, 9, |_, link| megabytes(link.bytes_per_s)),
    Column::number("missing", 9, 4, |_, link| count(link.missing)),
    Column::number("bad", 8, 5, |_, link| count(link.counts.bad)),
    Column::number("dropped", 8, 6, |_, link| count(link_dropped(link))),
    Column::number("skipped", 10, 8, |_, link| size(link.counts.skipped_bytes)),
    Column::number("last", 6, 10, |view, link| view.last_heard(link)),
    Column::text("trouble", 15, 3, |_, link| plain(link.trouble.as_deref().unwrap_or_default())),
];

/// The columns of the outputs, from left to right. The last one takes the space that is left.
static OUTPUT_COLUMNS: [Column<Output>; 11] = [
    Column::text("output", 14, 0, |_, output| plain(&output.name)),
    Column::text("state", 10, 1, |_, output| output.state.to_string()),
    Column::text("reader", 21, 7, |_, output| readers(output)),
    Column::number("frames/s", 8, 2, |view, output| {
        view.model.output_rates.get(&output.name).map_or("-".to_owned(), |of| rate(of.frames_per_s))
    }),
    Column::number("MB/s", 7, 10, |view, output| {
        view.model.output_rates.get(&output.name).map_or("-".to_owned(), |of| megabytes(of.bytes_per_s))
    }),
    Column::number("behind", 9, 4, |view, output| {
        behind(output, view.durable_end()).map_or("-".to_owned(), count)
    }),
    Column::number("lag", 6, 5, |_, output| lag(output).map_or("-".to_owned(), age)),
    Column::number("missing", 9, 6, |_, output| count(output.counts.missing)),
    Column::number("skipped", 9, 8, |_, output| count(output.counts.skipped)),
    Column::number("dropped", 8, 9, |_, output| count(output_dropped(output))),
    Column::text("trouble", 15, 3, |_, output| plain(output.trouble.as_deref().unwrap_or_default())),
];

impl View<'_> {
    /// Names the links in trouble.
    pub(super) fn link_banner(&self) -> Vec<Line<'static>> {
        let links = self.model.links();
        let troubled: Vec<_> = links.iter().filter(|link| is_link_in_trouble(link)).collect();
        let words = troubled.iter().map(|link| {
            let state = (link.state != LinkState::Connected).then(|| link.state.to_string());
            in_words(&link.name, state, link.trouble.as_deref())
        });
        let is_grave = troubled.iter().any(|link| link.state == LinkState::Failed);
        self.trouble_banner("LINKS", links.len(), words.collect(), is_grave)
    }

    /// Names the outputs in trouble.
    pub(super) fn output_banner(&self) -> Vec<Line<'static>> {
        let (outputs, head) = (self.model.outputs(), self.durable_end());
        let troubled: Vec<_> = outputs.iter().filter(|output| is_output_in_trouble(output, head)).collect();
        let words = troubled.iter().map(|output| {
            let name = &output.name;
            if let Some((of, lag)) = output.forwarding.zip(lag(output)).filter(|(of, _)| of.late) {
                let max = age(Duration::from_millis(of.lag_max_ms.unwrap_or(0)));
                let late = format!("{} behind, more than {max}", age(lag));
                return in_words(name, Some(late), output.trouble.as_deref());
            }
            match (output.state, behind(output, head)) {
                (OutputState::Listening | OutputState::Connected, Some(frames)) if frames >= LAG_TROUBLE => {
                    in_words(name, Some(format!("{} frames behind", count(frames))), None)
                }
                (OutputState::Connected, _) => in_words(name, None, output.trouble.as_deref()),
                (state, _) => in_words(name, Some(state.to_string()), output.trouble.as_deref()),
            }
        });
        let is_grave = troubled.iter().any(|output| output.state == OutputState::Failed);
        self.trouble_banner("OUTPUTS", outputs.len(), words.collect(), is_grave)
    }

    fn trouble_banner(
        &self,
        title: &str,
        total: usize,
        words: Vec<String>,
        is_grave: bool,
    ) -> Vec<Line<'static>> {
        if words.is_empty() {
            return Vec::new();
        }
        let text = format!("{title}: {} of {total} in trouble: {}", words.len(), words.join("; "));
        let lines_max = if self.is_roomy { REASON_LINES_MAX } else { 1 };
        self.banner(&text, is_grave, lines_max)
    }

    /// The title of the list of links, and the titles of its columns.
    pub(super) fn link_head(&self) -> Vec<Line<'static>> {
        let links = self.model.links();
        let troubled = links.iter().filter(|link| is_link_in_trouble(link)).count();
        vec![title("links", links.len(), troubled), self.titles(&LINK_COLUMNS)]
    }

    /// At most `rows` links, starting with the one at `scroll`.
    pub(super) fn link_rows(&self, scroll: usize, rows: usize) -> Vec<Line<'static>> {
        let links = self.model.links().into_iter().skip(scroll).take(rows);
        let row = |link: &Link| {
            let is_failed = link.state == LinkState::Failed;
            let is_off = link.state == LinkState::Disabled;
            Line::styled(self.cells(&LINK_COLUMNS, link), style(is_failed, is_link_in_trouble(link), is_off))
        };
        links.map(row).collect()
    }

    /// The title of the list of outputs, and the titles of its columns.
    pub(super) fn output_head(&self) -> Vec<Line<'static>> {
        let (outputs, head) = (self.model.outputs(), self.durable_end());
        let troubled = outputs.iter().filter(|output| is_output_in_trouble(output, head)).count();
        vec![title("outputs", outputs.len(), troubled), self.titles(&OUTPUT_COLUMNS)]
    }

    /// At most `rows` outputs, starting with the one at `scroll`.
    pub(super) fn output_rows(&self, scroll: usize, rows: usize) -> Vec<Line<'static>> {
        let (outputs, head) = (self.model.outputs().into_iter().skip(scroll).take(rows), self.durable_end());
        let row = |output: &Output| {
            let is_failed = output.state == OutputState::Failed;
            let is_off = output.state == OutputState::Disabled;
            let style = style(is_failed, is_output_in_trouble(output, head), is_off);
            Line::styled(self.cells(&OUTPUT_COLUMNS, output), style)
        };
        outputs.map(row).collect()
    }

    /// The offset behind the newest durable frame.
    fn durable_end(&self) -> u64 {
        self.model.known.as_ref().map_or(0, |(snapshot, _)| snapshot.stats.archive.next_offset)
    }

    /// How long ago the last bytes came: by the daemon's clock, plus the time since the response came.
    fn last_heard(&self, link: &Link) -> String {
        let (Some((snapshot, _)), Some(heard_ms)) = (&self.model.known, link.heard_ms) else {
            return "-".to_owned();
        };
        age(between(heard_ms, snapshot.stats.time_ms) + self.model.age().unwrap_or_default())
    }
}

fn title(name: &str, total: usize, troubled: usize) -> Line<'static> {
    faint(format!("{name} {total}, {troubled} in trouble")).into()
}

fn style(is_failed: bool, is_in_trouble: bool, is_off: bool) -> Style {
    match (is_failed, is_in_trouble, is_off) {
        (true, ..) => Style::new().red().bold(),
        (_, true, _) => Style::new().yellow(),
        (.., true) => Style::new().dim(),
        _ => Style::new(),
    }
}

/// `name state: why`. The state is left out where the trouble says it all.
fn in_words(name: &str, state: Option<String>, why: Option<&str>) -> String {
    let state = state.map_or(String::new(), |state| format!(" {state}"));
    let why = why.map_or(String::new(), |why| format!(": {}", plain(why)));
    format!("{}{state}{why}", plain(name))
}

/// The reader, or how many there are, or the address where the output waits for them.
fn readers(output: &Output) -> String {
    match (output.readers_total, &output.readers[..]) {
        (0, _) => plain(output.address.as_deref().unwrap_or("-")),
        (1, [reader]) => plain(&reader.peer),
        (total, _) => format!("{total} readers"),
    }
}

/// Units that became no frame, and what never became a unit.
fn link_dropped(link: &Link) -> u64 {
    let counts = &link.counts;
    counts.idle_dropped
        + counts.bad_dropped
        + counts.full_dropped
        + counts.refused
        + counts.oversize
        + counts.kernel_drops
}

/// Frames and packets that could not go out.
/// How old the oldest frame is that a forwarder has not forwarded.
fn lag(output: &Output) -> Option<Duration> {
    output.forwarding.map(|forwarding| Duration::from_millis(forwarding.lag_ms))
}

fn output_dropped(output: &Output) -> u64 {
    let counts = &output.counts;
    counts.undecoded + counts.cut + counts.too_long + counts.unreachable
}
