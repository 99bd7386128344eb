//! `/metrics`: the numbers of `/api/v1/stats` and `/api/v1/sources`, taken at one moment. Clients that accept
//! OpenMetrics get it. Others get the older text format.
//!
//! received = archived + not stored + duplicates + rejected + in flight holds in every response. The number of series
//! is bounded: [`SOURCES_MAX`] streams have their own series, and connections without an epoch have none.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::extract;
use axum::http::{HeaderMap, header};
use axum::response::Response;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::{Registry, Unit};

mod links;
mod outputs;
mod uploads;

use super::State;
use super::answer::{ApiError, Content};
use api::{ArchiveStatus, DaemonState, LaneStats, Link, Output, Source, SourceLane, Stats};
use frame::histogram::Counts;
use frame::{FramePriority, Lanes, is_anonymous};
use ingest::{SourceInfo, StreamView};
use observe::Handles;
use support::logging::{self, LeftOut};

/// At most this many streams have their own series: the first in order of source, kind and station. Those whose source the
/// peer of a link chose come last.
pub const SOURCES_MAX: usize = 1_000;
/// The prefix of every name.
const PREFIX: &str = "telemetry_aggregator";
pub(super) const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
pub(super) const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) async fn metrics(
    extract::State(state): extract::State<Arc<State>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    let is_open = accepted.into_iter().any(|accept| accept.contains("application/openmetrics-text"));
    let turn = state.answers.to_scrape().await?;
    let registered = state.handles.registered.current().await;
    turn.answer_scrape(move || {
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register_collector(Box::new(Scrape::new(&state.handles, &registered)));
        let mut text = String::new();
        text::encode(&mut text, &registry)
            .map_err(|_| ApiError::unavailable("the metrics cannot be put into text"))?;
        let (content_type, text) = if is_open { (OPENMETRICS, text) } else { (CLASSIC, classic(&text)) };
        Ok(Content::new(content_type, text.into_bytes()))
    })
    .await
}

/// Converts to the older text format. It names counters by their samples and has no info, units or end mark.
fn classic(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    let mut families = HashMap::new();
    for line in openmetrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        families.extend(line.split_once(' '));
    }
    for line in openmetrics.lines() {
        let Some(comment) = line.strip_prefix("# ") else {
            text.extend([line, "\n"]);
            continue;
        };
        let mut words = comment.splitn(3, ' ');
        let (Some(word @ ("HELP" | "TYPE")), Some(name), Some(rest)) =
            (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let (suffix, kind) = match families.get(name) {
            Some(&"counter") => ("_total", "counter"),
            Some(&"info") => ("_info", "gauge"),
            kind => ("", kind.copied().unwrap_or("untyped")),
        };
        let rest = if word == "TYPE" { kind } else { rest };
        text.extend(["# ", word, " ", name, suffix, " ", rest, "\n"]);
    }
    text
}

/// The numbers of one moment.
#[derive(Debug)]
struct Scrape {
    stats: Stats,
    /// The streams that have their own series.
    sources: Vec<Source>,
    without_series: u64,
    waiting: Lanes<Waiting>,
    /// Credit of each connection.
    windows: Lanes<u64>,
    ack: Lanes<Counts>,
    sync: Counts,
    restarts: Vec<(String, u64)>,
    /// When each certificate expires, by the name of its key.
    expiries: Vec<(&'static str, Duration)>,
    links: Vec<Link>,
    outputs: Vec<Output>,
}

/// Frames that wait for the processor, in one lane of all streams.
#[derive(Debug)]
struct Waiting {
    frames: u64,
    credit_bytes: u64,
}

impl Waiting {
    fn of(streams: &[StreamView], lane: FramePriority) -> Self {
        Self {
            frames: streams.iter().map(|stream| stream.queued_frames[lane] as u64).sum(),
            credit_bytes: streams.iter().map(|stream| stream.queued_cost[lane]).sum(),
        }
    }
}

impl Scrape {
    fn new(handles: &Handles, registered: &[SourceInfo]) -> Self {
        let mut streams = handles.table.views();
        let (stats, total) = (handles.stats(&streams), streams.len());
        let waiting = Lanes::from_fn(|lane| Waiting::of(&streams, lane));
        streams.retain(|stream| !is_anonymous(stream.position.epoch));
        // Sources that the peer of a link invents must not take series from others.
        streams.sort_by_key(|stream| stream.is_invented);
        streams.truncate(SOURCES_MAX);
        let restarts = handles.restarts.lock().unwrap_or_else(PoisonError::into_inner);
        let restarts = restarts.iter().map(|(name, count)| (name.to_string(), count.load(Relaxed)));
        Self {
            stats,
            expiries: handles.live.current().tls.expiries(),
            links: handles.all_links(links::CHANNELS_MAX),
            outputs: handles.all_outputs(),
            waiting,
            windows: handles.live.current().ingest_config().windows(),
            without_series: (total - streams.len()) as u64,
            sources: handles.sources(streams, registered),
            ack: handles.latencies.snapshot(),
            sync: handles.archive_stats.sync_times.snapshot(),
            restarts: restarts.collect(),
        }
    }
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        self.daemon(&mut out)?;
        self.frames(&mut out)?;
        self.archive(&mut out)?;
        self.connections(&mut out)?;
        self.streams(&mut out)?;
        self.links(&mut out)?;
        self.outputs(&mut out)?;
        self.uploads(&mut out)
    }
}

