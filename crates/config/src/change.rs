//! Compares a new configuration with the one in force: which keys change at once, and which need a restart.

use std::collections::BTreeMap;
use std::fmt;

use toml::Value;

use super::keys::{Effect, KEYS, LINKS, OUTPUTS};
use super::print::{value_of, values};
use super::sections::Token;
use super::{Config, Problem};

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
        let (before, after) = (values(in_force), values(found));
        let mut config = found.clone();
        let (mut changed, mut waiting) = (Vec::new(), Vec::new());
        for key in KEYS.iter().filter(|key| !(key.is_same)(in_force, found)) {
            let (before, after) = (shown(value_of(&before, key)), shown(value_of(&after, key)));
            if let Some(why) = reason_to_wait(key.effect, at_start, found) {
                (key.copy)(&mut config, in_force);
                waiting.push(Waiting { key: key.path(), in_force: before, found: after, why });
                continue;
            }
            let what = match key.path().as_str() {
                "ingest.tokens" => tokens_changed(&in_force.ingest.tokens, &found.ingest.tokens),
                "feed.tokens" => tokens_changed(&in_force.feed.tokens, &found.feed.tokens),
                "ingest.clients" => {
                    tables_changed(&in_force.ingest.clients, &found.ingest.clients, |client| &client.name)
                }
                "feed.clients" => {
                    tables_changed(&in_force.feed.clients, &found.feed.clients, |client| &client.name)
                }
                LINKS => tables_changed(&in_force.links, &found.links, |link| &link.name),
                OUTPUTS => tables_changed(&in_force.outputs, &found.outputs, |output| &output.name),
                _ if before == after => "another".to_owned(),
                _ => format!("{before} -> {after}"),
            };
            changed.push(Changed { key: key.path(), what });
        }
        match config.validate() {
            Ok(warnings) => Ok(Self { config, changed, waiting, warnings }),
            Err(error) => Err(Mismatch { problems: error.problems().to_vec(), waiting }),
        }
    }
}

/// Why a key with this `effect` cannot take its value in `found` before a restart. `None` if it can.
fn reason_to_wait(effect: Effect, at_start: &Config, found: &Config) -> Option<&'static str> {
    match effect {
        Effect::Live => None,
        // A lower value changes at once, a higher one than that at the start needs a restart.
        Effect::LiveUpToStart(value, why) => (value(found) > value(at_start)).then_some(why),
        Effect::Restart(why) => Some(why),
    }
}

/// The value as in the file, without the quotes around a non-empty text. [`values`] has masked the secrets.
fn shown(value: Option<&Value>) -> String {
    let Some(text) = value.map(Value::to_string) else { return "not set".to_owned() };
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
