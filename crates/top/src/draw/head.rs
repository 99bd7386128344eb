//! The daemon as a whole: state, trouble, figures, throughput.

use ratatui::style::{Color, Style, Stylize as _};
use ratatui::text::{Line, Span};

use super::{View, bold, cells, faint};
use crate::figures::{age, between, clock, count, grouped, latency, megabytes, percent, plain, rate, size};
use api::{Archive, ArchiveStatus, Books, Fleet, FleetState, LaneStats, RefusalCounts, Stats, Upload};

/// Maximum number of lines for each reason not to be ready.
pub(super) const REASON_LINES_MAX: usize = 3;
/// Free disk space below this share is shown as trouble, in percent.
const DISK_FREE_MIN: u64 = 10;
/// Bars of the throughput. The first is for zero.
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const GAP: char = '·';

impl View<'_> {
    /// The name of the daemon and the age of the data.
    pub(super) fn head(&self) -> Vec<Line<'static>> {
        let model = self.model;
        let Some((snapshot, _)) = &model.known else {
            let line = Line::from(vec![bold("telemetry-aggregator"), format!("  {}", model.url).into()]);
            return vec![line.reversed()];
        };
        let stats = &snapshot.stats;
        let name = if self.is_roomy {
            format!("telemetry-aggregator {}  ", plain(&stats.version))
        } else {
            String::new()
        };
        let old = model.age().unwrap_or_default();
        let state = stats.state.to_string().to_uppercase();
        let fleet = fleet_words(&stats.fleet);
        let title = format!(
            "{name}{state}  {fleet}  up {}  data {} {} old",
            age(between(stats.started_ms, stats.time_ms)),
            clock(stats.time_ms),
            age(old)
        );
        let url = format!("  {}", model.url);
        let space = usize::from(self.columns).saturating_sub(cells::width(&title));
        let url = if cells::width(&url) <= space { cells::right(&url, space) } else { String::new() };
        vec![Line::from(vec![bold(title), Span::raw(url)]).reversed()]
    }

    /// Warnings that the user must see.
    pub(super) fn banners(&self) -> Vec<Line<'static>> {
        let model = self.model;
        let mut lines = Vec::new();
        if model.is_stale() {
            let why = plain(model.trouble.as_deref().unwrap_or("the last request is not answered yet"));
            let text = match model.age() {
                Some(old) => format!("NO ANSWER, all below is {} old: {why}", age(old)),
                None => format!("NO ANSWER: {why}"),
            };
            lines.extend(self.banner(&text, true, REASON_LINES_MAX));
        } else if model.known.is_none() {
            lines.push(Line::from("connecting"));
        }
        if let Some((snapshot, _)) = &model.known {
            for reason in &snapshot.stats.unready {
                let text = format!("NOT READY: {}", plain(reason));
                lines.extend(self.banner(&text, false, REASON_LINES_MAX));
            }
            let fleet = &snapshot.stats.fleet;
            if fleet.lost > 0 {
                let text = format!(
                    "{}: {} sources vanished without BYE, {} connected",
                    fleet_words(fleet),
                    count(fleet.lost),
                    count(fleet.connected)
                );
                lines.extend(self.banner(&text, fleet.connected == 0, REASON_LINES_MAX));
            }
        }
        lines.extend(self.link_banner());
        lines.extend(self.output_banner());
        lines
    }

    /// A warning over the whole width: red if it `is_grave`, else yellow.
    pub(super) fn banner(&self, text: &str, is_grave: bool, lines_max: usize) -> Vec<Line<'static>> {
        let columns = usize::from(self.columns);
        let style = match is_grave {
            true => Style::new().fg(Color::White).bg(Color::Red).bold(),
            false => Style::new().fg(Color::Black).bg(Color::Yellow),
        };
        let rows = cells::wrapped(text, columns, lines_max);
        rows.into_iter().map(|row| Line::styled(cells::left(&row, columns), style)).collect()
    }

    /// Lanes, books, archive, connections.
    pub(super) fn figures(&self, stats: &Stats) -> Vec<Line<'static>> {
        let mut lines = Vec::new();
        if self.is_roomy {
            lines.push(
                faint(format!(
                    "{:<10}{:>12}{:>10}{:>10}{:>10}{:>10}{:>16}{:>12}",
                    "lane", "frames/s", "MB/s", "ack p50", "p99", "max", "frames", "payload"
                ))
                .into(),
            );
        }
        lines.push(self.lane("emergency", &stats.lanes.emergency, true));
        lines.push(self.lane("routine", &stats.lanes.routine, false));
        lines.extend(self.books(&stats.frames, stats.missing));
        lines.extend(self.archive(&stats.archive, stats.uploads.as_ref()));
        lines.extend(refusals(&stats.refusals, self.is_roomy));
        let (connections, process) = (&stats.connections, &stats.process);
        lines.push(if self.is_roomy {
            format!(
                "connected  sources {} of {}, subscribers {} of {}; memory {}, bounded by {}; open files {}",
                count(connections.sources as u64),
                count(connections.sources_max as u64),
                count(connections.subscribers as u64),
                count(connections.subscribers_max as u64),
                size(process.memory_bytes),
                size(process.memory_limit_bytes),
                process.open_files
            )
            .into()
        } else {
            format!(
                "connected sources {}/{} subs {}/{} mem {}",
                connections.sources,
                connections.sources_max,
                connections.subscribers,
                connections.subscribers_max,
                size(process.memory_bytes)
            )
            .into()
        });
        lines
    }

    fn lane(&self, name: &str, lane: &LaneStats, is_emergency: bool) -> Line<'static> {
        let ack = &lane.ack_latency;
        let (frames, bytes) = (rate(lane.frames_per_s), megabytes(lane.bytes_per_s));
        let (p50, p99) = (latency(ack.p50_ms), latency(ack.p99_ms));
        let line = if self.is_roomy {
            let (max, sum, payload) = (latency(ack.max_ms), grouped(lane.frames), size(lane.payload_bytes));
            format!("{name:<10}{frames:>12}{bytes:>10}{p50:>10}{p99:>10}{max:>10}{sum:>16}{payload:>12}")
        } else {
            format!("{name:<9}{frames:>8}/s {bytes:>7} MB/s ack {p50} p99 {p99}")
        };
        let style =
            if is_emergency && lane.frames_per_s > 0.0 { Style::new().red().bold() } else { Style::new() };
        Line::styled(line, style)
    }

    /// The counters of frames. received = archived + not stored + duplicates + rejected + in flight, else the line
    /// reports the difference.
    fn books(&self, books: &Books, missing: u64) -> Vec<Line<'static>> {
        let Books { received, archived, not_stored, duplicates, rejected, in_flight, rejected_by } = books;
        let sum = [archived, not_stored, duplicates, rejected, in_flight].into_iter().map(|n| u128::from(*n));
        let balance = match i128::from(*received) - sum.sum::<u128>() as i128 {
            0 => Span::raw("balanced").green(),
            off => Span::raw(format!("OFF BY {off}")).red().bold(),
        };
        let lost = format!("missing {}", count(missing));
        let lost = if missing > 0 { Span::raw(lost).yellow() } else { Span::raw(lost) };
        if !self.is_roomy {
            let text = format!(
                "received {} = {}+{}+{}+{}+{} ",
                count(*received),
                count(*archived),
                count(*not_stored),
                count(*duplicates),
                count(*rejected),
                count(*in_flight)
            );
            let second = format!(" duplicates {} rejected {}", count(*duplicates), count(*rejected));
            return vec![vec![text.into(), balance].into(), vec![lost, second.into()].into()];
        }
        let text = format!(
            "books      received {} = archived {} + not stored {} + duplicates {} + rejected {} + in flight {}  ",
            grouped(*received),
            grouped(*archived),
            grouped(*not_stored),
            grouped(*duplicates),
            grouped(*rejected),
            grouped(*in_flight)
        );
        let mut second = vec!["           ".into(), lost];
        if !rejected_by.is_empty() {
            let codes: Vec<_> =
                rejected_by.iter().map(|(code, n)| format!("{} {}", plain(code), count(*n))).collect();
            second.push(format!("  rejected by {}", codes.join(", ")).into());
        }
        vec![vec![text.into(), balance].into(), second.into()]
    }

    fn archive(&self, archive: &Archive, uploads: Option<&Upload>) -> Vec<Line<'static>> {
        let status = Span::raw(archive.status.to_string());
        let status = if archive.status == ArchiveStatus::Ok { status.green() } else { status.red().bold() };
        let free = percent(archive.disk_free_bytes, archive.disk_bytes);
        let disk =
            format!("disk {} free of {} ({free}%)", size(archive.disk_free_bytes), size(archive.disk_bytes));
        let is_short = archive.disk_bytes > 0 && free < DISK_FREE_MIN;
        let disk = if is_short { Span::raw(disk).red().bold() } else { Span::raw(disk) };
        if !self.is_roomy {
            return vec![vec!["archive ".into(), status, " ".into(), disk].into()];
        }
        let kept = format!(
            "  offsets {} to {}, segments {} with {}; sync p50 {} p99 {}; ",
            grouped(archive.first_offset),
            grouped(archive.next_offset),
            count(archive.segments),
            size(archive.segment_bytes),
            latency(archive.sync.p50_ms),
            latency(archive.sync.p99_ms)
        );
        let mut line = vec!["archive    ".into(), status, kept.into(), disk];
        if archive.age_hold.is_some() {
            line.push(Span::raw("; nothing expires by age for now").yellow());
        }
        if archive.upkeep_failing > 0 {
            line.push(Span::raw(format!("; maintenance of {} segments fails", archive.upkeep_failing)).red());
        }
        if uploads.is_some_and(|uploads| uploads.trouble.is_some()) {
            line.push(Span::raw("; uploads fail").red());
        }
        vec![line.into()]
    }

    /// Frames per second over time, the newest at the right. A gap stands for a missing response.
    pub(super) fn throughput(&self) -> Line<'static> {
        let history = &self.model.throughput;
        let most = history.iter().flatten().max().copied().unwrap_or(0);
        let label = format!("frames/s, {} at most ", count(most));
        let room = usize::from(self.columns).saturating_sub(cells::width(&label));
        let bar = |value: &Option<u64>| match value {
            None => GAP,
            Some(0) => BARS[0],
            // Rounds up, so that a small value is never shown as zero.
            Some(value) => BARS[(u128::from(*value) * 8).div_ceil(u128::from(most)) as usize],
        };
        let bars: String = history.iter().skip(history.len().saturating_sub(room)).map(bar).collect();
        vec![faint(label), Span::raw(bars).cyan()].into()
    }
}

/// The state of the fleet. It is independent of the state of the daemon.
fn fleet_words(fleet: &Fleet) -> String {
    match fleet.state {
        FleetState::Idle => "NO SOURCES".to_owned(),
        state => format!("FLEET {state}").to_uppercase(),
    }
}

/// Connections refused since the start, if any: `refused    ingest busy 3, unauthorized 1; feed version 2`.
fn refusals(counts: &RefusalCounts, is_roomy: bool) -> Option<Line<'static>> {
    let listeners: Vec<_> = counts
        .0
        .iter()
        .map(|(listener, reasons)| {
            let reasons: Vec<_> =
                reasons.iter().map(|(reason, n)| format!("{} {}", plain(reason), count(*n))).collect();
            format!("{listener} {}", reasons.join(", "))
        })
        .collect();
    let label = if is_roomy { "refused    " } else { "refused " };
    (!listeners.is_empty()).then(|| vec![label.into(), Span::raw(listeners.join("; ")).yellow()].into())
}