impl Scrape {
    fn daemon(&self, out: &mut Out<'_>) -> fmt::Result {
        let Stats { version, unready, state, started_ms, process, .. } = &self.stats;
        out.info("build", "Of this program", &[("version", version.as_str())])?;
        out.gauge(
            "ready",
            "1 while all data that clients offer is accepted, as in /readyz",
            None,
            unready.is_empty() as u64,
        )?;
        out.gauge("draining", "1 from the signal to end on", None, (*state == DaemonState::Draining) as u64)?;
        let started = *started_ms as f64 / 1e3;
        out.gauge("start_time", "When the daemon started, unix time", Some(&Unit::Seconds), started)?;
        out.gauge("memory", "Resident memory", Some(&Unit::Bytes), process.memory_bytes)?;
        let limit = process.memory_limit_bytes;
        out.gauge(
            "memory_limit",
            "Upper bound of the sum of all memory limits, ingest.memory_limit",
            Some(&Unit::Bytes),
            limit,
        )?;
        out.gauge("open_files", "Files and sockets open", None, process.open_files)?;
        let expiries =
            self.expiries.iter().map(|(key, expires)| ([("certificate", *key)], expires.as_secs()));
        out.gauges("certificate_expiry", "When it expires, unix time", Some(&Unit::Seconds), expiries)?;
        let restarts = self.restarts.iter().map(|(name, count)| ([("part", name.as_str())], *count));
        out.counters("restarts", "Restarts of parts after a failure", None, restarts)?;
        let LeftOut { queue_full, rate } = logging::left_out();
        let left_out = [([("reason", "queue_full")], queue_full), ([("reason", "rate")], rate)];
        out.counters("log_lines_left_out", "Lines that are not in the log", None, left_out)
    }

    fn frames(&self, out: &mut Out<'_>) -> fmt::Result {
        let Stats { frames, lanes, missing, .. } = &self.stats;
        out.counter("frames_received", "Frames read from sockets", None, frames.received)?;
        out.counter("frames_archived", "Frames synced to disk", None, frames.archived)?;
        out.counter(
            "frames_not_stored",
            "Replayed frames that were processed and not stored",
            None,
            frames.not_stored,
        )?;
        out.counter(
            "frames_duplicate",
            "Frames dropped because they had been accepted before",
            None,
            frames.duplicates,
        )?;
        let rejected =
            frames.rejected_by.iter().map(|(reason, count)| ([("reason", reason.as_str())], *count));
        out.counters("frames_rejected", "Frames refused, by the code the peer got", None, rejected)?;
        out.gauge("frames_in_flight", "Frames received and not settled", None, frames.in_flight)?;
        out.gauge("sequences_missing", "Sequences of current epochs that have not come", None, *missing)?;
        let by_lane = |value: fn(&LaneStats) -> u64| {
            lanes.iter().map(move |(priority, lane)| ([("lane", priority.name())], value(lane)))
        };
        out.counters("frames_accepted", "Frames handed to the pipeline", None, by_lane(|lane| lane.frames))?;
        let payload = by_lane(|lane| lane.payload_bytes);
        out.counters("payload_accepted", "Payloads of the frames accepted", Some(&Unit::Bytes), payload)?;
        let bytes = Some(&Unit::Bytes);
        let each = |values: Lanes<u64>| {
            values.into_iter().map(|(priority, value)| ([("lane", priority.name())], value))
        };
        let queued = each(self.waiting.each_ref().map(|waiting| waiting.frames));
        out.gauges("queued_frames", "Frames that wait for the processor", None, queued)?;
        let used = each(self.waiting.each_ref().map(|waiting| waiting.credit_bytes));
        out.gauges("credit_used", "Credit that the frames waiting use", bytes, used)?;
        out.gauges("credit_window", "Credit each connection has", bytes, each(self.windows))?;
        let ack = self.ack.iter().map(|(priority, counts)| ([("lane", priority.name())], counts));
        out.histograms("ack_latency", "From the socket to stable storage, when the ACK is due", ack)
    }

