//! The table of sources.

use std::time::Duration;

use ratatui::style::Style;
use ratatui::text::Line;

use super::{View, cells, faint};
use crate::figures::{age, between, count, latency, megabytes, plain, rate};
use crate::model::{
    Column, Filter, ack_ms, bytes_per_s, credit_percent, frames_per_s, is_connected, is_in_trouble,
};
use api::Source;

/// Columns by importance. A column is shown if it fits beside those before it that are shown.
const BY_WEIGHT: [Column; 12] = [
    Column::Source,
    Column::State,
    Column::Frames,
    Column::Age,
    Column::Missing,
    Column::Rejected,
    Column::Kind,
    Column::Ack,
    Column::Station,
    Column::Credit,
    Column::Duplicates,
    Column::Bytes,
];
/// Maximum width of the station's column.
const STATION_MAX: usize = 32;

impl Column {
    const fn title(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Kind => "kind",
            Self::Station => "station",
            Self::State => "state",
            Self::Frames => "frames/s",
            Self::Bytes => "MB/s",
            Self::Missing => "missing",
            Self::Duplicates => "dup",
            Self::Rejected => "rejected",
            Self::Credit => "credit",
            Self::Age => "last",
            Self::Ack => "ack",
        }
    }

    const fn width(self) -> usize {
        match self {
            Self::Source => 10,
            Self::Station => 12,
            Self::State | Self::Frames | Self::Missing | Self::Rejected => 9,
            Self::Duplicates => 8,
            Self::Bytes | Self::Credit | Self::Ack => 7,
            Self::Kind | Self::Age => 6,
        }
    }

    const fn is_text(self) -> bool {
        matches!(self, Self::Kind | Self::Station | Self::State)
    }
}

impl View<'_> {
    /// The title of the table, and the titles of its columns.
    pub(super) fn source_head(&self) -> Vec<Line<'static>> {
        let model = self.model;
        let Some((snapshot, _)) = &model.known else { return Vec::new() };
        let (shown, here) = (self.model.rows().len(), snapshot.sources.len());
        let mut text = format!("sources {}", count(here as u64));
        // The daemon returns only as many sources as `fetch` asks for.
        if snapshot.total > here {
            text += &format!(" of {}, the others are left out", count(snapshot.total as u64));
        }
        if model.filter != Filter::All {
            text += &format!(", {} {}", count(shown as u64), model.filter.name());
        }
        let order = if model.is_descending { "descending" } else { "ascending" };
        text += &format!(", by {} {order}", model.sort.title());
        let titles: Vec<_> = self
            .columns_shown()
            .map(|(column, width)| {
                let mark = match (model.sort == column, model.is_descending) {
                    (false, _) => "",
                    (true, false) => "▲",
                    (true, true) => "▼",
                };
                aligned(column, &format!("{}{mark}", column.title()), width)
            })
            .collect();
        vec![faint(text).into(), Line::styled(titles.join(" "), Style::new().bold())]
    }

    /// At most `rows` sources, starting with the one at `scroll`.
    pub(super) fn source_rows(&self, scroll: usize, rows: usize) -> Vec<Line<'static>> {
        let columns: Vec<_> = self.columns_shown().collect();
        let sources = self.model.rows();
        sources.into_iter().skip(scroll).take(rows).map(|source| self.row(source, &columns)).collect()
    }

    fn row(&self, source: &Source, columns: &[(Column, usize)]) -> Line<'static> {
        let cells: Vec<_> = columns
            .iter()
            .map(|(column, width)| aligned(*column, &self.cell(source, *column), *width))
            .collect();
        let style = match (is_in_trouble(source), is_connected(source)) {
            (true, _) => Style::new().yellow(),
            (false, true) => Style::new(),
            (false, false) => Style::new().dim(),
        };
        Line::styled(cells.join(" "), style)
    }

    fn cell(&self, source: &Source, column: Column) -> String {
        match column {
            Column::Source => source.source_id.to_string(),
            Column::Kind => source.kind.to_string(),
            Column::Station => match &source.via {
                Some(via) => format!("{} via {}", plain(&source.station), plain(via)),
                None => plain(&source.station),
            },
            Column::State => source.state.to_string(),
            Column::Frames => rate(frames_per_s(source)),
            Column::Bytes => megabytes(bytes_per_s(source)),
            Column::Missing => count(source.missing),
            Column::Duplicates => count(source.frames.duplicates),
            Column::Rejected => count(source.frames.rejected),
            Column::Credit => format!("{}%", credit_percent(source)),
            Column::Age => self.last_frame(source).map_or("-".to_owned(), age),
            Column::Ack => latency(ack_ms(source)),
        }
    }

    /// The age of the newest frame: by the daemon's clock, plus the time since the response came.
    fn last_frame(&self, source: &Source) -> Option<Duration> {
        let (snapshot, _) = self.model.known.as_ref()?;
        let then = between(source.last_frame_ms?, snapshot.stats.time_ms);
        Some(then + self.model.age().unwrap_or_default())
    }

    /// The columns that fit the width of the screen, from left to right, with their widths. The station takes what is
    /// left, up to [`STATION_MAX`].
    fn columns_shown(&self) -> impl Iterator<Item = (Column, usize)> {
        let mut left = usize::from(self.columns);
        let mut chosen = Vec::new();
        for column in BY_WEIGHT {
            let needed = column.width() + usize::from(!chosen.is_empty());
            if needed <= left {
                left -= needed;
                chosen.push(column);
            }
        }
        let station = (Column::Station.width() + left).min(STATION_MAX);
        let is_chosen = move |column: &Column| chosen.contains(column);
        Column::ALL.into_iter().filter(is_chosen).map(move |column| match column {
            Column::Station => (column, station),
            _ => (column, column.width()),
        })
    }
}

fn aligned(column: Column, text: &str, width: usize) -> String {
    if column.is_text() { cells::left(text, width) } else { cells::right(text, width) }
}
