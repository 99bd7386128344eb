//! What a new configuration changes in one that is in force: which keys at once, and which not before a restart.

use std::collections::BTreeMap;
use std::fmt;

use super::keys::{Key, TABLE_LISTS, keys, path};
use super::sections::Token;
use super::{Config, Problem};

/// When a change of a key takes effect.
#[derive(Clone, Copy)]
enum Effect {
    /// At once.
    Live,
    /// At once, up to what it was at the start; beyond that with the next start, and why.
    LiveUpToStart(fn(&Config) -> u64, &'static str),
    /// With the next start, and why.
    Restart(&'static str),
}

use Effect::{Live, LiveUpToStart, Restart};

const BOUND: &str = "the listener is bound before anything else starts";
const OPENED: &str = "each file of the archive is written in one way from its begin to its end";
const LAID_OUT: &str = "the log that is being written is laid out by it";
const BUILT: &str = "the queues between the stages are built with it";
const EXPORTS: &str = "what is exported already was written by it";

/// Every key of the file, in its order.
const EFFECTS: [(&str, Effect); 36] = [
    ("data_dir", Restart("the archive in it is open and locked")),
    ("log.level", Live),
    ("log.format", Restart("whoever reads the log reads one format")),
    ("ingest.listen", Restart(BOUND)),
    ("ingest.max_connections", Live),
    ("ingest.max_connections_per_address", Live),
    ("ingest.hello_timeout", Live),
    ("ingest.heartbeat", Live),
    (
        "ingest.max_message",
        LiveUpToStart(
            |config| u64::from(config.ingest.max_message),
            "the archive's blocks and reserve are measured for the largest message at the start",
        ),
    ),
    ("ingest.routine_window", Live),
    ("ingest.emergency_window", Live),
    ("ingest.memory_limit", Live),
    (
        "ingest.max_streams",
        LiveUpToStart(
            |config| config.ingest.max_streams.get() as u64,
            "the archive keeps room in each segment for the positions of as many streams as at the start",
        ),
    ),
    ("ingest.max_streams_per_source", Live),
    ("ingest.max_takeovers_per_minute", Live),
    ("ingest.tokens", Live),
    ("pipeline.processor_capacity", Restart(BUILT)),
    ("pipeline.broadcast_capacity", Restart(BUILT)),
    ("pipeline.routine_max_delay", Restart(BUILT)),
    ("archive.commit_delay", Live),
    ("archive.segment_size", Restart(LAID_OUT)),
    ("archive.reserve", Restart(LAID_OUT)),
    ("archive.retention_age", Live),
    ("archive.retention_size", Live),
    ("archive.direct_io", Restart(OPENED)),
    ("archive.store_replays", Restart("replays on their way would be both stored and not")),
    ("archive.export", Restart(EXPORTS)),
    ("archive.export_format", Restart(EXPORTS)),
    ("feed.listen", Restart(BOUND)),
    ("feed.max_subscribers", Live),
    ("feed.tokens", Live),
    ("http.listen", Restart(BOUND)),
    ("http.token", Live),
    ("http.token_file", Live),
    ("catalog.file", Live),
    ("shutdown.deadline", Live),
];

/// A key whose value changes at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The key as `section.name`.
    pub key: String,
    /// From what to what; never a credential.
    pub what: String,
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.key, self.what)
    }
}

/// A key whose new value waits for a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The key as `section.name`.
    pub key: String,
    /// The value in force.
    pub in_force: String,
    /// The new value.
    pub found: String,
    /// Why it cannot change now.
    pub why: &'static str,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, in_force, found, why } = self;
        write!(f, "needs a restart: {key} ({in_force} in force, {found} in the file): {why}")
    }
}

/// What a new configuration comes to.
#[derive(Clone, Debug)]
pub struct Change {
    /// What is to be in force: the new values, but the old ones of the keys that wait.
    pub config: Config,
    /// What changes at once, in the order of the file.
    pub changed: Vec<Changed>,
    /// What waits for a restart, in the order of the file.
    pub waiting: Vec<Waiting>,
    /// What of `config` as a whole works but deserves a look, for the log.
    pub warnings: Vec<String>,
}