    fn archive(&self, out: &mut Out<'_>) -> fmt::Result {
        let archive = &self.stats.archive;
        let states = [ArchiveStatus::Ok, ArchiveStatus::Degraded, ArchiveStatus::Failed];
        let states = states.map(|state| ([("status", state.to_string())], (archive.status == state) as u64));
        out.gauges("archive_status", "1 for the status the archive has", None, states)?;
        out.gauge("archive_first_offset", "Offset of the oldest frame kept", None, archive.first_offset)?;
        out.gauge(
            "archive_next_offset",
            "Offset behind the newest durable frame",
            None,
            archive.next_offset,
        )?;
        out.gauge("archive_segments", "Segments kept", None, archive.segments)?;
        let bytes = Some(&Unit::Bytes);
        out.gauge(
            "archive_size",
            "What segments take, allocated ahead included",
            bytes,
            archive.segment_bytes,
        )?;
        out.counter("archive_written", "Blocks written", bytes, archive.written_bytes)?;
        out.counter("archive_commits", "Blocks written and synced", None, archive.commits)?;
        out.counter("archive_expired_frames", "Frames removed by retention", None, archive.expired_frames)?;
        let is_held = archive.age_hold.is_some() as u64;
        out.gauge("archive_age_hold", "1 while nothing expires by age", None, is_held)?;
        let failing = archive.upkeep_failing;
        out.gauge("archive_upkeep_failing", "Segments whose maintenance failed last time", None, failing)?;
        let foreign = archive.foreign_segments;
        out.gauge("archive_foreign_segments", "Segments of another archive, set aside", None, foreign)?;
        let shortages = archive.file_shortages;
        out.counter("archive_file_shortages", "Times that too many files were open", None, shortages)?;
        out.gauge("disk_free", "Free on the disk of the archive", bytes, archive.disk_free_bytes)?;
        out.gauge("disk_size", "Size of the disk of the archive", bytes, archive.disk_bytes)?;
        out.histogram("archive_sync", "Syncs of the archive", &self.sync)
    }

    fn connections(&self, out: &mut Out<'_>) -> fmt::Result {
        let connections = &self.stats.connections;
        out.gauge("sources_connected", "Connections of sources", None, connections.sources as u64)?;
        let max = connections.sources_max as u64;
        out.gauge("sources_connected_max", "Sources that may connect, ingest.max_connections", None, max)?;
        let fleet = &self.stats.fleet;
        let states = [
            ("connected", fleet.connected),
            ("ended", fleet.ended),
            ("lost", fleet.lost),
            ("removed", fleet.removed),
            ("offline", fleet.offline),
        ];
        let states = states.map(|(state, sources)| ([("state", state)], sources));
        out.gauges("fleet_sources", "Sources by what became of their connections", None, states)?;
        out.gauge("subscribers", "Subscribers of the feed", None, connections.subscribers as u64)?;
        let max = connections.subscribers_max as u64;
        out.gauge("subscribers_max", "Subscribers there may be, feed.max_subscribers", None, max)?;
        let refusals = self.stats.refusals.0.iter().flat_map(|(listener, reasons)| {
            let labels = |reason: &String| [("listener", listener.to_string()), ("reason", reason.clone())];
            reasons.iter().map(move |(reason, count)| (labels(reason), *count))
        });
        out.counters("refusals", "Connections refused, or ended for what the peer did", None, refusals)?;
        let lags = self.stats.subscribers.iter();
        let lags = lags.map(|one| ([("session", one.session.to_string())], one.lag_frames));
        out.gauges("subscriber_lag_frames", "Durable frames a subscriber has not been given yet", None, lags)
    }

