//! The lists of credentials, `[[ingest.tokens]]` and `[[feed.tokens]]`, and the files they may lie in.

use std::collections::BTreeSet;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::codecs::{Credential, FilePath};
use super::document::{Document, printable, raw, unknown_key};
use super::draft::Draft;
use super::error::Place;
use super::secret::Secret;
use super::sections::Token;
use super::setting::{Optional, Raw, Setting as _};
use super::suggest::similar;
use super::token_draft::TokenDraft;
use super::{CREDENTIALS_DIR, is_absent};
use crate::frame::Station;
use crate::plain_file;

/// Most credentials in a list. Each is compared with what a client shows.
const TOKENS_MAX: usize = 1_024;

/// Most stations of one credential.
const STATIONS_MAX: usize = 1_024;

/// What may stand in one table of a list. Subscribers have no station.
const ENTRY_KEYS: [&str; 4] = ["token", "token_file", "sources", "stations"];

/// What may stand in one table of the list of `section`.
pub(super) fn entry_keys(section: &str) -> &'static [&'static str] {
    if section == "ingest" { &ENTRY_KEYS } else { &ENTRY_KEYS[..3] }
}

/// Reads the list of `section`; what is wrong goes into `draft`.
///
/// Values are never repeated in a message: a credential may stand where it does not belong.
pub(super) fn read(
    document: Document<'_>,
    draft: &mut Draft,
    section: &str,
    value: &Spanned<DeValue<'_>>,
) -> Vec<TokenDraft> {
    let list = format!("{section}.tokens");
    let DeValue::Array(entries) = value.get_ref() else {
        let what = format!("expected a list of tables, each written [[{list}]]");
        draft.problem(document.place(&value.span()), &list, what);
        return Vec::new();
    };
    if entries.len() > TOKENS_MAX {
        let what = format!("{} tables, at most {TOKENS_MAX} are allowed", entries.len());
        draft.problem(document.place(&value.span()), &list, what);
        return Vec::new();
    }
    let mut drafts = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let key = format!("{list}[{index}]");
        let place = document.place(&entry.span());
        match entry.get_ref() {
            DeValue::Table(table) => {
                drafts.push(read_entry(document, draft, &key, place, table, entry_keys(section)));
            }
            _ => draft.problem(place, &key, format!("expected a table, written [[{list}]]")),
        }
    }
    drafts
}

fn read_entry(
    document: Document<'_>,
    draft: &mut Draft,
    key: &str,
    place: Place,
    table: &DeTable<'_>,
    allowed: &[&str],
) -> TokenDraft {
    let mut entry = TokenDraft {
        place: place.clone(),
        token: None,
        token_file: None,
        sources: BTreeSet::new(),
        stations: BTreeSet::new(),
        broken: false,
    };
    for (name, value) in table {
        if draft.is_full() {
            entry.broken = true;
            break;
        }
        let set = match name.get_ref().as_ref() {
            "token" => Optional(&mut entry.token, Credential).set(&raw(value.get_ref())),
            "token_file" => Optional(&mut entry.token_file, FilePath).set(&raw(value.get_ref())),
            "sources" => read_sources(value.get_ref()).map(|sources| entry.sources = sources),
            "stations" if allowed.contains(&"stations") => {
                read_stations(value.get_ref()).map(|stations| entry.stations = stations)
            }
            unknown => {
                let what = unknown_key(similar(unknown, allowed), allowed);
                let key = format!("{key}.{}", printable(unknown));
                draft.problem(document.place(&name.span()), &key, what);
                entry.broken = true;
                continue;
            }
        };
        if let Err(what) = set {
            let key = format!("{key}.{}", name.get_ref());
            draft.problem(document.place(&value.span()), &key, what);
            entry.broken = true;
        }
    }
    if !entry.broken && entry.token.is_some() == entry.token_file.is_some() {
        draft.problem(place, key, "expected exactly one of token and token_file");
        entry.broken = true;
    }
    entry
}

fn read_sources(value: &DeValue<'_>) -> Result<BTreeSet<u32>, String> {
    let refusal = || {
        let max = u32::MAX;
        format!("expected a list of source ids from 0 to {max} such as [1, 2]; empty for all")
    };
    let DeValue::Array(ids) = value else {
        return Err(refusal());
    };
    let ids = ids.iter().map(|id| match raw(id.get_ref()) {
        Raw::Integer(Some(id)) => u32::try_from(id).ok(),
        _ => None,
    });
    ids.collect::<Option<_>>().ok_or_else(refusal)
}

