//! The list of all keys: name, place in the [`Config`], kind of value and limits.
//!
//! Reading, overriding, suggesting and printing go by this list, so that a key is added here (and
//! explained in `config/aggregator.toml`) and nowhere else. The lists of tokens are apart, see
//! [`super::tokens`].

use std::time::Duration;

use super::Config;
use super::codecs::{
    Address, Choice, Credential, FilePath, Flag, PathOrNone, count, size, time, whole_seconds,
};
use super::sections::{LogFormat, LogLevel};
use super::setting::{Optional, Required, Setting};
use super::units::{GIB, KIB, MIB, TIB};
use crate::archive::{DirectIo, PAYLOAD_BYTES_MAX};
use crate::export::ExportFormat;

/// One key of the file.
pub(super) struct Key<'a> {
    /// The section, empty for a key above all sections.
    pub(super) section: &'static str,
    /// The name within its section.
    pub(super) name: &'static str,
    /// Where the value lives.
    pub(super) setting: Box<dyn Setting + 'a>,
}

impl Key<'_> {
    /// `section.name`, as messages write it.
    pub(super) fn path(&self) -> String {
        path(self.section, self.name)
    }
}

/// `section.name`, or the name alone above all sections.
pub(super) fn path(section: &str, name: &str) -> String {
    if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }
}

/// The lists of tables, as section and name.
pub(super) const TABLE_LISTS: [(&str, &str); 2] = [("ingest", "tokens"), ("feed", "tokens")];

/// All keys in the order in which they are printed.
pub(super) fn keys(config: &mut Config) -> Vec<Key<'_>> {
    let Config { data_dir, log, ingest, pipeline, archive, feed, http, catalog, shutdown } = config;
    let mut list = KeyList { section: "", keys: Vec::new() };

    list.add("data_dir", Required(data_dir, FilePath));

    list.section = "log";
    let (all, name) = (&LOG_LEVELS, LogLevel::name);
    list.add("level", Required(&mut log.level, Choice { all, name }));
    let (all, name) = (&LOG_FORMATS, LogFormat::name);
    list.add("format", Required(&mut log.format, Choice { all, name }));

    list.section = "ingest";
    list.add("listen", Required(&mut ingest.listen, Address));
    list.add("max_connections", Required(&mut ingest.max_connections, count(65_536)));
    list.add("max_connections_per_address", Required(&mut ingest.max_connections_per_address, count(65_536)));
    list.add("hello_timeout", Required(&mut ingest.hello_timeout, time(millis(10)..=secs(300))));
    list.add("heartbeat", Required(&mut ingest.heartbeat, whole_seconds(secs(1)..=secs(300))));
    list.add("max_message", Required(&mut ingest.max_message, size(4 * KIB..=PAYLOAD_BYTES_MAX as u64)));
    list.add("routine_window", Required(&mut ingest.routine_window, size(4 * KIB..=GIB)));
    list.add("emergency_window", Required(&mut ingest.emergency_window, size(4 * KIB..=GIB)));
    list.add("memory_limit", Required(&mut ingest.memory_limit, size(MIB..=TIB)));
    list.add("max_streams", Required(&mut ingest.max_streams, count(1 << 20)));
    list.add("max_streams_per_source", Required(&mut ingest.max_streams_per_source, count(1 << 20)));
    list.add("max_takeovers_per_minute", Required(&mut ingest.max_takeovers_per_minute, count(60_000)));

    list.section = "pipeline";
    list.add("processor_capacity", Required(&mut pipeline.processor_capacity, count(64)));
    list.add("broadcast_capacity", Required(&mut pipeline.broadcast_capacity, count(65_536)));
    list.add("routine_max_delay", Required(&mut pipeline.routine_max_delay, time(millis(1)..=secs(60))));

    list.section = "archive";
    list.add("commit_delay", Required(&mut archive.commit_delay, time(Duration::ZERO..=secs(1))));
    list.add("segment_size", Required(&mut archive.segment_size, size(8 * MIB..=64 * GIB)));
    list.add("reserve", Required(&mut archive.reserve, size(MIB..=64 * GIB)));
    list.add("retention_age", Optional(&mut archive.retention_age, time(secs(1)..=secs(CENTURY_S))));
    list.add("retention_size", Optional(&mut archive.retention_size, size(16 * MIB..=1024 * 1024 * TIB)));
    let (all, name) = (&DirectIo::ALL, DirectIo::name);
    list.add("direct_io", Required(&mut archive.direct_io, Choice { all, name }));
    list.add("store_replays", Required(&mut archive.store_replays, Flag));
    list.add("export", Required(&mut archive.export, PathOrNone));
    let (all, name) = (&ExportFormat::ALL, ExportFormat::name);
    list.add("export_format", Required(&mut archive.export_format, Choice { all, name }));

    list.section = "feed";
    list.add("listen", Required(&mut feed.listen, Address));
    list.add("max_subscribers", Required(&mut feed.max_subscribers, count(65_536)));

    list.section = "http";
    list.add("listen", Required(&mut http.listen, Address));
    list.add("token", Optional(&mut http.token, Credential));
    list.add("token_file", Optional(&mut http.token_file, FilePath));

    list.section = "catalog";
    list.add("file", Optional(&mut catalog.file, FilePath));

    list.section = "shutdown";
    list.add("deadline", Required(&mut shutdown.deadline, time(millis(100)..=secs(600))));

    list.keys
}

/// A hundred years of 365 days; beyond lies a slip of the pen.
const CENTURY_S: u64 = 100 * 365 * 86_400;

static LOG_LEVELS: [LogLevel; 5] =
    [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];

static LOG_FORMATS: [LogFormat; 2] = [LogFormat::Text, LogFormat::Json];

/// The keys gathered so far and the section the next ones belong to.
struct KeyList<'a> {
    section: &'static str,
    keys: Vec<Key<'a>>,
}

impl<'a> KeyList<'a> {
    fn add(&mut self, name: &'static str, setting: impl Setting + 'a) {
        self.keys.push(Key { section: self.section, name, setting: Box::new(setting) });
    }
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
