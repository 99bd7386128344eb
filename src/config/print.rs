//! The configuration in force, as TOML.

use std::fmt::Write as _;

use super::Config;
use super::keys::keys;
use super::secret::MASK;
use super::sections::Token;
use super::setting::quote;

impl Config {
    /// All keys with their values as TOML, secrets masked; absent ones and the memory sum as comments.
    ///
    /// What contains no secrets reads back as the same configuration; a masked token is refused.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        for line in self.memory_bound().to_string().lines() {
            push(&mut out, &format!("# memory: {}", line.trim_end()));
        }
        push(&mut out, &format!("# open files: {}", self.open_files_needed()));

        let mut config = self.clone();
        let mut section = "";
        for key in keys(&mut config) {
            if key.section != section {
                self.push_tokens(&mut out, section);
                section = key.section;
                push(&mut out, &format!("\n[{section}]"));
            }
            let from_file = key.path() == "http.token" && self.http.token_file.is_some();
            match key.setting.print() {
                _ if from_file => push(&mut out, "# token is in token_file"),
                Some(value) => push(&mut out, &format!("{} = {value}", key.name)),
                None => push(&mut out, &format!("# {} is not set", key.name)),
            }
        }
        self.push_tokens(&mut out, section);
        out
    }

    fn push_tokens(&self, out: &mut String, section: &str) {
        let tokens: &[Token] = match section {
            "ingest" => &self.ingest.tokens,
            "feed" => &self.feed.tokens,
            _ => return,
        };
        if tokens.is_empty() {
            push(out, "# tokens is empty: no credential is asked for");
        }
        for token in tokens {
            push(out, &format!("\n[[{section}.tokens]]"));
            match &token.token_file {
                Some(file) => push(out, &format!("token_file = {}", quote(&file.to_string_lossy()))),
                None => push(out, &format!("token = {}", quote(MASK))),
            }
            push(out, &format!("sources = {}", list(token.sources.iter().map(u32::to_string))));
            if section == "ingest" {
                let stations = token.stations.iter().map(|station| quote(station.as_str()));
                push(out, &format!("stations = {}", list(stations)));
            }
        }
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

fn push(out: &mut String, line: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{line}");
}