/// Names of stations, as HELLO may have them.
fn read_stations(value: &DeValue<'_>) -> Result<BTreeSet<Station>, String> {
    let refusal = || "expected a list of station names such as [\"svalbard\"]; empty for any".to_owned();
    let DeValue::Array(names) = value else {
        return Err(refusal());
    };
    if names.len() > STATIONS_MAX {
        return Err(format!("{} stations, at most {STATIONS_MAX} are allowed", names.len()));
    }
    let mut stations = BTreeSet::new();
    for name in names {
        let Raw::Text(name) = raw(name.get_ref()) else {
            return Err(refusal());
        };
        let station = Station::new(name).map_err(|error| error.to_string())?;
        if !stations.insert(station) {
            return Err(format!("station {name:?} stands there twice: name each once"));
        }
    }
    Ok(stations)
}

/// Reads all token files and puts the credentials where the daemon finds them.
pub(super) fn resolve(draft: &mut Draft) {
    let ingest = std::mem::take(&mut draft.ingest_tokens);
    draft.config.ingest.tokens = resolve_list(draft, "ingest", ingest);
    let feed = std::mem::take(&mut draft.feed_tokens);
    draft.config.feed.tokens = resolve_list(draft, "feed", feed);
    resolve_http(draft);
}

fn resolve_list(draft: &mut Draft, section: &str, entries: Vec<TokenDraft>) -> Vec<Token> {
    let mut tokens: Vec<(Token, usize)> = Vec::new();
    for (index, entry) in entries.into_iter().enumerate() {
        let key = format!("{section}.tokens[{index}]");
        let secret = match (entry.token, &entry.token_file) {
            _ if entry.broken => None,
            (Some(token), _) => Some(token),
            (None, Some(path)) => {
                let key = format!("{key}.token_file");
                read_file_or_report(draft, &entry.place, &key, path)
            }
            (None, None) => None,
        };
        let Some(token) = secret else { continue };
        let same = tokens.iter().find(|(other, _)| other.token == token && !token.is_awaited());
        if let Some((_, first)) = same {
            let what = format!("the same token as {section}.tokens[{first}]: give each its own");
            draft.problem(entry.place, &key, what);
            continue;
        }
        let TokenDraft { token_file, sources, stations, .. } = entry;
        let token = Token { token, token_file, sources, stations };
        tokens.push((token, index));
    }
    tokens.into_iter().map(|(token, _)| token).collect()
}

fn resolve_http(draft: &mut Draft) {
    let http = &draft.config.http;
    let Some(path) = http.token_file.clone() else {
        return;
    };
    if http.token.is_some() {
        let what = "both http.token and http.token_file are set, expected at most one of them";
        return draft.conflict(&["http.token_file", "http.token"], what);
    }
    let place = draft.place("http.token_file");
    draft.config.http.token = read_file_or_report(draft, &place, "http.token_file", &path);
}

fn read_file_or_report(draft: &mut Draft, place: &Place, key: &str, path: &Path) -> Option<Secret> {
    let shown = path.display();
    match read_file(path) {
        Ok((secret, mode)) => {
            if let Some(warning) = readable_warning(path, mode, "a token") {
                draft.warnings.push(warning);
            }
            Some(secret)
        }
        Err(FileError::Io(error))
            if draft.is_before_start && is_absent(&error) && path.starts_with(CREDENTIALS_DIR) =>
        {
            draft.notes.push(format!(
                "{key}: {shown} is not there yet: the service manager puts it there at the start"
            ));
            Some(Secret::awaited())
        }
        Err(FileError::Io(error)) => {
            draft.problem(place.clone(), key, format!("cannot read {shown}: {error}"));
            None
        }
        Err(FileError::Content(why)) => {
            draft.problem(place.clone(), key, format!("the token in {shown} {why}"));
            None
        }
    }
}

/// A warning if `mode` lets everyone on this host read `path`, which holds `content`.
pub(super) fn readable_warning(path: &Path, mode: u32, content: &str) -> Option<String> {
    // There containers get their secrets, with modes they cannot choose; nobody but the daemon is in them.
    let is_secret_of_container = path.starts_with("/run/secrets");
    let (path, mode) = (path.display(), mode & 0o7777);
    (mode & 0o004 != 0 && !is_secret_of_container).then(|| {
        format!(
            "{path} holds {content} and everyone on this host can read it (mode {mode:04o}): \
             chmod o-rwx {path}"
        )
    })
}

enum FileError {
    Io(io::Error),
    Content(String),
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The credential in `path`, blanks at its ends removed, and the mode of the file.
fn read_file(path: &Path) -> Result<(Secret, u32), FileError> {
    /// Room for blanks around the longest credential.
    const BYTES_MAX: u64 = 2 * Secret::BYTES_MAX as u64;

    let file = plain_file::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    let mut bytes = Vec::new();
    let read = file.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if read as u64 > BYTES_MAX {
        let why = format!("has more than {BYTES_MAX} bytes");
        return Err(FileError::Content(why));
    }
    let text = String::from_utf8(bytes).map_err(|_| FileError::Content("is no UTF-8 text".to_owned()))?;
    let secret = Secret::new(text.trim()).map_err(|why| FileError::Content(why.to_string()))?;
    Ok((secret, mode))
}
