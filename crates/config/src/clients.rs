//! The lists of clients with certificates, `[[ingest.clients]]` and `[[feed.clients]]`.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::CLIENTS;
use super::reader::{Entry, Reader};
use super::sections::NamedClient;
use super::tokens::{sources, stations};
use super::values::read as read_value;
use frame::Station;

/// Limit of clients in a list.
const CLIENTS_MAX: usize = 1_024;
/// Longest name in bytes. A DNS name is not longer; the name of a workload (URI) may be.
const NAME_BYTES_MAX: usize = 1_024;

/// What a name is, for messages.
const EXPECTED: &str =
    "a name of the client's certificate (subject alternative name) such as \"kiruna.example\"";

/// The keys allowed in one table of a list. Subscribers have no station.
const TABLE_KEYS: [&str; 3] = ["name", "sources", "stations"];

/// The keys allowed in one table of the list of `section`.
pub(super) fn table_keys(section: &str) -> &'static [&'static str] {
    if section == "ingest" { &TABLE_KEYS } else { &TABLE_KEYS[..2] }
}

/// One table of a list.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ClientTable {
    #[serde(deserialize_with = "client_name")]
    name: String,
    #[serde(deserialize_with = "sources")]
    sources: BTreeSet<u32>,
    #[serde(deserialize_with = "stations")]
    stations: BTreeSet<Station>,
}

/// Reads the `list` of `section`.
pub(super) fn read(reader: &mut Reader<'_>, section: &str, list: Spanned<DeValue<'_>>) -> Vec<NamedClient> {
    let at = Entry { key: format!("{section}.{CLIENTS}"), span: list.span() };
    let form = format!("[[{}]]", at.key);
    let read = |reader: &mut Reader<'_>, at: &Entry, table| read_client(reader, section, at, table);
    let mut clients: Vec<(Entry, NamedClient)> = Vec::new();
    for (entry, client) in reader.read_list(&at, list.into_inner(), &form, CLIENTS_MAX, read) {
        match clients.iter().find(|(_, other)| other.name == client.name) {
            Some((first, _)) => {
                let what = format!("the same name as {}: name each client once", first.key);
                reader.problem(&entry.span, &entry.key, what);
            }
            None => clients.push((entry, client)),
        }
    }
    clients.into_iter().map(|(_, client)| client).collect()
}

/// Reads a name as text.
fn client_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    read_value(deserializer, EXPECTED, |found| found.as_str().map(str::to_ascii_lowercase))
}

/// Reads the table `at`. Reports its errors.
fn read_client(
    reader: &mut Reader<'_>,
    section: &str,
    at: &Entry,
    mut table: DeTable<'_>,
) -> Option<NamedClient> {
    let Entry { key, span } = at;
    let problems = reader.draft.problem_count();
    reader.drop_unknown_keys(key, &mut table, table_keys(section));
    let ClientTable { name, sources, stations } = reader.read_values(key, &mut table);
    if reader.draft.problem_count() > problems || reader.draft.is_full() {
        return None;
    }
    if let Err(what) = check_name(&name) {
        reader.problem(span, &format!("{key}.name"), what);
        return None;
    }
    Some(NamedClient { name, sources, stations })
}

fn check_name(name: &str) -> Result<(), String> {
    let is_wrong = |c: char| c.is_whitespace() || c.is_control();
    if name.is_empty() {
        return Err(format!("expected {EXPECTED}"));
    }
    if name.contains('*') {
        return Err(format!("found {name:?}, which is a pattern, expected {EXPECTED}"));
    }
    if name.len() > NAME_BYTES_MAX || name.chars().any(is_wrong) {
        return Err(format!("found {name:?}, expected {EXPECTED}"));
    }
    Ok(())
}
