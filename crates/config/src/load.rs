//! Reads the file and the variables into a [`Draft`].

use serde::de::DeserializeOwned;

use super::draft::Draft;
use super::overrides::{self, Overrides};
use super::print::LISTS;
use super::purpose::Purpose;
use super::source::Source;
use super::tree::{Content, Node};
use super::{links, outputs, tls_files, token_files, tokens};

/// Reads the file `source`, if there is one, and applies `overrides`.
pub(super) fn read<'t>(source: Option<&'t Source>, overrides: &Overrides, purpose: Purpose) -> Draft<'t> {
    let file = source.map(|source| (source.path.as_path(), source.text.as_str()));
    let mut draft = Draft::of_file(file, purpose);
    let mut root = draft.parse();
    draft.names = root.table().into_iter().flatten().map(|(name, _)| name.clone()).collect();
    let lists = LISTS.map(|list| root.take(list));
    // A wrong value in the file is an error even if a variable overrides it.
    let _: Option<super::Config> = draft.read(&mut root);
    overrides::apply(&mut draft, &mut root, overrides);
    draft.config = draft.read(&mut root).unwrap_or_default();
    for node in [Some(&root)].into_iter().chain(lists.iter().map(Option::as_ref)).flatten() {
        node.note(&mut draft.written);
    }
    if purpose != Purpose::FindListener {
        let [ingest_tokens, ingest_clients, feed_tokens, feed_clients, links, outputs] = lists;
        draft.config.ingest.tokens = tokens::read_tokens(&mut draft, ingest_tokens);
        draft.config.ingest.clients = tokens::read_clients(&mut draft, ingest_clients);
        draft.config.feed.tokens = tokens::read_tokens(&mut draft, feed_tokens);
        draft.config.feed.clients = tokens::read_clients(&mut draft, feed_clients);
        (draft.link_keys, draft.config.links) = unzip(draft.read_list(links, links::MAX, links::read));
        (draft.output_keys, draft.config.outputs) =
            unzip(draft.read_list(outputs, outputs::MAX, outputs::read));
        token_files::resolve_http(&mut draft);
        tls_files::resolve(&mut draft);
    }
    draft
}

fn unzip<T>(list: Vec<(String, T)>) -> (Vec<String>, Vec<T>) {
    list.into_iter().unzip()
}

impl Draft<'_> {
    /// Reads each table of a list with `read`. Returns the values with their keys. A table with a problem is left out.
    pub(super) fn read_list<T: DeserializeOwned>(
        &mut self,
        list: Option<Node>,
        max: usize,
        read: fn(&mut Self, &mut Node) -> Option<T>,
    ) -> Vec<(String, T)> {
        let Some(list) = list else { return Vec::new() };
        let Content::List(mut tables) = list.content else {
            self.problem_at(&list.at, &list.key, list.is_no_list());
            return Vec::new();
        };
        if tables.len() > max {
            let what = format!("{} tables, at most {max} are allowed", tables.len());
            self.problem_at(&list.at, &list.key, what);
            return Vec::new();
        }
        let mut values = Vec::new();
        for table in &mut tables {
            let problems = self.problem_count();
            let value = read(self, table).filter(|_| self.problem_count() == problems);
            values.extend(value.map(|value| (table.key.clone(), value)));
        }
        values
    }
}
