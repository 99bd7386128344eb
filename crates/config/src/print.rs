//! Writes a configuration as TOML.

use std::fmt::{self, Write as _};

use toml::{Table, Value};

use super::Config;
use super::tree::path;

/// The lists of tables. They are read one table after the other, and they have no variables.
pub(super) const LISTS: [&str; 6] =
    ["ingest.tokens", "ingest.clients", "feed.tokens", "feed.clients", "links", "outputs"];

/// A key with its value in the form of the file.
pub(super) struct Setting {
    /// The section. Empty for a key above all sections.
    pub(super) section: String,
    /// The name within its section.
    pub(super) name: String,
    /// The value. Secrets are masked. An empty list stands for a value that is not set.
    pub(super) value: Value,
}

impl Setting {
    /// `section.name`, as messages write it.
    pub(super) fn path(&self) -> String {
        path(&self.section, &self.name)
    }

    /// Whether this is a list of tables.
    pub(super) fn is_list(&self) -> bool {
        LISTS.contains(&self.path().as_str())
    }

    /// The value, if it is set.
    pub(super) fn value(&self) -> Option<&Value> {
        Some(&self.value).filter(|value| value.as_array().is_none_or(|list| !list.is_empty()))
    }

    /// The tables of a list.
    fn tables(&self) -> impl Iterator<Item = &Table> {
        self.value.as_array().into_iter().flatten().filter_map(Value::as_table)
    }
}

/// Every key in the order of the file.
pub(super) fn settings(config: &Config) -> Vec<Setting> {
    let all = Table::try_from(config).expect("every value of a configuration has a form in TOML");
    let mut settings = Vec::new();
    for (section, value) in all {
        match value {
            Value::Table(keys) => settings.extend(keys.into_iter().map(|(name, value)| Setting {
                section: section.clone(),
                name,
                value,
            })),
            value => settings.push(Setting { section: String::new(), name: section, value }),
        }
    }
    settings
}

impl Config {
    /// All keys with their values as TOML. Secrets are masked. Absent keys and the memory sum are comments.
    ///
    /// Output without secrets reads back as the same configuration. A masked token is refused.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        for line in self.memory_bound().to_string().lines() {
            push(&mut out, format_args!("# memory: {}", line.trim_end()));
        }
        push(&mut out, format_args!("# open files: {}", self.open_files_needed()));
        let mut section = String::new();
        for setting in settings(self) {
            if setting.section != section && !setting.section.is_empty() {
                section.clone_from(&setting.section);
                push(&mut out, format_args!("\n[{section}]"));
            }
            match setting.name.as_str() {
                "links" => push_explained(&mut out, &setting, &self.links),
                "outputs" => push_explained(&mut out, &setting, &self.outputs),
                _ => self.push(&mut out, &setting),
            }
        }
        out
    }

    fn push(&self, out: &mut String, setting: &Setting) {
        let name = &setting.name;
        match (name.as_str(), setting.value()) {
            ("tokens", None) => push(out, "# tokens is empty: no token is asked for"),
            ("clients", None) => push(out, "# clients is empty: no certificate is asked for"),
            ("token", _) if self.http.token_file.is_some() => push(out, "# token is in token_file"),
            (_, None) => push(out, format_args!("# {name} is not set")),
            _ if setting.is_list() => {
                for table in setting.tables() {
                    push(out, format_args!("\n[[{}]]", setting.path()));
                    let is_printed = |key: &str| match key {
                        "token" => !table.contains_key("token_file"),
                        "stations" => setting.section == "ingest",
                        _ => true,
                    };
                    for (key, value) in lines(table).iter().filter(|(key, _)| is_printed(key)) {
                        push(out, format_args!("{key} = {value}"));
                    }
                }
            }
            (_, Some(value)) => push(out, format_args!("{name} = {value}")),
        }
    }
}

/// The tables of a list, each under its explanation.
fn push_explained<T: fmt::Display>(out: &mut String, setting: &Setting, explanations: &[T]) {
    for (table, explanation) in setting.tables().zip(explanations) {
        push(out, format_args!("\n# {explanation}\n[[{}]]", setting.name));
        for (key, value) in lines(table) {
            push(out, format_args!("{key} = {value}"));
        }
    }
}

/// The keys and values of a table of a list, each as in the file.
pub(super) fn lines(table: &Table) -> Vec<(String, String)> {
    let is_udp = table.get("transport").is_some_and(|transport| transport.get("udp").is_some());
    let mut lines = Vec::new();
    for (key, value) in table {
        match (key.as_str(), value) {
            ("tls", _) if is_udp => {}
            // A transport has no table of its own.
            ("transport", Value::Table(kind)) => {
                lines.extend(kind.values().filter_map(Value::as_table).flat_map(self::lines));
            }
            ("framing", Value::Table(kind)) if kind.contains_key("cosmos") => {
                lines.push((key.clone(), "{ kind = \"cosmos\" }".to_owned()));
                lines.extend(kind.iter().map(|(key, value)| (key.clone(), inline(key, value))));
            }
            _ => lines.push((key.clone(), inline(key, value))),
        }
    }
    lines
}

/// The value of `key` as in the file. An enum becomes a table with a `kind`. Patterns of bits are in hex.
fn inline(key: &str, value: &Value) -> String {
    let has_kind = ["framing", "decode"].contains(&key);
    match value {
        Value::String(kind) if has_kind => format!("{{ kind = {kind:?} }}"),
        Value::Table(table) if has_kind => {
            let Some((kind, Value::Table(values))) = table.iter().next() else { return value.to_string() };
            inline_table([format!("kind = {kind:?}")].into_iter().chain(pairs(values)))
        }
        Value::Table(table) => inline_table(pairs(table)),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| inline("", item)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Integer(bits) if ["mask", "value"].contains(&key) => format!("{bits:#04x}"),
        Value::Integer(bits) if key == "sync" => format!("0x{bits:08X}"),
        value => value.to_string(),
    }
}

fn pairs(table: &Table) -> impl Iterator<Item = String> {
    table.iter().map(|(key, value)| format!("{key} = {}", inline(key, value)))
}

fn inline_table(pairs: impl Iterator<Item = String>) -> String {
    format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
}

fn push(out: &mut String, line: impl fmt::Display) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{line}");
}
