//! The file and the variables as a tree of values, each with the place where it was written.

use std::collections::BTreeMap;

use serde::Deserialize as _;
use toml::de::{DeTable, DeValue, ValueDeserializer};
use toml::{Spanned, Value};

/// The place where a value or a name was written.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    /// In the file, from this byte on.
    File(usize),
    /// In the variable of this name.
    Variable(String),
}

/// A value.
pub(super) struct Node {
    /// Its path, such as `links[0].framing`.
    pub(super) key: String,
    /// The place of its name. For an item of a list it is the place of the item.
    pub(super) name_at: Origin,
    /// The place of the value.
    pub(super) at: Origin,
    pub(super) content: Content,
}

pub(super) enum Content {
    /// No table and no list.
    Value(Value),
    List(Vec<Node>),
    Table(BTreeMap<String, Node>),
    /// A table that is the kind of this name, although it has no key `kind`.
    Kind(&'static str, Box<Node>),
}

/// `table.name`, or only the name for a key above all tables.
pub(super) fn path(table: &str, name: &str) -> String {
    if table.is_empty() { name.to_owned() } else { format!("{table}.{name}") }
}

impl Node {
    /// The tables of a text.
    pub(super) fn root(table: &DeTable<'_>) -> Self {
        Self {
            key: String::new(),
            name_at: Origin::File(0),
            at: Origin::File(0),
            content: Content::of_table("", table),
        }
    }

    fn new(key: String, name_at: usize, value: &Spanned<DeValue<'_>>) -> Self {
        let content = Content::of(&key, value);
        Self { key, name_at: Origin::File(name_at), at: Origin::File(value.span().start), content }
    }

    /// The values of a table, by name.
    pub(super) fn table(&self) -> Option<&BTreeMap<String, Self>> {
        match &self.content {
            Content::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The values of a table, by name.
    pub(super) fn table_mut(&mut self) -> Option<&mut BTreeMap<String, Self>> {
        match &mut self.content {
            Content::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The text, if this is one.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Value(value) => value.as_str(),
            _ => None,
        }
    }

    /// The text of the key `kind` of a table.
    pub(super) fn kind(&self) -> Option<&str> {
        self.table()?.get("kind")?.text()
    }

    /// Removes the value of `key` from a table.
    pub(super) fn take(&mut self, key: &str) -> Option<Self> {
        let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
        let inner = if table.is_empty() { self } else { self.table_mut()?.get_mut(table)? };
        inner.table_mut()?.remove(name)
    }

    /// Sets the value of `section.name` from the variable at `origin`.
    pub(super) fn set(&mut self, section: &str, name: &str, value: Value, origin: &Origin) {
        let node = |key: String, content| Self { key, name_at: origin.clone(), at: origin.clone(), content };
        let Some(root) = self.table_mut() else { return };
        let new = node(path(section, name), Content::Value(value));
        let empty = || node(section.to_owned(), Content::Table(BTreeMap::new()));
        let table = match section {
            "" => Some(root),
            section => root.entry(section.to_owned()).or_insert_with(empty).table_mut(),
        };
        if let Some(table) = table {
            table.insert(name.to_owned(), new);
        }
    }

    /// Removes the value of this `key` at any depth, and returns the key of the table or list that it was in.
    pub(super) fn remove(&mut self, key: &str) -> Option<String> {
        let is_found = match &mut self.content {
            Content::Table(table) => table.extract_if(.., |_, node| node.key == key).next().is_some(),
            Content::List(items) => items.extract_if(.., |node| node.key == key).next().is_some(),
            Content::Value(_) | Content::Kind(..) => false,
        };
        if is_found {
            return Some(self.key.clone());
        }
        match &mut self.content {
            Content::Table(table) => table.values_mut().find_map(|node| node.remove(key)),
            Content::List(items) => items.iter_mut().find_map(|node| node.remove(key)),
            Content::Kind(_, table) => table.remove(key),
            Content::Value(_) => None,
        }
    }

    /// Notes the place of this value and of those in it.
    pub(super) fn note(&self, written: &mut BTreeMap<String, Origin>) {
        written.insert(self.key.clone(), self.at.clone());
        match &self.content {
            Content::Table(table) => table.values().for_each(|node| node.note(written)),
            Content::List(items) => items.iter().for_each(|node| node.note(written)),
            Content::Kind(_, table) => table.note(written),
            Content::Value(_) => {}
        }
    }
}

impl Content {
    fn of(key: &str, value: &Spanned<DeValue<'_>>) -> Self {
        match value.get_ref() {
            DeValue::Table(table) => Self::of_table(key, table),
            DeValue::Array(items) => {
                let item = |(index, item): (usize, &Spanned<DeValue<'_>>)| {
                    Node::new(format!("{key}[{index}]"), item.span().start, item)
                };
                Self::List(items.iter().enumerate().map(item).collect())
            }
            // A number that does not fit in 64 bits becomes infinite, which no key allows.
            _ => {
                let value = Value::deserialize(ValueDeserializer::from(value.clone()));
                Self::Value(value.unwrap_or(Value::Float(f64::INFINITY)))
            }
        }
    }

    fn of_table(key: &str, table: &DeTable<'_>) -> Self {
        let nodes = table.iter().map(|(name, value)| {
            let key = path(key, &printable(name.get_ref()));
            (name.get_ref().to_string(), Node::new(key, name.span().start, value))
        });
        Self::Table(nodes.collect())
    }
}

/// A name for a message. Long names are cut, control characters are escaped.
fn printable(name: &str) -> String {
    const CHARS_MAX: usize = 60;
    name.chars().take(CHARS_MAX).flat_map(char::escape_debug).collect()
}
