//! The lists of credentials, `[[ingest.tokens]]` and `[[feed.tokens]]`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Value};

use super::keys::TOKENS;
use super::reader::{Entry, Reader};
use super::sections::Token;
use super::token_files::read_or_report;
use super::values::{path, read_any, secret};
use frame::Station;
use support::secret::Secret;

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
    #[serde(deserialize_with = "secret")]
    token: Option<Secret>,
    #[serde(deserialize_with = "path::deserialize")]
    token_file: Option<PathBuf>,
    #[serde(deserialize_with = "sources")]
    sources: BTreeSet<u32>,
    #[serde(deserialize_with = "stations")]
    stations: BTreeSet<Station>,
}

/// Removes the list `name` of `section` from `root` and returns it.
pub(super) fn take_list<'t>(
    root: &mut DeTable<'t>,
    section: &str,
    name: &str,
) -> Option<Spanned<DeValue<'t>>> {
    match root.get_mut(section)?.get_mut() {
        DeValue::Table(table) => table.remove(name),
        _ => None,
    }
}

/// Reads the `list` of `section` and the files of its credentials.
///
/// Messages never repeat a value, because a credential may be in the wrong place.
pub(super) fn read(reader: &mut Reader<'_>, section: &str, list: Spanned<DeValue<'_>>) -> Vec<Token> {
    let at = Entry { key: format!("{section}.{TOKENS}"), span: list.span() };
    let form = format!("[[{}]]", at.key);
    let read = |reader: &mut Reader<'_>, at: &Entry, table| read_token(reader, section, at, table);
    let mut tokens: Vec<(Entry, Token)> = Vec::new();
    for (entry, token) in reader.read_list(&at, list.into_inner(), &form, TOKENS_MAX, read) {
        let is_same = |other: &Token| other.token == token.token && !token.token.is_awaited();
        match tokens.iter().find(|(_, other)| is_same(other)) {
            Some((first, _)) => {
                let what = format!("the same token as {}: give each its own", first.key);
                reader.problem(&entry.span, &entry.key, what);
            }
            None => tokens.push((entry, token)),
        }
    }
    tokens.into_iter().map(|(_, token)| token).collect()
}

/// Reads the table `at`. Reports its errors.
fn read_token(reader: &mut Reader<'_>, section: &str, at: &Entry, mut table: DeTable<'_>) -> Option<Token> {
    let Entry { key, span } = at;
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
            let location = reader.origins.location(span);
            read_or_report(&mut reader.draft, &location, &format!("{key}.token_file"), path)?
        }
        _ => {
            reader.problem(span, key, "expected exactly one of token and token_file");
            return None;
        }
    };
    Some(Token { token, token_file, sources, stations })
}

/// Reads a list of source ids.
pub(super) fn sources<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<u32>, D::Error> {
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
pub(super) fn stations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<Station>, D::Error> {
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
            return Err(D::Error::custom(format!(
                "station {name:?} is listed twice: name each station once"
            )));
        }
    }
    Ok(stations)
}
