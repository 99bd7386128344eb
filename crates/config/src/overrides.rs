//! Environment variables that override keys: `TELEMETRY_AGGREGATOR__INGEST__LISTEN`.

use std::collections::BTreeMap;
use std::ffi::OsString;

use toml::Value;

use super::Config;
use super::draft::Draft;
use super::print::{Setting, settings};
use super::tree::{Node, Origin};
use super::values::nearest;

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

/// The variables that begin with [`PREFIX`], by name.
pub(super) type Overrides = BTreeMap<String, String>;

/// The overriding variables among `variables`.
pub(super) fn collect(variables: impl Iterator<Item = (String, String)>) -> Overrides {
    variables.filter(|(name, _)| name.starts_with(PREFIX)).collect()
}

/// Replaces the values in `root` by `overrides`. Reports variables that override nothing.
pub(super) fn apply(draft: &mut Draft<'_>, root: &mut Node, overrides: &Overrides) {
    let settings = settings(&Config::default());
    for (name, text) in overrides {
        let at = Origin::Variable(name.clone());
        match settings.iter().find(|setting| !setting.is_list() && variable(setting) == *name) {
            Some(setting) => {
                root.set(&setting.section, &setting.name, typed(text, &setting.value), &at);
            }
            None => draft.problem_at(&at, "", refusal(name, &settings)),
        }
    }
}

/// `text` as a value of the type of `default`. A key without a default is a text.
fn typed(text: &str, default: &Value) -> Value {
    let value = match default {
        Value::Integer(_) => text.parse().ok().map(Value::Integer),
        Value::Boolean(_) => text.parse().ok().map(Value::Boolean),
        _ => None,
    };
    value.unwrap_or_else(|| text.into())
}

/// The variable that overrides a key.
fn variable(setting: &Setting) -> String {
    format!("{PREFIX}{}", setting.path().replace('.', "__").to_ascii_uppercase())
}

/// Why the variable `name` overrides nothing.
fn refusal(name: &str, settings: &[Setting]) -> String {
    let (lists, keys): (Vec<_>, Vec<_>) = settings.iter().partition(|setting| setting.is_list());
    let Some(list) = lists.into_iter().find(|list| name.starts_with(&variable(list))) else {
        let known: Vec<_> = keys.into_iter().map(variable).collect();
        let known: Vec<_> = known.iter().map(String::as_str).collect();
        return format!("overrides no key, did you mean {}?", nearest(name, &known).unwrap_or_default());
    };
    let secrets =
        if list.name == "tokens" { ", with token_file for tokens that must not be in the file" } else { "" };
    let list = list.path();
    format!("{list} is a list of tables and cannot be overridden: write [[{list}]] in the file{secrets}")
}
