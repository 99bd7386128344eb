//! Compares a new configuration with the one in force: which keys change at once, and which need a restart.

use std::collections::BTreeMap;
use std::fmt;

use super::print::{Setting, settings};
use super::sections::Token;
use super::{Config, Problem};

/// A key that does not change while the daemon runs. All others change at once.
struct Fixed {
    key: &'static str,
    /// Why it cannot change now.
    why: &'static str,
    /// The value, if a value up to that at the start changes at once.
    limit: Option<fn(&Config) -> u64>,
    /// Copies the value from the second configuration to the first.
    copy: fn(&mut Config, &Config),
}

macro_rules! fixed {
    ($section:ident.$name:ident, $why:expr) => {
        Fixed {
            key: concat!(stringify!($section), ".", stringify!($name)),
            why: $why,
            limit: None,
            copy: |to, from| to.$section.$name.clone_from(&from.$section.$name),
        }
    };
}

const BOUND: &str = "the listener is bound before anything else starts";
const MESSAGE: &str =
    "the blocks and the reserve of the archive are sized at the start for the largest message";
const STREAMS: &str =
    "each segment has room for the positions of as many streams as are allowed at the start";
const BUILT: &str = "the queues between the stages are created with it";
const LAID_OUT: &str = "the open segment and the reserve are created with it";
const OPENED: &str = "each file of the archive is written in one mode from its beginning to its end";
const EXPORTS: &str = "the existing exports were written with it";
const UPLOADS: &str = "the uploads are started with it";

/// The keys that need a restart.
static FIXED: [Fixed; 18] = [
    Fixed {
        key: "data_dir",
        why: "the archive in it is open and locked",
        limit: None,
        copy: |to, from| to.data_dir.clone_from(&from.data_dir),
    },
    fixed!(log.format, "programs that read the log expect one format"),
    fixed!(ingest.listen, BOUND),
    Fixed { limit: Some(|config| config.ingest.max_message), ..fixed!(ingest.max_message, MESSAGE) },
    Fixed {
        limit: Some(|config| config.ingest.max_streams.get() as u64),
        ..fixed!(ingest.max_streams, STREAMS)
    },
    fixed!(pipeline.processor_capacity, BUILT),
    fixed!(pipeline.broadcast_capacity, BUILT),
    fixed!(pipeline.routine_max_delay, BUILT),
    fixed!(archive.segment_size, LAID_OUT),
    fixed!(archive.reserve, LAID_OUT),
    fixed!(archive.direct_io, OPENED),
    fixed!(archive.store_replays, "otherwise a replay on its way would be stored only in part"),
    fixed!(archive.export, EXPORTS),
    fixed!(archive.export_format, EXPORTS),
    fixed!(export.store, UPLOADS),
    fixed!(export.local_retention, UPLOADS),
    fixed!(feed.listen, BOUND),
    fixed!(http.listen, BOUND),
];

/// A key whose value changes at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The key as `section.name`.
    pub key: String,
    /// The old and the new value. Never contains a credential.
    pub what: String,
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.key, self.what)
    }
}

/// A key whose new value needs a restart.
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

/// The effect of a new configuration.
#[derive(Clone, Debug)]
pub struct Change {
    /// The configuration to bring into force: the new values, except for keys that wait.
    pub config: Config,
    /// Keys that change at once, in the order of the file.
    pub changed: Vec<Changed>,
    /// Keys that wait for a restart, in the order of the file.
    pub waiting: Vec<Waiting>,
    /// Warnings about `config` as a whole, for the log.
    pub warnings: Vec<String>,
}

/// The new values fit together, but not with the old values of the keys that wait for a restart.
#[derive(Clone, Debug)]
pub struct Mismatch {
    /// The conflicts, without locations.
    pub problems: Vec<Problem>,
    /// The keys that wait.
    pub waiting: Vec<Waiting>,
}

