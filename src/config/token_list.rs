//! The lists of credentials, `[[ingest.tokens]]` and `[[feed.tokens]]`, as they stand in the file.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Value};

use super::error::Location;
use super::found::Found;
use super::keys::LIST;
use super::read::Reader;
use super::secret::Secret;
use super::values::path;
use crate::frame::Station;

/// Most credentials in a list. The daemon compares each with what a client shows.
const TOKENS_MAX: usize = 1_024;

/// Most stations of one credential.
const STATIONS_MAX: usize = 1_024;

/// What may stand in one table of a list. Subscribers have no station.
const TABLE_KEYS: [&str; 4] = ["token", "token_file", "sources", "stations"];

/// What may stand in one table of the list of `section`.
pub(super) fn table_keys(section: &str) -> &'static [&'static str] {
    if section == "ingest" { &TABLE_KEYS } else { &TABLE_KEYS[..3] }
}

/// One table of a list, before its file is read.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TokenTable {
    pub(super) token: Option<Secret>,
    #[serde(deserialize_with = "path::deserialize")]
    pub(super) token_file: Option<PathBuf>,
    #[serde(deserialize_with = "sources")]
    pub(super) sources: BTreeSet<u32>,
    #[serde(deserialize_with = "stations")]
    pub(super) stations: BTreeSet<Station>,
}

/// A [`TokenTable`] without errors, and where it stands.
pub(super) struct TokenDraft {
    /// The key of the table, such as `ingest.tokens[0]`.
    pub(super) key: String,
    pub(super) location: Location,
    pub(super) table: TokenTable,
}

/// Takes the list of `section` out of `root` and reads it.
///
/// Messages never repeat a value: a credential may stand where it does not belong.
pub(super) fn take(reader: &mut Reader<'_>, root: &mut DeTable<'_>, section: &str) -> Vec<TokenDraft> {
    let Some(DeValue::Table(table)) = root.get_mut(section).map(Spanned::get_mut) else {
        return Vec::new();
    };
    let Some(value) = table.remove(LIST) else { return Vec::new() };
    let (list, span) = (format!("{section}.{LIST}"), value.span());
    let DeValue::Array(entries) = value.into_inner() else {
        reader.problem(&span, &list, format!("expected a list of tables, each written [[{list}]]"));
        return Vec::new();
    };
    if entries.len() > TOKENS_MAX {
        let what = format!("{} tables, at most {TOKENS_MAX} are allowed", entries.len());
        reader.problem(&span, &list, what);
        return Vec::new();
    }
    let entries = entries.into_iter().enumerate();
    let drafts = entries.filter_map(|(index, entry)| read_table(reader, section, index, entry));
    drafts.collect()
}

fn read_table(
    reader: &mut Reader<'_>,
    section: &str,
    index: usize,
    entry: Spanned<DeValue<'_>>,
) -> Option<TokenDraft> {
    let (key, span) = (format!("{section}.{LIST}[{index}]"), entry.span());
    let DeValue::Table(mut table) = entry.into_inner() else {
        reader.problem(&span, &key, format!("expected a table, written [[{section}.{LIST}]]"));
        return None;
    };
    let problems = reader.draft.problem_count();
    reader.keep_names(&key, &mut table, table_keys(section));
    let table: TokenTable = reader.keep_sound(&key, &mut table);
    if reader.draft.problem_count() > problems || reader.draft.is_full() {
        return None;
    }
    if table.token.is_some() == table.token_file.is_some() {
        reader.problem(&span, &key, "expected exactly one of token and token_file");
        return None;
    }
    Some(TokenDraft { key, location: reader.origins.location(&span), table })
}

fn sources<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<u32>, D::Error> {
    let found = Found::read(deserializer);
    let id = |id: &Value| id.as_integer().and_then(|id| u32::try_from(id).ok());
    let ids = found.items().and_then(|ids| ids.iter().map(id).collect());
    ids.ok_or_else(|| {
        let max = u32::MAX;
        D::Error::custom(format!(
            "expected a list of source ids from 0 to {max} such as [1, 2]; empty for all"
        ))
    })
}

/// Reads names of stations, as a HELLO may have them.
fn stations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<Station>, D::Error> {
    parse_stations(&Found::read(deserializer)).map_err(D::Error::custom)
}

fn parse_stations(found: &Found) -> Result<BTreeSet<Station>, String> {
    let refusal = || "expected a list of station names such as [\"svalbard\"]; empty for any".to_owned();
    let names = found.items().ok_or_else(refusal)?;
    if names.len() > STATIONS_MAX {
        return Err(format!("{} stations, at most {STATIONS_MAX} are allowed", names.len()));
    }
    let mut stations = BTreeSet::new();
    for name in names {
        let name = name.as_str().ok_or_else(refusal)?;
        let station = Station::new(name).map_err(|error| error.to_string())?;
        if !stations.insert(station) {
            return Err(format!("station {name:?} stands there twice: name each once"));
        }
    }
    Ok(stations)
}
