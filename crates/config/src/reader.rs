//! Reads TOML tables into types, and reports errors.
//!
//! A wrong key or value is reported with its location and removed. The rest is read without it. So one error does not
//! hide the next.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue, Deserializer, Error};

use super::draft::{Draft, PROBLEMS_MAX};
use super::error::Location;
use super::framings::Kind;
use super::keys::{KEYS, Key, names_in, path, sections};
use super::origins::Origins;
use super::suggest::similar;
use super::values::{choice, quote};

/// The texts to read, and the draft that collects the problems.
pub(super) struct Reader<'a> {
    pub(super) origins: Origins<'a>,
    pub(super) draft: Draft,
}

/// A table in the file: its key, such as `links[0].framing`, and its place.
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) span: Range<usize>,
}

/// The key that says which other keys a table has.
#[derive(Deserialize)]
#[serde(default, bound = "K: Kind")]
struct KindTable<K> {
    #[serde(deserialize_with = "choice::optional")]
    kind: Option<K>,
}

impl<K> Default for KindTable<K> {
    fn default() -> Self {
        Self { kind: None }
    }
}

impl Reader<'_> {
    /// Adds a problem at `span`.
    pub(super) fn problem(&mut self, span: &Range<usize>, key: &str, what: impl Into<String>) {
        self.draft.problem(self.origins.location(span), key, what);
    }

    /// The tables of `text`. Text that is not TOML is reported, and none of it is used, because the parser's guess at
    /// the rest would mislead.
    pub(super) fn parse<'t>(&mut self, text: &'t str) -> DeTable<'t> {
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in errors.iter().take(PROBLEMS_MAX) {
            let message = error.message().trim().replace('\n', ", ");
            self.problem(&error.span().unwrap_or_default(), "", format!("not valid TOML: {message}"));
        }
        if errors.is_empty() { root.into_inner() } else { DeTable::new() }
    }

    /// Reports and removes unknown keys, and values in place of sections.
    pub(super) fn drop_unknown(&mut self, root: &mut DeTable<'_>) {
        self.drop_unknown_keys("", root, &names_in(""));
        for section in sections() {
            let Some(value) = root.get_mut(section) else { continue };
            let span = value.span();
            if let DeValue::Table(table) = value.get_mut() {
                self.drop_unknown_keys(section, table, &names_in(section));
            } else {
                self.problem(&span, section, format!("expected a section, written [{section}]"));
                root.remove(section);
            }
        }
    }

    /// Reports and removes each key of the table `at` that is not in `allowed`.
    pub(super) fn drop_unknown_keys(&mut self, at: &str, table: &mut DeTable<'_>, allowed: &[&str]) {
        let entries = std::mem::take(table).into_iter();
        let is_allowed = |name: &Spanned<DeString<'_>>| allowed.contains(&name.get_ref().as_ref());
        let (known, unknown): (DeTable<'_>, DeTable<'_>) = entries.partition(|(name, _)| is_allowed(name));
        *table = known;
        for name in unknown.keys() {
            if self.draft.is_full() {
                return;
            }
            let key = path(at, &printable(name.get_ref()));
            self.problem(&name.span(), &key, unknown_key(name.get_ref(), allowed));
        }
    }

    /// Reads `table`, whose keys begin with `at`. Reports and removes each wrong value.
    pub(super) fn read_values<T>(&mut self, at: &str, table: &mut DeTable<'_>) -> T
    where
        T: DeserializeOwned + Default,
    {
        loop {
            let error = match deserialize(table) {
                Ok(value) => return value,
                Err(error) => error,
            };
            if self.draft.is_full() {
                return T::default();
            }
            let span = error.span().unwrap_or_default();
            let culprit = remove(table, &span);
            let key = culprit.as_deref().map(|name| path(at, name)).unwrap_or_default();
            self.problem(&span, &key, error.message());
            if culprit.is_none() {
                return T::default();
            }
        }
    }

    /// Reads each table of the `list` with `read`, which reports the errors of one table. A table is written like
    /// `form`. Returns the values with their keys.
    pub(super) fn read_list<'t, T>(
        &mut self,
        at: &Entry,
        list: DeValue<'t>,
        form: &str,
        max: usize,
        mut read: impl FnMut(&mut Self, &Entry, DeTable<'t>) -> Option<T>,
    ) -> Vec<(Entry, T)> {
        let DeValue::Array(tables) = list else {
            self.problem(&at.span, &at.key, format!("expected a list of tables, each written {form}"));
            return Vec::new();
        };
        if tables.len() > max {
            let what = format!("{} tables, at most {max} are allowed", tables.len());
            self.problem(&at.span, &at.key, what);
            return Vec::new();
        }
        let mut values = Vec::new();
        for (index, table) in tables.into_iter().enumerate() {
            let entry = Entry { key: format!("{}[{index}]", at.key), span: table.span() };
            let DeValue::Table(table) = table.into_inner() else {
                self.problem(&entry.span, &entry.key, format!("expected a table, written {form}"));
                continue;
            };
            if let Some(value) = read(self, &entry, table) {
                values.push((entry, value));
            }
        }
        values
    }

    /// Takes the table `name` out of `table`, which is `at`. It is written like `form`.
    pub(super) fn take_table<'t>(
        &mut self,
        at: &Entry,
        table: &mut DeTable<'t>,
        name: &str,
        form: &str,
    ) -> Option<(Entry, DeTable<'t>)> {
        let value = table.remove(name)?;
        let entry = Entry { key: path(&at.key, name), span: value.span() };
        let DeValue::Table(table) = value.into_inner() else {
            self.problem(&entry.span, &entry.key, format!("expected a table such as {form}"));
            return None;
        };
        Some((entry, table))
    }

    /// Reads the table `at`, whose keys depend on its key `kind`. Reports its errors.
    pub(super) fn read_kind<K: Kind, T>(&mut self, at: &Entry, table: &mut DeTable<'_>) -> Option<(K, T)>
    where
        T: DeserializeOwned + Default,
    {
        let problems = self.draft.problem_count();
        let Some((name, value)) = table.remove_entry("kind") else {
            let names: Vec<_> = K::NAMED.iter().map(|(name, _)| quote(name)).collect();
            self.missing(at, "kind", &format!("one of {}", names.join(", ")));
            return None;
        };
        let mut alone = DeTable::from_iter([(name, value)]);
        let kind = self.read_values::<KindTable<K>>(&at.key, &mut alone).kind?;
        self.drop_unknown_keys(&at.key, table, kind.keys());
        let values = self.read_values(&at.key, table);
        (self.draft.problem_count() == problems).then_some((kind, values))
    }

    /// Reports each key of the table `at`, a `what`, that is written and belongs to another transport than `key`. Each is
    /// given with whether it is written, and the transport that it belongs to.
    pub(super) fn check_transport(&mut self, at: &Entry, what: &str, key: &str, keys: &[(&str, bool, &str)]) {
        for (name, is_written, belongs) in keys {
            if *is_written && *belongs != key {
                self.conflict(
                    at,
                    name,
                    format!("belongs to {belongs}, and this {what} has {key}: remove it"),
                );
            }
        }
    }

    /// Reports that the key `name` of the table `at` does not fit the others.
    pub(super) fn conflict(&mut self, at: &Entry, name: &str, what: impl Into<String>) {
        self.draft.conflict_in_table(path(&at.key, name), what);
    }

    /// Reports that the table `at` lacks the key `name`.
    pub(super) fn missing(&mut self, at: &Entry, name: &str, expected: &str) {
        self.problem(&at.span, &path(&at.key, name), format!("is missing: expected {expected}"));
    }

    /// Notes where `at` is.
    pub(super) fn note_location(&mut self, at: &Entry) {
        self.draft.locations.insert(at.key.clone(), self.origins.location(&at.span));
    }

    /// Notes where the table `at` and each of its keys are.
    pub(super) fn note_locations(&mut self, at: &Entry, table: &DeTable<'_>) {
        self.note_location(at);
        for (name, value) in table {
            let entry = Entry { key: path(&at.key, name.get_ref()), span: value.span() };
            match value.get_ref() {
                DeValue::Table(inner) => self.note_locations(&entry, inner),
                _ => self.note_location(&entry),
            }
        }
    }

    /// The location of each key of `root`, by its path.
    pub(super) fn locations(&self, root: &DeTable<'_>) -> BTreeMap<String, Location> {
        let keys = KEYS.iter().filter_map(|key| {
            let table = match key.section {
                "" => root,
                section => root.get(section)?.get_ref().as_table()?,
            };
            Some((key.path(), self.origins.location(&table.get(key.name)?.span())))
        });
        keys.collect()
    }
}