impl Change {
    /// Compares `found`, key by key, with the configuration `in_force` and with the one `at_start`.
    ///
    /// # Errors
    /// [`Mismatch`] if the keys that change now do not fit together with the keys that wait.
    pub fn new(at_start: &Config, in_force: &Config, found: &Config) -> Result<Self, Mismatch> {
        let mut config = found.clone();
        let (mut changed, mut waiting) = (Vec::new(), Vec::new());
        for (before, after) in settings(in_force).iter().zip(&settings(found)) {
            let key = before.path();
            if before.value == after.value && !differs_unseen(&key, in_force, found) {
                continue;
            }
            // A lower value changes at once, a higher one than that at the start needs a restart.
            let waits = |fixed: &&Fixed| {
                fixed.key == key && fixed.limit.is_none_or(|limit| limit(found) > limit(at_start))
            };
            if let Some(fixed) = FIXED.iter().find(waits) {
                (fixed.copy)(&mut config, in_force);
                let (in_force, found) = (shown(before), shown(after));
                waiting.push(Waiting { key, in_force, found, why: fixed.why });
                continue;
            }
            let what =
                list_change(&key, in_force, found).unwrap_or_else(|| match (shown(before), shown(after)) {
                    (before, after) if before == after => "another".to_owned(),
                    (before, after) => format!("{before} -> {after}"),
                });
            changed.push(Changed { key, what });
        }
        match config.validate() {
            Ok(warnings) => Ok(Self { config, changed, waiting, warnings }),
            Err(error) => Err(Mismatch { problems: error.problems().to_vec(), waiting }),
        }
    }
}

/// Whether the values of `key` differ in what is not printed: a credential, or the content of a file.
fn differs_unseen(key: &str, a: &Config, b: &Config) -> bool {
    match key {
        "ingest.tokens" => a.ingest.tokens != b.ingest.tokens,
        "feed.tokens" => a.feed.tokens != b.feed.tokens,
        "http.token" => a.http.token != b.http.token,
        // A renewed certificate lies in the same file.
        "tls.certificate" => a.tls.files != b.tls.files,
        _ => false,
    }
}

/// How the lists of tables of `key` differ.
fn list_change(key: &str, before: &Config, after: &Config) -> Option<String> {
    Some(match key {
        "ingest.tokens" => tokens_changed(&before.ingest.tokens, &after.ingest.tokens),
        "feed.tokens" => tokens_changed(&before.feed.tokens, &after.feed.tokens),
        "ingest.clients" => {
            tables_changed(&before.ingest.clients, &after.ingest.clients, |client| &client.name)
        }
        "feed.clients" => tables_changed(&before.feed.clients, &after.feed.clients, |client| &client.name),
        "links" => tables_changed(&before.links, &after.links, |link| &link.name),
        "outputs" => tables_changed(&before.outputs, &after.outputs, |output| &output.name),
        _ => return None,
    })
}

/// The value as in the file, without the quotes around a non-empty text. Secrets are masked.
fn shown(setting: &Setting) -> String {
    let Some(text) = setting.value().map(ToString::to_string) else { return "not set".to_owned() };
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(inner) if !inner.is_empty() => inner.to_owned(),
        _ => text,
    }
}

/// How the lists differ: how many tokens were added, were removed, or have other sources or stations.
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
    if counts.is_empty() { "equal, but written differently".to_owned() } else { counts.join(", ") }
}

/// How two lists of tables with names differ: which were added, removed or changed.
fn tables_changed<T: PartialEq>(before: &[T], after: &[T], name: fn(&T) -> &str) -> String {
    let in_before = |table: &T| before.iter().find(|old| name(old) == name(table));
    let names = |tables: Vec<&T>| tables.into_iter().map(name).collect::<Vec<_>>().join(" and ");
    let added = after.iter().filter(|table| in_before(table).is_none()).collect();
    let removed = before.iter().filter(|old| after.iter().all(|table| name(table) != name(old))).collect();
    let changed = after.iter().filter(|table| in_before(table).is_some_and(|old| old != *table)).collect();
    let differences = [(added, "added"), (removed, "removed"), (changed, "changed")];
    let differences: Vec<_> = differences
        .into_iter()
        .filter(|(tables, _): &(Vec<&T>, _)| !tables.is_empty())
        .map(|(tables, what)| format!("{} {what}", names(tables)))
        .collect();
    if differences.is_empty() { "the same in another order".to_owned() } else { differences.join(", ") }
}

fn by_secret(tokens: &[Token]) -> BTreeMap<&str, &Token> {
    tokens.iter().map(|token| (token.token.expose(), token)).collect()
}

#[cfg(test)]
mod tests;
