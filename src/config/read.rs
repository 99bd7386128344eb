//! From TOML text to a [`Draft`], with the line and column of all that is wrong.

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::Config;
use super::document::{Document, printable, raw, unknown_key};
use super::draft::{Draft, PROBLEMS_MAX};
use super::keys::{TABLE_LISTS, keys, path};
use super::suggest::similar;
use super::tokens;

/// Reads all of `document` into `draft`.
///
/// Text that is no TOML is reported as such and nothing of it is taken: what the parser makes of the
/// rest would only mislead.
pub(super) fn read(document: Document<'_>, draft: &mut Draft) {
    let (root, errors) = DeTable::parse_recoverable(document.text);
    for error in errors.iter().take(PROBLEMS_MAX) {
        let place = document.place(&error.span().unwrap_or_default());
        let message = error.message().trim().replace('\n', ", ");
        draft.problem(place, "", format!("not valid TOML: {message}"));
    }
    if !errors.is_empty() {
        return;
    }

    let names = Names::collect();
    for (key, value) in root.get_ref() {
        if draft.is_full() {
            return;
        }
        let name = key.get_ref().as_ref();
        if names.in_section("").contains(&name) {
            draft.set(name, &raw(value.get_ref()), document.place(&value.span()));
        } else if names.sections().contains(&name) {
            read_section(document, draft, &names, name, value);
        } else {
            unknown(document, draft, &names, "", key);
        }
    }
}

fn read_section(
    document: Document<'_>,
    draft: &mut Draft,
    names: &Names,
    section: &str,
    value: &Spanned<DeValue<'_>>,
) {
    let DeValue::Table(table) = value.get_ref() else {
        let what = format!("expected a section, written [{section}]");
        return draft.problem(document.place(&value.span()), section, what);
    };
    for (key, value) in table {
        if draft.is_full() {
            return;
        }
        let name = key.get_ref().as_ref();
        if TABLE_LISTS.contains(&(section, name)) {
            let list = tokens::read(document, draft, section, value);
            match section {
                "ingest" => draft.ingest_tokens = list,
                _ => draft.feed_tokens = list,
            }
        } else if names.in_section(section).contains(&name) {
            let place = document.place(&value.span());
            draft.set(&path(section, name), &raw(value.get_ref()), place);
        } else {
            unknown(document, draft, names, section, key);
        }
    }
}

fn unknown(
    document: Document<'_>,
    draft: &mut Draft,
    names: &Names,
    section: &str,
    key: &Spanned<DeString<'_>>,
) {
    let name = key.get_ref().as_ref();
    let allowed = names.in_section_all(section);
    let elsewhere = || {
        let (section, name) = names.0.iter().find(|(_, other)| *other == name)?;
        Some(path(section, name))
    };
    let suggestion = similar(name, &allowed).map(str::to_owned).or_else(elsewhere);
    let what = unknown_key(suggestion.as_deref(), &allowed);
    draft.problem(document.place(&key.span()), &path(section, &printable(name)), what);
}

/// All names that may stand in a file, as section and name.
struct Names(Vec<(&'static str, &'static str)>);

impl Names {
    fn collect() -> Self {
        let mut defaults = Config::default();
        let keys = keys(&mut defaults);
        Self(keys.iter().map(|key| (key.section, key.name)).collect())
    }

    /// Keys of `section` that hold one value.
    fn in_section(&self, section: &str) -> Vec<&'static str> {
        let of_section = self.0.iter().filter(|(of, _)| *of == section);
        of_section.map(|(_, name)| *name).collect()
    }

    /// All that may stand in `section`, or above all sections.
    fn in_section_all(&self, section: &str) -> Vec<&'static str> {
        let mut names = self.in_section(section);
        if section.is_empty() {
            names.extend(self.sections());
        }
        let lists = TABLE_LISTS.iter().filter(|(of, _)| *of == section);
        names.extend(lists.map(|(_, name)| *name));
        names
    }

    fn sections(&self) -> Vec<&'static str> {
        let mut sections: Vec<_> = self.0.iter().map(|(section, _)| *section).collect();
        sections.retain(|section| !section.is_empty());
        sections.dedup();
        sections
    }
}
