//! Environment variables that override keys: `TELEMETRY_AGGREGATOR__INGEST__TOKENSEN`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::ops::Range;

use toml::de::{DeString, DeTable, DeValue};
use toml::{Spanned, Value};

use super::Config;
use super::keys::{KEYS, Key, TOKENS};
use super::print::{value_of, values};
use super::reader::Reader;
use super::suggest::nearest;
use super::values::quote;

/// The prefix of every overriding variable.
pub const PREFIX: &str = "TELEMETRY_AGGREGATOR__";

/// The overriding variables of this process, for [`Config::load`].
///
/// In a value that is not UTF-8 the wrong bytes are replaced. Most keys refuse such a value. `std::env::vars` would
/// panic on it, even if the variable is unrelated.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value): (OsString, OsString)| {
        let name = name.into_string().ok()?;
        name.starts_with(PREFIX).then(|| (name, value.to_string_lossy().into_owned()))
    })
}

/// A variable that begins with [`PREFIX`].
pub(super) struct Override {
    /// Its name.
    pub(super) name: String,
    /// The key that it overrides. `None` if there is no such key.
    key: Option<&'static Key>,
    /// The value as TOML text.
    toml: String,
}

/// The overrides in `variables`, sorted by name.
pub(super) fn collect(variables: impl Iterator<Item = (String, String)>) -> Vec<Override> {
    let ours = variables.filter(|(name, _)| name.starts_with(PREFIX));
    let ours: BTreeMap<String, String> = ours.collect();
    let defaults = values(&Config::default());
    let overrides = ours.into_iter().map(|(name, text)| {
        let key = KEYS.iter().find(|key| !key.is_list() && variable(key) == name);
        let default = key.and_then(|key| value_of(&defaults, key));
        Override { name, key, toml: as_toml(&text, default) }
    });
    overrides.collect()
}

/// `text` as TOML of the type of `default`. A key without a default is a text.
fn as_toml(text: &str, default: Option<&Value>) -> String {
    let value = match default {
        Some(Value::Integer(_)) => text.parse().ok().map(Value::Integer),
        Some(Value::Boolean(_)) => text.parse().ok().map(Value::Boolean),
        _ => None,
    };
    value.map_or_else(|| quote(text), |value| value.to_string())
}

/// Replaces the values in `root` by `overrides`.
pub(super) fn apply<'t>(reader: &mut Reader<'_>, root: &mut DeTable<'t>, overrides: &'t [Override]) {
    for (index, Override { name, key, toml }) in overrides.iter().enumerate() {
        let span = reader.origins.variable_span(index);
        match (key, DeValue::parse(toml)) {
            (Some(key), Ok(value)) => set(root, key, span, value.into_inner()),
            _ => reader.problem(&span, "", refusal(name)),
        }
    }
}

fn set<'t>(root: &mut DeTable<'t>, key: &Key, span: Range<usize>, value: DeValue<'t>) {
    let name = |name: &'static str| Spanned::new(span.clone(), DeString::from(name));
    let value = Spanned::new(span.clone(), value);
    if key.section.is_empty() {
        root.insert(name(key.name), value);
        return;
    }
    let empty = || Spanned::new(span.clone(), DeValue::Table(DeTable::new()));
    let section = root.entry(name(key.section)).or_insert_with(empty);
    if let DeValue::Table(table) = section.get_mut() {
        table.insert(name(key.name), value);
    }
}

/// The variable that overrides `key`.
fn variable(key: &Key) -> String {
    format!("{PREFIX}{}", key.path().replace('.', "__").to_ascii_uppercase())
}

/// Why the variable `name` overrides nothing.
fn refusal(name: &str) -> String {
    let list = KEYS.iter().find(|key| key.is_list() && name.starts_with(&variable(key)));
    if let Some(list) = list.map(Key::path) {
        let secrets = if list.ends_with(TOKENS) {
            ", with token_file for tokens that must not be in the file"
        } else {
            ""
        };
        return format!(
            "{list} is a list of tables and cannot be overridden: write [[{list}]] in the file{secrets}"
        );
    }
    let known: Vec<_> = KEYS.iter().filter(|key| !key.is_list()).map(variable).collect();
    let known: Vec<_> = known.iter().map(String::as_str).collect();
    format!("overrides no key, did you mean {}?", nearest(name, &known).unwrap_or_default())
}
