//! Prints the configuration in force as TOML.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use toml::{Table, Value};

use super::Config;
use super::keys::{CLIENTS, KEYS, Key, LINKS, OUTPUTS, TOKENS};
use super::sections::{NamedClient, Token};
use super::values::quote;
use frame::Station;
use support::secret::MASK;

impl Config {
    /// All keys with their values as TOML. Secrets are masked. Absent keys and the memory sum are comments.
    ///
    /// Output without secrets reads back as the same configuration. A masked token is refused.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        for line in self.memory_bound().to_string().lines() {
            push(&mut out, &format!("# memory: {}", line.trim_end()));
        }
        push(&mut out, &format!("# open files: {}", self.open_files_needed()));

        let values = values(self);
        let mut section = "";
        for key in KEYS.iter().filter(|key| ![LINKS, OUTPUTS].contains(&key.name)) {
            if key.section != section {
                section = key.section;
                push(&mut out, &format!("\n[{section}]"));
            }
            if key.name == TOKENS {
                self.push_tokens(&mut out, section);
            } else if key.name == CLIENTS {
                self.push_clients(&mut out, section);
            } else {
                push(&mut out, &self.line(key, value_of(&values, key)));
            }
        }
        for link in &self.links {
            push_table(&mut out, LINKS, link, &link.lines());
        }
        for output in &self.outputs {
            push_table(&mut out, OUTPUTS, output, &output.lines());
        }
        out
    }

    fn line(&self, key: &Key, value: Option<&Value>) -> String {
        let is_in_file = key.path() == "http.token" && self.http.token_file.is_some();
        match value {
            _ if is_in_file => "# token is in token_file".to_owned(),
            Some(value) => format!("{} = {value}", key.name),
            None => format!("# {} is not set", key.name),
        }
    }

    fn push_tokens(&self, out: &mut String, section: &str) {
        let tokens: &[Token] = if section == "ingest" { &self.ingest.tokens } else { &self.feed.tokens };
        if tokens.is_empty() {
            push(out, "# tokens is empty: no token is asked for");
        }
        for token in tokens {
            push(out, &format!("\n[[{section}.tokens]]"));
            match &token.token_file {
                Some(file) => push(out, &format!("token_file = {}", quote(&file.to_string_lossy()))),
                None => push(out, &format!("token = {}", quote(MASK))),
            }
            push_rights(out, section, &token.sources, &token.stations);
        }
    }

    fn push_clients(&self, out: &mut String, section: &str) {
        let clients: &[NamedClient] =
            if section == "ingest" { &self.ingest.clients } else { &self.feed.clients };
        if clients.is_empty() {
            push(out, "# clients is empty: no certificate is asked for");
        }
        for client in clients {
            push(out, &format!("\n[[{section}.clients]]"));
            push(out, &format!("name = {}", quote(&client.name)));
            push_rights(out, section, &client.sources, &client.stations);
        }
    }
}

fn push_rights(out: &mut String, section: &str, sources: &BTreeSet<u32>, stations: &BTreeSet<Station>) {
    push(out, &format!("sources = {}", list(sources.iter().map(u32::to_string))));
    if section == "ingest" {
        let stations = stations.iter().map(|station| quote(station.as_str()));
        push(out, &format!("stations = {}", list(stations)));
    }
}

/// All values in the form of the file, by section. Absent values and the lists of tokens are missing.
pub(super) fn values(config: &Config) -> Table {
    Table::try_from(config).expect("every value of a configuration has a form in TOML")
}

/// The value of `key` in `values`.
pub(super) fn value_of<'a>(values: &'a Table, key: &Key) -> Option<&'a Value> {
    match key.section {
        "" => values.get(key.name),
        section => values.get(section)?.get(key.name),
    }
}

/// A table of `list` with these values, each as TOML, under its explanation.
fn push_table(out: &mut String, list: &str, explanation: &impl fmt::Display, lines: &[(&str, String)]) {
    push(out, &format!("\n# {explanation}\n[[{list}]]"));
    for (key, value) in lines {
        push(out, &format!("{key} = {value}"));
    }
}

/// An array with these items, each as TOML.
pub(super) fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

fn push(out: &mut String, line: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{line}");
}
