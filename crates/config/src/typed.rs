//! Reads the tree into types that derive `Deserialize`.
//!
//! An error has the place, the key, the value found, and what is allowed. Every struct refuses unknown keys. An enum is
//! the name of a variant, or a table whose key `kind` is that name. The field `transport` of a link or an output has no
//! table of its own: its keys are in the table of the link or the output.

use std::fmt;

use serde::Deserializer;
use serde::de::value::MapDeserializer;
use serde::de::{
    DeserializeSeed, EnumAccess, IntoDeserializer as _, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use toml::Value;

use super::Config;
use super::print::settings;
use super::tree::{Content, Node, Origin, path};
use super::values::{CLIENT_NAME, describe, one_of, similar};

/// The keys of the transports of a link, each with the only transport that it belongs to.
const LINK_KEYS: [(&str, &str); 8] = [
    ("connect", ""),
    ("listen", ""),
    ("udp", ""),
    ("greeting", "connect"),
    ("peers", ""),
    ("multicast", "udp"),
    ("interface", "udp"),
    ("receive_buffer", "udp"),
];

/// The keys of an output that are not fields: those of its transports, and `cosmos`. `and` lies between several transports.
const OUTPUT_KEYS: [(&str, &str); 20] = [
    ("listen", ""),
    ("connect", ""),
    ("udp", ""),
    ("peers", "listen"),
    ("clients", "listen"),
    ("rate", "udp"),
    ("cosmos", ""),
    ("nats", ""),
    ("stream", "nats"),
    ("replicas", "nats"),
    ("subject", "nats"),
    ("credentials_file", "nats"),
    ("token_file", "nats and aggregator"),
    ("user", "nats"),
    ("password_file", "nats"),
    ("message", "nats"),
    ("aggregator", ""),
    ("tls", "aggregator"),
    ("via", "aggregator"),
    ("connections", "aggregator"),
];

/// Why a value cannot be read.
#[derive(Debug)]
pub(super) struct Error {
    pub(super) what: String,
    /// The field that is missing.
    missing: Option<&'static str>,
    /// Where. The innermost value that an error passes sets it.
    pub(super) place: Option<Place>,
}

/// The place of an error.
#[derive(Debug)]
pub(super) struct Place {
    /// The key for the message.
    pub(super) key: String,
    pub(super) at: Origin,
    /// The key of the value without which the rest can be read.
    pub(super) culprit: String,
}

impl Error {
    /// This error with the place of `node`, if it has none.
    pub(super) fn at(mut self, node: &Node) -> Self {
        self.place.get_or_insert_with(|| Place {
            key: self.missing.map_or_else(|| node.key.clone(), |name| path(&node.key, name)),
            at: node.at.clone(),
            culprit: node.key.clone(),
        });
        if self.missing.is_some() && self.what.is_empty() {
            let key = self.place.as_ref().map_or("", |place| place.key.as_str());
            self.what = missing(key);
        }
        self
    }
}

impl serde::de::Error for Error {
    fn custom<T: fmt::Display>(what: T) -> Self {
        Self { what: what.to_string(), missing: None, place: None }
    }

    fn missing_field(field: &'static str) -> Self {
        Self { what: String::new(), missing: Some(field), place: None }
    }

    fn unknown_variant(variant: &str, names: &'static [&'static str]) -> Self {
        Self::custom(one_of(&Value::from(variant), names))
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// What is missing at `key`.
fn missing(key: &str) -> String {
    let expected = match key.rsplit('.').next().unwrap_or_default() {
        "name" if key.starts_with("outputs") => "a name of its own such as \"yamcs-live\"",
        "name" if key.contains(".clients[") => CLIENT_NAME,
        "name" => "a name of its own such as \"kiruna-x\"",
        "framing" => "a table such as { kind = \"fixed\", length = 892 }",
        "stream" => "the name of a stream of NATS such as \"TELEMETRY\"",
        "target" => "the name of a COSMOS target such as \"SAT\"",
        _ => "the bytes of a unit, marker and check symbols included",
    };
    format!("is missing: expected {expected}")
}

/// How the table at `key` is written within another one.
fn inline_form(key: &str) -> Option<&'static str> {
    Some(match key.rsplit('.').next()?.split('[').next()? {
        "framing" if key.starts_with("outputs") => "{ kind = \"bare\" }",
        "framing" => "{ kind = \"fixed\", length = 892 }",
        "decode" => "{ kind = \"tm\", fecf = \"crc16\" }",
        "select" => "{ sources = [157], kind = \"live\" }",
        "cosmos" => "{ target = \"SAT\" }",
        "emergency" => "{ vcid = [3] }",
        _ => return None,
    })
}

impl Node {
    /// The error that this is no table, or no list of tables.
    fn is_no_table(&self, is_list: bool) -> Error {
        let of_list = self.key.split('[').next().unwrap_or_default();
        let form = inline_form(&self.key).map_or_else(|| format!("[[{of_list}]]"), str::to_owned);
        let what = match inline_form(&self.key) {
            _ if is_list => format!("expected a list of tables, each written {form}"),
            _ if self.key.ends_with(']') => format!("expected a table, written {form}"),
            Some(form) => format!("expected a table such as {form}"),
            None => format!("expected a section, written [{}]", self.key),
        };
        self.error(what)
    }

    /// The error that this is a list of tables which is none, for a caller that reads its tables.
    pub(super) fn is_no_list(&self) -> String {
        self.is_no_table(true).what
    }

    fn error(&self, what: impl fmt::Display) -> Error {
        <Error as serde::de::Error>::custom(what).at(self)
    }

    /// The value without what is in it, for a message.
    fn outside(&self) -> Value {
        match &self.content {
            Content::Value(value) => value.clone(),
            Content::List(_) => Value::Array(Vec::new()),
            Content::Table(_) | Content::Kind(..) => Value::Table(toml::Table::new()),
        }
    }

    /// Whether the other keys of this table depend on its key `kind`.
    fn has_kind(&self) -> bool {
        matches!(self.key.rsplit('.').next(), Some("framing" | "decode"))
    }

    /// The keys that are not fields: those of the transports, each with the only transport that it belongs to.
    fn further_keys(&self) -> &'static [(&'static str, &'static str)] {
        if self.key.starts_with("outputs") { &OUTPUT_KEYS } else { &LINK_KEYS }
    }

    /// The keys of a struct with these `fields`.
    fn allowed(&self, fields: &[&'static str]) -> Vec<&'static str> {
        let is_of_subscriber = self.key.starts_with("feed.");
        let mut allowed = if self.has_kind() { vec!["kind"] } else { Vec::new() };
        for field in fields {
            match *field {
                "transport" => allowed.extend(self.further_keys().iter().map(|(name, _)| *name)),
                // Subscribers have no station.
                "stations" if is_of_subscriber => {}
                field => allowed.push(field),
            }
        }
        allowed
    }

    /// Refuses keys that are not in these `fields`.
    fn check_keys(&self, fields: &[&'static str]) -> Result<(), Error> {
        let allowed = self.allowed(fields);
        let mut names = self.table().into_iter().flatten();
        let Some((name, node)) = names.find(|(name, _)| !allowed.contains(&name.as_str())) else {
            return Ok(());
        };
        let (key, culprit) = (node.key.clone(), node.key.clone());
        let place = Some(Place { key, at: node.name_at.clone(), culprit });
        Err(Error { what: unknown_key(name, &allowed), missing: None, place })
    }

    /// The transport of a link or an output: the key of `transports` that it has.
    fn transport(&self, transports: &'static [&'static str]) -> Result<&'static str, Error> {
        let table = self.table().ok_or_else(|| self.is_no_table(false))?;
        let mut written = transports.iter().filter(|name| table.contains_key(**name));
        let (Some(transport), None) = (written.next(), written.next()) else {
            let (last, others) = transports.split_last().unwrap_or((&"", &[]));
            return Err(self.error(format!("expected exactly one of {} and {last}", others.join(", "))));
        };
        let what = if self.key.starts_with("outputs") { "output" } else { "link" };
        for (name, belongs) in self.further_keys() {
            if let Some(node) = table.get(*name)
                && !belongs.is_empty()
                && belongs.split(" and ").all(|belongs| belongs != *transport)
            {
                let what = format!("belongs to {belongs}, and this {what} has {transport}: remove it");
                return Err(node.error(what));
            }
        }
        Ok(transport)
    }
}

/// The message for a key that is not in `allowed`.
fn unknown_key(name: &str, allowed: &[&str]) -> String {
    let elsewhere = || {
        let settings = settings(&Config::default()).into_iter();
        settings.filter(|setting| setting.name == name).map(|setting| setting.path()).next()
    };
    let meant = similar(name, allowed).map(str::to_owned).or_else(elsewhere);
    let meant = meant.map_or(String::new(), |meant| format!(", did you mean {meant}?"));
    format!("unknown key{meant} (allowed here: {})", allowed.join(", "))
}

impl<'de> Deserializer<'de> for &Node {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.content {
            // `Value` knows a date by this name.
            Content::Value(Value::Datetime(date)) => {
                let date = [("$__toml_private_datetime", date.to_string())];
                visitor.visit_map(MapDeserializer::new(date.into_iter()))
            }
            Content::Value(value) => {
                value.clone().deserialize_any(visitor).map_err(|error| self.error(error.message()))
            }
            Content::List(items) => visitor.visit_seq(Items(items.iter())),
            Content::Table(_) => visitor.visit_map(Fields::of(self, false)),
            Content::Kind(_, table) => table.deserialize_any(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.content {
            Content::Value(Value::Boolean(flag)) => visitor.visit_bool(*flag),
            _ => Err(self.error(format!("found {}, expected true or false", describe(&self.outside())))),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.content {
            Content::List(items) => visitor.visit_seq(Items(items.iter())),
            _ => Err(self.is_no_table(true)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if self.table().is_none() {
            return Err(self.is_no_table(false));
        }
        // A transport has its keys among those of its output.
        if !name.ends_with("Transport") {
            self.check_keys(fields)?;
        }
        let fields = Fields::of(self, fields.contains(&"transport"));
        visitor.visit_map(fields).map_err(|error| error.at(self))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let refused = |node: &Self| node.error(one_of(&node.outside(), names));
        let variant = match &self.content {
            Content::Kind(kind, table) => Variant { name: kind, named_by: self, form: Form::Table(table) },
            _ if name.ends_with("Transport") => {
                Variant { name: self.transport(names)?, named_by: self, form: Form::Among(self) }
            }
            Content::Table(table) if self.has_kind() => {
                let Some(kind) = table.get("kind") else {
                    let names: Vec<_> = names.iter().map(|name| format!("{name:?}")).collect();
                    let what = format!("is missing: expected one of {}", names.join(", "));
                    return Err(Error { what, missing: Some("kind"), place: None }.at(self));
                };
                let name = kind.text().ok_or_else(|| refused(&kind))?;
                Variant { name, named_by: kind, form: Form::Table(self) }
            }
            _ if self.has_kind() => return Err(self.is_no_table(false)),
            _ => {
                let name = self.text().ok_or_else(|| refused(&self))?;
                Variant { name, named_by: self, form: Form::Name }
            }
        };
        visitor.visit_enum(variant)
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct newtype_struct tuple
        tuple_struct map identifier ignored_any
    }
}

/// The items of a list.
struct Items<'a>(std::slice::Iter<'a, Node>);

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.0.next().map(|node| seed.deserialize(node).map_err(|error| error.at(node))).transpose()
    }
}

/// The names and values of a table.
struct Fields<'a> {
    rest: Box<dyn Iterator<Item = (&'a str, &'a Node)> + 'a>,
    value: Option<&'a Node>,
}

impl<'a> Fields<'a> {
    fn of(node: &'a Node, has_transport: bool) -> Self {
        let fields = node.table().into_iter().flatten().map(|(name, node)| (name.as_str(), node));
        Self { rest: Box::new(fields.chain(has_transport.then_some(("transport", node)))), value: None }
    }
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((name, value)) = self.rest.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(name.into_deserializer()).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let value = self.value.take().expect("serde asks for the value after its key");
        seed.deserialize(value).map_err(|error| error.at(value))
    }
}

/// The variant of an enum.
struct Variant<'a> {
    name: &'a str,
    named_by: &'a Node,
    form: Form<'a>,
}

enum Form<'a> {
    /// Only the name.
    Name,
    /// A table with its values.
    Table(&'a Node),
    /// A table that has its values among others.
    Among(&'a Node),
}

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let name = seed.deserialize(self.name.into_deserializer());
        Ok((name.map_err(|error: Error| error.at(self.named_by))?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        match self.form {
            Form::Table(table) => table.check_keys(&[]),
            Form::Name | Form::Among(_) => Ok(()),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        match self.form {
            Form::Table(table) | Form::Among(table) => seed.deserialize(table),
            Form::Name => Err(self.named_by.is_no_table(false)),
        }
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, _visitor: V) -> Result<V::Value, Error> {
        Err(self.named_by.is_no_table(false))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.form {
            Form::Table(table) => table.deserialize_struct("", fields, visitor),
            Form::Among(table) => visitor.visit_map(Fields::of(table, false)),
            Form::Name => Err(self.named_by.is_no_table(false)),
        }
    }
}
