//! The list of all keys in the order of the file, and when a change of each takes effect.
//!
//! Messages, environment variables, the output of `check` and reloads use this list. The values and their limits are in
//! [`super::sections`]. A new key is added in both places, and explained in `config/aggregator.toml`.

use super::Config;

/// One key of the file.
pub(super) struct Key {
    /// The section. Empty for a key above all sections.
    pub(super) section: &'static str,
    /// The name within its section.
    pub(super) name: &'static str,
    /// When a change takes effect.
    pub(super) effect: Effect,
    /// Whether two configurations have the same value.
    pub(super) is_same: fn(&Config, &Config) -> bool,
    /// Copies the value from the second configuration to the first.
    pub(super) copy: fn(&mut Config, &Config),
}

/// When a change of a key takes effect.
#[derive(Clone, Copy)]
pub(super) enum Effect {
    /// At once.
    Live,
    /// At once up to the value at the start, at the next start beyond it. Holds a function that returns the value, and
    /// the reason.
    LiveUpToStart(fn(&Config) -> u64, &'static str),
    /// At the next start, for this reason.
    Restart(&'static str),
}

use Effect::{Live, LiveUpToStart, Restart};

impl Key {
    /// `section.name`, as messages write it.
    pub(super) fn path(&self) -> String {
        path(self.section, self.name)
    }

    /// Whether this is a list of tables. Such a list has no environment variable.
    pub(super) fn is_list(&self) -> bool {
        [TOKENS, CLIENTS, LINKS, OUTPUTS].contains(&self.name)
    }
}

/// The name of the lists of tokens.
pub(super) const TOKENS: &str = "tokens";

/// The name of the lists of clients with certificates.
pub(super) const CLIENTS: &str = "clients";

/// The name of the list of input links.
pub(super) const LINKS: &str = "links";

/// The name of the list of output links.
pub(super) const OUTPUTS: &str = "outputs";

/// `section.name`, or only the name for a key above all sections.
pub(super) fn path(section: &str, name: &str) -> String {
    if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }
}

/// The sections of the file, in its order.
pub(super) fn sections() -> Vec<&'static str> {
    let mut sections: Vec<_> = KEYS.iter().map(|key| key.section).collect();
    sections.retain(|section| !section.is_empty());
    sections.dedup();
    sections
}

/// All names that are allowed in `section`. For an empty `section`, the names above all sections.
pub(super) fn names_in(section: &str) -> Vec<&'static str> {
    let keys = KEYS.iter().filter(|key| key.section == section);
    let mut names: Vec<_> = keys.map(|key| key.name).collect();
    if section.is_empty() {
        names.extend(sections());
    }
    names
}

/// The entry of one key: its field in the [`Config`] and its effect.
macro_rules! key {
    ($name:ident, $effect:expr) => {
        key!("", $name, $effect, $name)
    };
    ($section:ident.$name:ident, $effect:expr) => {
        key!(stringify!($section), $name, $effect, $section.$name)
    };
    ($section:expr, $name:ident, $effect:expr, $($field:ident).+) => {
        Key {
            section: $section,
            name: stringify!($name),
            effect: $effect,
            is_same: |a, b| a.$($field).+ == b.$($field).+,
            copy: |to, from| to.$($field).+.clone_from(&from.$($field).+),
        }
    };
}

const DATA_DIR: &str = "the archive in it is open and locked";
const LOG_FORMAT: &str = "programs that read the log expect one format";
const BOUND: &str = "the listener is bound before anything else starts";
const MESSAGE: &str =
    "the blocks and the reserve of the archive are sized at the start for the largest message";
const STREAMS: &str =
    "each segment has room for the positions of as many streams as are allowed at the start";
const BUILT: &str = "the queues between the stages are created with it";
const LAID_OUT: &str = "the open segment and the reserve are created with it";
const OPENED: &str = "each file of the archive is written in one mode from its beginning to its end";
const REPLAYS: &str = "otherwise a replay on its way would be stored only in part";
const EXPORTS: &str = "the existing exports were written with it";

/// A renewed certificate lies in the same file.
fn is_same_certificate(a: &Config, b: &Config) -> bool {
    a.tls.certificate == b.tls.certificate && a.tls.files == b.tls.files
}

/// Every key of the file, in its order.
pub(super) static KEYS: [Key; 47] = [
    key!(data_dir, Restart(DATA_DIR)),
    key!(require_tls, Live),
    key!(log.level, Live),
    key!(log.format, Restart(LOG_FORMAT)),
    key!(ingest.listen, Restart(BOUND)),
    key!(ingest.max_connections, Live),
    key!(ingest.max_connections_per_address, Live),
    key!(ingest.hello_timeout, Live),
    key!(ingest.heartbeat, Live),
    key!(ingest.max_message, LiveUpToStart(|config| config.ingest.max_message, MESSAGE)),
    key!(ingest.routine_window, Live),
    key!(ingest.emergency_window, Live),
    key!(ingest.memory_limit, Live),
    key!(ingest.max_streams, LiveUpToStart(|config| config.ingest.max_streams.get() as u64, STREAMS)),
    key!(ingest.max_streams_per_source, Live),
    key!(ingest.max_takeovers_per_minute, Live),
    key!(ingest.tls, Live),
    key!(ingest.tokens, Live),
    key!(ingest.clients, Live),
    key!(pipeline.processor_capacity, Restart(BUILT)),
    key!(pipeline.broadcast_capacity, Restart(BUILT)),
    key!(pipeline.routine_max_delay, Restart(BUILT)),
    key!(archive.commit_delay, Live),
    key!(archive.segment_size, Restart(LAID_OUT)),
    key!(archive.reserve, Restart(LAID_OUT)),
    key!(archive.retention_age, Live),
    key!(archive.retention_size, Live),
    key!(archive.direct_io, Restart(OPENED)),
    key!(archive.store_replays, Restart(REPLAYS)),
    key!(archive.export, Restart(EXPORTS)),
    key!(archive.export_format, Restart(EXPORTS)),
    key!(feed.listen, Restart(BOUND)),
    key!(feed.max_subscribers, Live),
    key!(feed.tls, Live),
    key!(feed.tokens, Live),
    key!(feed.clients, Live),
    key!(http.listen, Restart(BOUND)),
    key!(http.tls, Live),
    key!(http.token, Live),
    key!(http.token_file, Live),
    Key { is_same: is_same_certificate, ..key!(tls.certificate, Live) },
    key!(tls.key, Live),
    key!(tls.ca, Live),
    key!(catalog.file, Live),
    key!(shutdown.deadline, Live),
    key!(links, Live),
    key!(outputs, Live),
];