/// New values that fit together, but not with the old ones of the keys that wait for a restart.
#[derive(Clone, Debug)]
pub struct Misfit {
    /// What does not fit, without places.
    pub problems: Vec<Problem>,
    /// What waits.
    pub waiting: Vec<Waiting>,
}

impl Change {
    /// Compares `found`, key by key, with what is `in_force` and what was in force `at_start`.
    ///
    /// # Errors
    /// [`Misfit`] when what can change now does not fit together with what cannot.
    pub fn new(at_start: &Config, in_force: &Config, found: &Config) -> Result<Self, Misfit> {
        let (mut config, mut other) = (in_force.clone(), found.clone());
        let (mut changed, mut waiting) = (Vec::new(), Vec::new());
        for (mine, theirs) in keys(&mut config).iter_mut().zip(keys(&mut other)) {
            if mine.setting.is(theirs.setting.value()) {
                continue;
            }
            let (key, before, after) = (mine.path(), shown(mine), shown(&theirs));
            match reason_to_wait(&key, at_start, found) {
                None => {
                    mine.setting.assign(theirs.setting.value());
                    let what =
                        if before == after { "another".into() } else { format!("{before} -> {after}") };
                    changed.push(Changed { key, what });
                }
                Some(why) => waiting.push(Waiting { key, in_force: before, found: after, why }),
            }
        }
        for (section, list) in TABLE_LISTS {
            let (mine, theirs) = match section {
                "ingest" => (&mut config.ingest.tokens, &found.ingest.tokens),
                _ => (&mut config.feed.tokens, &found.feed.tokens),
            };
            if mine != theirs {
                changed.push(Changed { key: path(section, list), what: tokens_changed(mine, theirs) });
                mine.clone_from(theirs);
            }
        }
        changed.sort_by_key(|changed| place(&changed.key));
        match config.validate() {
            Ok(warnings) => Ok(Self { config, changed, waiting, warnings }),
            Err(error) => Err(Misfit { problems: error.problems().to_vec(), waiting }),
        }
    }
}

/// Why `key` cannot change to what was `found` before a restart, if so.
fn reason_to_wait(key: &str, at_start: &Config, found: &Config) -> Option<&'static str> {
    match EFFECTS.get(place(key)).map(|(_, effect)| effect) {
        Some(Live) => None,
        Some(LiveUpToStart(value, why)) => (value(found) > value(at_start)).then_some(*why),
        Some(Restart(why)) => Some(why),
        None => Some("it is not known to change while the daemon runs"),
    }
}

/// Where `key` stands in the file.
fn place(key: &str) -> usize {
    EFFECTS.iter().position(|(known, _)| *known == key).unwrap_or(EFFECTS.len())
}

/// The value as it is written, without the quotes where there is something in them; secrets are masked.
fn shown(key: &Key<'_>) -> String {
    match key.setting.print() {
        None => "not set".to_owned(),
        Some(text) => match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
            Some(inner) if !inner.is_empty() => inner.to_owned(),
            _ => text,
        },
    }
}

/// How the lists differ, in numbers.
fn tokens_changed(before: &[Token], after: &[Token]) -> String {
    let (old, new) = (by_secret(before), by_secret(after));
    let added = new.keys().filter(|token| !old.contains_key(*token)).count();
    let removed = old.keys().filter(|token| !new.contains_key(*token)).count();
    let both = || new.iter().filter_map(|(token, new)| old.get(token).map(|old| (*old, *new)));
    let sources = both().filter(|(old, new)| old.sources != new.sources).count();
    let stations = both().filter(|(old, new)| old.stations != new.stations).count();
    let counts = [
        (added, "added"),
        (removed, "removed"),
        (sources, "with other sources"),
        (stations, "with other stations"),
    ];
    let counts: Vec<_> =
        counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    if counts.is_empty() { "the same, written otherwise".to_owned() } else { counts.join(", ") }
}

fn by_secret(tokens: &[Token]) -> BTreeMap<&str, &Token> {
    tokens.iter().map(|token| (token.token.expose(), token)).collect()
}

#[cfg(test)]
mod tests;
