//! Reads TOML text and environment variables into a [`Draft`].

use std::path::Path;

use super::Config;
use super::draft::Draft;
use super::keys::{CLIENTS, LINKS, OUTPUTS, TOKENS};
use super::origins::Origins;
use super::overrides::{self, Override};
use super::reader::{Entry, Reader};
use super::source::Source;
use super::token_files::{self, Purpose};
use super::{clients, links, outputs, tls_files, tokens};

/// Reads the file `source`, if there is one, and applies `overrides`.
pub(super) fn read(source: Option<&Source>, overrides: &[Override], purpose: Purpose) -> Draft {
    let file = source.map_or((Path::new(""), ""), |source| (source.path.as_path(), source.text.as_str()));
    let variables = overrides.iter().map(|variable| variable.name.clone()).collect();
    let mut reader = Reader { origins: Origins { file, variables }, draft: Draft::default() };
    reader.draft.purpose = purpose;
    let mut root = reader.parse(file.1);
    reader.draft.names = root.keys().map(|name| name.get_ref().to_string()).collect();
    reader.drop_unknown(&mut root);
    let lists = ["ingest", "feed"]
        .map(|section| (section, [TOKENS, CLIENTS].map(|name| tokens::take_list(&mut root, section, name))));
    let [links, outputs] = [LINKS, OUTPUTS].map(|name| root.remove(name));
    // A wrong value in the file is an error even if a variable overrides it.
    let _: Config = reader.read_values("", &mut root);
    overrides::apply(&mut reader, &mut root, overrides);
    reader.draft.config = reader.read_values("", &mut root);
    reader.draft.locations = reader.locations(&root);
    if purpose != Purpose::FindListener {
        let [ingest, feed] = lists.map(|(section, [tokens, clients])| {
            let tokens = tokens.map(|list| tokens::read(&mut reader, section, list)).unwrap_or_default();
            (tokens, clients.map(|list| clients::read(&mut reader, section, list)).unwrap_or_default())
        });
        let config = &mut reader.draft.config;
        (config.ingest.tokens, config.ingest.clients) = ingest;
        (config.feed.tokens, config.feed.clients) = feed;
        let links = links.map(|list| links::table::read(&mut reader, list)).unwrap_or_default();
        let outputs = outputs.map(|list| outputs::table::read(&mut reader, list)).unwrap_or_default();
        (reader.draft.link_keys, reader.draft.config.links) = unzip(links);
        (reader.draft.output_keys, reader.draft.config.outputs) = unzip(outputs);
        token_files::resolve_http(&mut reader.draft);
        tls_files::resolve(&mut reader.draft);
    }
    reader.draft
}

/// The keys of the tables of a list, and their values.
fn unzip<T>(list: Vec<(Entry, T)>) -> (Vec<String>, Vec<T>) {
    list.into_iter().map(|(entry, value)| (entry.key, value)).unzip()
}
