//! Subscribers and the newest emergencies: lists if there is room, else one line each.

use ratatui::style::Stylize as _;
use ratatui::text::{Line, Span};

use super::{View, cells, faint};
use crate::figures::{age, between, clock, count, plain};
use crate::model::LAG_TROUBLE;
use api::{Emergency, Kind, Stats, Subscriber};

/// Minimum and maximum number of rows of a list.
const ROWS: (usize, usize) = (3, 10);
/// Columns between two lists.
const GUTTER: usize = 2;

impl View<'_> {
    pub(super) fn lists(&self, stats: &Stats, height: u16) -> Vec<Line<'static>> {
        if !self.is_roomy {
            return vec![self.emergency_line(stats), subscriber_line(stats)];
        }
        let rows = if self.is_report { usize::MAX } else { (usize::from(height) / 8).clamp(ROWS.0, ROWS.1) };
        let half = (usize::from(self.columns) - GUTTER) / 2;
        let emergencies = emergencies(stats, rows, half);
        let subscribers = subscribers(stats, rows, half);
        let empty = Span::raw(" ".repeat(half));
        let longest = emergencies.len().max(subscribers.len());
        let side = |list: &[Span<'static>], at: usize| list.get(at).cloned().unwrap_or(empty.clone());
        (0..longest)
            .map(|at| {
                Line::from(vec![side(&emergencies, at), " ".repeat(GUTTER).into(), side(&subscribers, at)])
            })
            .collect()
    }

    fn emergency_line(&self, stats: &Stats) -> Line<'static> {
        match stats.emergencies.last() {
            None => "emergencies: none".into(),
            Some(newest) => Span::raw(format!("newest {}", emergency(newest))).red().into(),
        }
    }
}

fn subscriber_line(stats: &Stats) -> Line<'static> {
    match stats.subscribers.iter().map(|subscriber| subscriber.lag_frames).max() {
        None => "subscribers: none".into(),
        Some(lag) => {
            let text = format!("subscribers {}, lag at most {}", stats.subscribers.len(), count(lag));
            if lag >= LAG_TROUBLE { Span::raw(text).yellow().into() } else { text.into() }
        }
    }
}

fn emergencies(stats: &Stats, rows: usize, columns: usize) -> Vec<Span<'static>> {
    let newest = stats.emergencies.iter().rev().take(rows);
    let mut list = vec![faint(cells::left("emergencies, the newest first", columns))];
    list.extend(newest.map(|one| Span::raw(cells::left(&emergency(one), columns)).red()));
    if list.len() == 1 {
        list.push(Span::raw(cells::left("none", columns)));
    }
    list
}

fn emergency(emergency: &Emergency) -> String {
    let Emergency { received_ms, source_id, station, sequence, label, payload_bytes, .. } = emergency;
    let what = match label.as_deref() {
        None | Some("") => format!("{payload_bytes} bytes"),
        Some(label) => plain(label),
    };
    let replay = if emergency.kind == Kind::Replay { " (replay)" } else { "" };
    let station = plain(station);
    let station = if station.is_empty() { String::new() } else { format!(" {station}") };
    format!("{} source {source_id}{station}{replay} #{sequence} {what}", clock(*received_ms))
}

fn subscribers(stats: &Stats, rows: usize, columns: usize) -> Vec<Span<'static>> {
    let mut slowest: Vec<&Subscriber> = stats.subscribers.iter().collect();
    slowest.sort_by_key(|subscriber| std::cmp::Reverse(subscriber.lag_frames));
    let more = slowest.len().saturating_sub(rows);
    let more = if more > 0 { format!(", {more} more not shown") } else { String::new() };
    let mut list = vec![faint(cells::left(&format!("subscribers, the slowest first{more}"), columns))];
    list.extend(slowest.into_iter().take(rows).map(|one| {
        let since = age(between(one.since_ms, stats.time_ms));
        let (peer, policy) = (plain(&one.peer), one.policy);
        let text =
            format!("{} {policy:<8} lag {:>9}  for {since}", cells::left(&peer, 22), count(one.lag_frames));
        let text = Span::raw(cells::left(&text, columns));
        if one.lag_frames >= LAG_TROUBLE { text.yellow() } else { text }
    }));
    if list.len() == 1 {
        list.push(Span::raw(cells::left("none", columns)));
    }
    list
}