fn deserialize<T: DeserializeOwned>(table: &DeTable<'_>) -> Result<T, Error> {
    T::deserialize(Deserializer::from(Spanned::new(0..0, table.clone())))
}

/// Removes the value at `span` from `table` or from a table in it, and returns its path.
fn remove(table: &mut DeTable<'_>, span: &Range<usize>) -> Option<String> {
    // Inner values come first, because a table that is created for one value may have the span of that value.
    let inner = table.iter_mut().find_map(|(name, value)| match value.get_mut() {
        DeValue::Table(inner) => remove(inner, span).map(|inner| path(name.get_ref(), &inner)),
        _ => None,
    });
    inner.or_else(|| {
        let (name, _) = table.iter().find(|(_, value)| value.span() == *span)?;
        let name = name.get_ref().to_string();
        table.remove(name.as_str());
        Some(name)
    })
}

/// The message for a key that is not in `allowed`.
fn unknown_key(name: &str, allowed: &[&str]) -> String {
    let elsewhere = || KEYS.iter().find(|key| key.name == name).map(Key::path);
    let meant = similar(name, allowed).map(str::to_owned).or_else(elsewhere);
    let meant = meant.map_or(String::new(), |meant| format!(", did you mean {meant}?"));
    format!("unknown key{meant} (allowed here: {})", allowed.join(", "))
}

/// A key for a message. Long keys are cut, control characters are escaped.
fn printable(name: &str) -> String {
    const CHARS_MAX: usize = 60;
    name.chars().take(CHARS_MAX).flat_map(char::escape_debug).collect()
}
