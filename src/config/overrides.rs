//! Environment variables that override keys: `TELEMETRY_AGGREGATOR__INGEST__LISTEN`.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::Config;
use super::draft::Draft;
use super::error::Place;
use super::keys::{TABLE_LISTS, keys};
use super::setting::Written;
use super::suggest::nearest;

/// What the name of every overriding variable begins with.
pub const PREFIX: &str = "TELEMETRY_AGGREGATOR__";

/// The overriding variables of this process, for [`Config::load`].
///
/// What is no UTF-8 in a value is replaced, and then refused by most keys; `std::env::vars` would
/// panic on such a value, and on that of any other variable.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value): (OsString, OsString)| {
        let name = name.into_string().ok()?;
        name.starts_with(PREFIX).then(|| (name, value.to_string_lossy().into_owned()))
    })
}

/// Applies the overrides among `variables` to `draft` and returns their names.
pub(super) fn apply(draft: &mut Draft, variables: impl Iterator<Item = (String, String)>) -> Vec<String> {
    let ours = variables.filter(|(name, _)| name.starts_with(PREFIX));
    let ours: BTreeMap<String, String> = ours.collect();
    let known = known();
    for (name, value) in &ours {
        match known.iter().find(|known| known.variable == *name) {
            Some(known) => {
                let raw = known.written.read_variable(value);
                draft.set(&known.path, &raw, Place::Variable(name.clone()));
            }
            None => refuse(draft, &known, name),
        }
    }
    ours.into_keys().collect()
}

/// A key that can be overridden.
struct Known {
    variable: String,
    path: String,
    written: Written,
}

fn known() -> Vec<Known> {
    let mut defaults = Config::default();
    let keys = keys(&mut defaults);
    let known = keys.iter().map(|key| Known {
        variable: variable(key.section, key.name),
        path: key.path(),
        written: key.setting.written(),
    });
    known.collect()
}

/// The variable that overrides `name` in `section`.
fn variable(section: &str, name: &str) -> String {
    let path = match section {
        "" => name.to_owned(),
        section => format!("{section}__{name}"),
    };
    format!("{PREFIX}{}", path.to_ascii_uppercase())
}

fn refuse(draft: &mut Draft, known: &[Known], name: &str) {
    let list = TABLE_LISTS.iter().find(|(section, list)| name.starts_with(&variable(section, list)));
    let what = match list {
        Some((section, list)) => format!(
            "{section}.{list} is a list of tables and cannot be overridden: write \
             [[{section}.{list}]] in the file, with token_file for what must not stand there"
        ),
        None => {
            let names: Vec<_> = known.iter().map(|known| known.variable.as_str()).collect();
            let nearest = nearest(name, &names).unwrap_or_default();
            format!("overrides no key, did you mean {nearest}?")
        }
    };
    draft.problem(Place::Variable(name.to_owned()), "", what);
}
