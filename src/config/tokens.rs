//! The lists of credentials, `[[ingest.tokens]]` and `[[feed.tokens]]`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Value};

use super::keys::LIST;
use super::reader::Reader;
use super::secret::Secret;
use super::sections::Token;
use super::token_files::read_or_report;
use super::values::{path, read_any};
use crate::frame::Station;

/// Limit of credentials in a list. The daemon compares each with the token of a client.
const TOKENS_MAX: usize = 1_024;

/// Limit of stations of one credential.
const STATIONS_MAX: usize = 1_024;

/// The keys allowed in one table of a list. Subscribers have no station.
const TABLE_KEYS: [&str; 4] = ["token", "token_file", "sources", "stations"];

/// The keys allowed in one table of the list of `section`.
pub(super) fn table_keys(section: &str) -> &'static [&'static str] {
    if section == "ingest" { &TABLE_KEYS } else { &TABLE_KEYS[..3] }
}

/// One table of a list, before its file is read.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TokenTable {
    token: Option<Secret>,
    #[serde(deserialize_with = "path::deserialize")]
    token_file: Option<PathBuf>,
    #[serde(deserialize_with = "sources")]
    sources: BTreeSet<u32>,
    #[serde(deserialize_with = "stations")]
    stations: BTreeSet<Station>,
}

/// Removes the list of `section` from `root` and returns it.
pub(super) fn take_list<'t>(root: &mut DeTable<'t>, section: &str) -> Option<Spanned<DeValue<'t>>> {
    match root.get_mut(section)?.get_mut() {
        DeValue::Table(table) => table.remove(LIST),
        _ => None,
    }
}

/// Reads the `list` of `section` and the files of its credentials.
///
/// Messages never repeat a value, because a credential may be in the wrong place.
pub(super) fn read(reader: &mut Reader<'_>, section: &str, list: Spanned<DeValue<'_>>) -> Vec<Token> {
    let (key, span) = (format!("{section}.{LIST}"), list.span());
    let DeValue::Array(entries) = list.into_inner() else {
        reader.problem(&span, &key, format!("expected a list of tables, each written [[{key}]]"));
        return Vec::new();
    };
    if entries.len() > TOKENS_MAX {
        let what = format!("{} tables, at most {TOKENS_MAX} are allowed", entries.len());
        reader.problem(&span, &key, what);
        return Vec::new();
    }
    let mut tokens: Vec<(String, Token)> = Vec::new();
    for (index, entry) in entries.into_iter().enumerate() {
        let (key, span) = (format!("{key}[{index}]"), entry.span());
        let Some(token) = read_token(reader, section, &key, entry) else { continue };
        let is_same = |other: &Token| other.token == token.token && !token.token.is_awaited();
        match tokens.iter().find(|(_, other)| is_same(other)) {
            Some((first, _)) => {
                reader.problem(&span, &key, format!("the same token as {first}: give each its own"));
            }
            None => tokens.push((key, token)),
        }
    }
    tokens.into_iter().map(|(_, token)| token).collect()
}

/// Reads the table `entry`, whose key is `key`. Reports its errors.
fn read_token(
    reader: &mut Reader<'_>,
    section: &str,
    key: &str,
    entry: Spanned<DeValue<'_>>,
) -> Option<Token> {
    let span = entry.span();
    let DeValue::Table(mut table) = entry.into_inner() else {
        reader.problem(&span, key, format!("expected a table, written [[{section}.{LIST}]]"));
        return None;
    };
    let problems = reader.draft.problem_count();
    reader.drop_unknown_keys(key, &mut table, table_keys(section));
    let table: TokenTable = reader.read_values(key, &mut table);
    if reader.draft.problem_count() > problems || reader.draft.is_full() {
        return None;
    }
    let TokenTable { token, token_file, sources, stations } = table;
    let token = match (token, &token_file) {
        (Some(token), None) => token,
        (None, Some(path)) => {
            let location = reader.origins.location(&span);
            read_or_report(&mut reader.draft, &location, &format!("{key}.token_file"), path)?
        }
        _ => {
            reader.problem(&span, key, "expected exactly one of token and token_file");
            return None;
        }
    };
    Some(Token { token, token_file, sources, stations })
}

fn sources<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<u32>, D::Error> {
    let id = |id: &Value| id.as_integer().and_then(|id| u32::try_from(id).ok());
    let ids = read_any(deserializer).as_array().and_then(|ids| ids.iter().map(id).collect());
    ids.ok_or_else(|| {
        let max = u32::MAX;
        D::Error::custom(format!(
            "expected a list of source ids from 0 to {max} such as [1, 2]; empty for all"
        ))
    })
}

/// Reads names of stations with the rules of HELLO.
fn stations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<Station>, D::Error> {
    let refusal =
        || D::Error::custom("expected a list of station names such as [\"svalbard\"]; empty for any");
    let found = read_any(deserializer);
    let names = found.as_array().ok_or_else(refusal)?;
    if names.len() > STATIONS_MAX {
        let text = format!("{} stations, at most {STATIONS_MAX} are allowed", names.len());
        return Err(D::Error::custom(text));
    }
    let mut stations = BTreeSet::new();
    for name in names {
        let name = name.as_str().ok_or_else(refusal)?;
        if !stations.insert(Station::new(name).map_err(D::Error::custom)?) {
            return Err(D::Error::custom(format!("station {name:?} stands there twice: name each once")));
        }
    }
    Ok(stations)
}