    fn streams(&self, out: &mut Out<'_>) -> fmt::Result {
        let with_series = || self.sources.iter();
        out.gauge(
            "sources_without_series",
            "Streams without series of their own",
            None,
            self.without_series,
        )?;
        let each =
            |value: fn(&Source) -> u64| with_series().map(move |source| (labels(source), value(source)));
        let lanes = |value: fn(&SourceLane) -> u64| {
            with_series().flat_map(move |source| {
                source.lanes.iter().map(move |(priority, lane)| (lane_labels(source, priority), value(lane)))
            })
        };
        let is_connected = |source: &Source| u64::from(source.session.is_some());
        let (bytes, seconds) = (Some(&Unit::Bytes), Some(&Unit::Seconds));
        out.gauges("source_connected", "1 while a connection speaks for it", None, each(is_connected))?;
        out.counters("source_received_frames", "Frames read", None, each(|source| source.frames.received))?;
        out.counters("source_archived_frames", "Frames synced", None, each(|source| source.frames.archived))?;
        let not_stored = each(|source| source.frames.not_stored);
        out.counters(
            "source_not_stored_frames",
            "Frames that were processed and not stored",
            None,
            not_stored,
        )?;
        let duplicates = each(|source| source.frames.duplicates);
        out.counters("source_duplicate_frames", "Frames dropped as accepted before", None, duplicates)?;
        out.counters(
            "source_rejected_frames",
            "Frames refused",
            None,
            each(|source| source.frames.rejected),
        )?;
        let in_flight = each(|source| source.frames.in_flight);
        out.gauges("source_frames_in_flight", "Frames received and not settled", None, in_flight)?;
        let missing = each(|source| source.missing);
        out.gauges("source_sequences_missing", "Sequences of the epoch that have not come", None, missing)?;
        let seen =
            with_series().filter_map(|source| Some((labels(source), source.last_frame_ms? as f64 / 1e3)));
        out.gauges("source_last_frame", "When the newest frame was read, unix time", seconds, seen)?;
        out.counters("source_frames", "Frames accepted", None, lanes(|lane| lane.frames))?;
        out.counters("source_payload", "Payloads accepted", bytes, lanes(|lane| lane.payload_bytes))?;
        let queued = lanes(|lane| lane.queued_frames as u64);
        out.gauges("source_queued_frames", "Frames that wait for the processor", None, queued)?;
        let used = lanes(|lane| lane.credit_used_bytes);
        out.gauges("source_credit_used", "Credit that frames waiting use", bytes, used)?;
        let accepted = lanes(|lane| lane.accepted_next);
        out.gauges("source_accepted_next", "One past the highest sequence accepted", None, accepted)?;
        let durable = lanes(|lane| lane.durable_next);
        out.gauges("source_durable_next", "One past the highest sequence synced", None, durable)?;
        let ack = with_series().flat_map(|source| {
            source.lanes.iter().filter_map(|(priority, lane)| {
                Some((lane_labels(source, priority), lane.ack_latency_ms? / 1e3))
            })
        });
        out.gauges("source_ack_latency", "Of the slowest frame of the newest commit", seconds, ack)
    }
}

fn labels(source: &Source) -> Vec<(&'static str, String)> {
    let Source { source_id, kind, station, .. } = source;
    vec![("source", source_id.to_string()), ("kind", kind.to_string()), ("station", station.clone())]
}

fn lane_labels(source: &Source, priority: FramePriority) -> Vec<(&'static str, String)> {
    let mut labels = labels(source);
    labels.push(("lane", priority.name().to_owned()));
    labels
}

/// Encodes families of metrics one after the other.
struct Out<'a>(DescriptorEncoder<'a>);

/// Metrics have no exemplars.
const NO_EXEMPLAR: Option<&Exemplar<NoLabelSet, f64>> = None;

/// The value of a gauge: a count or a time.
trait Value: prometheus_client::encoding::EncodeGaugeValue {}
impl Value for u64 {}
impl Value for f64 {}

impl Out<'_> {
    fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str)]) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Info)?.encode_info(&labels)
    }

    fn counter(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: u64) -> fmt::Result {
        self.0.encode_descriptor(name, help, unit, MetricType::Counter)?.encode_counter(&value, NO_EXEMPLAR)
    }

    fn gauge(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: impl Value) -> fmt::Result {
        self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn histogram(&mut self, name: &str, help: &str, counts: &Counts) -> fmt::Result {
        let family = self.0.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        encode_histogram(family, counts)
    }

    fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        values: impl IntoIterator<Item = (L, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit, MetricType::Counter)?;
        values.into_iter().try_for_each(|(labels, value)| {
            family.encode_family(&labels)?.encode_counter(&value, NO_EXEMPLAR)
        })
    }

    fn gauges<L: EncodeLabelSet, V: Value>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        values: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        values.into_iter().try_for_each(|(labels, value)| family.encode_family(&labels)?.encode_gauge(&value))
    }

    /// Writes histograms in seconds.
    fn histograms<'c, L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, &'c Counts)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        values
            .into_iter()
            .try_for_each(|(labels, counts)| encode_histogram(family.encode_family(&labels)?, counts))
    }
}

fn encode_histogram(mut metric: MetricEncoder<'_>, counts: &Counts) -> fmt::Result {
    let mut below = 0;
    let mut buckets = Vec::new();
    for (end, seen) in counts.octaves() {
        // The encoder sums up the buckets by itself.
        buckets.push((end.as_secs_f64(), seen - below));
        below = seen;
    }
    buckets.push((f64::INFINITY, counts.count() - below));
    metric.encode_histogram::<NoLabelSet>(counts.sum_ns as f64 / 1e9, counts.count(), &buckets, None)
}
