//! The lists of credentials and of clients with certificates: `[[ingest.tokens]]`, `[[ingest.clients]]`, and those of
//! `[feed]`.

use super::draft::Draft;
use super::sections::{NamedClient, Token};
use super::token_files::read_or_report;
use super::tree::Node;

/// Limit of tables in a list. The daemon compares each credential with the token of a client.
const MAX: usize = 1_024;
/// Reads a list of credentials and their files.
pub(super) fn read_tokens(draft: &mut Draft<'_>, list: Option<Node>) -> Vec<Token> {
    let tokens = draft.read_list(list, MAX, read_token);
    let is_same = |a: &Token, b: &Token| a.token == b.token && !a.token.is_awaited();
    without_repetition(draft, tokens, is_same, |first| {
        format!("the same token as {first}: give each its own")
    })
}

/// Reads a list of clients.
pub(super) fn read_clients(draft: &mut Draft<'_>, list: Option<Node>) -> Vec<NamedClient> {
    let clients = draft.read_list(list, MAX, Draft::read);
    let is_same = |a: &NamedClient, b: &NamedClient| a.name == b.name;
    without_repetition(draft, clients, is_same, |first| {
        format!("the same name as {first}: name each client once")
    })
}

/// The values of a list. Each that repeats an earlier one is reported.
fn without_repetition<T>(
    draft: &mut Draft<'_>,
    list: Vec<(String, T)>,
    is_same: fn(&T, &T) -> bool,
    what: impl Fn(&str) -> String,
) -> Vec<T> {
    for (index, (key, value)) in list.iter().enumerate() {
        if let Some((first, _)) = list[..index].iter().find(|(_, other)| is_same(other, value)) {
            draft.problem(key, what(first));
        }
    }
    list.into_iter().map(|(_, value)| value).collect()
}

fn read_token(draft: &mut Draft<'_>, node: &mut Node) -> Option<Token> {
    let mut token: Token = draft.read_whole(node)?;
    let key = &node.key;
    match (&token.token_file, token.token.is_awaited()) {
        (Some(path), true) => {
            token.token = read_or_report(draft, &format!("{key}.token_file"), &path.clone())?;
        }
        (None, false) => {}
        _ => draft.problem(key, "expected exactly one of token and token_file"),
    }
    Some(token)
}
