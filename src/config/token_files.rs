//! Reads the files that credentials lie in, and completes the lists of credentials.

use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::draft::Draft;
use super::error::Location;
use super::secret::Secret;
use super::sections::Token;
use super::source::is_absent;
use super::token_list::TokenDraft;
use crate::plain_file;

/// Where the service manager puts the credentials of a unit when it starts it.
pub const CREDENTIALS_DIR: &str = "/run/credentials";

/// What a configuration is loaded for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The daemon runs with it: each token file must be there.
    Run,
    /// It is checked before the daemon starts: a file that is missing in [`CREDENTIALS_DIR`] is a note.
    CheckBeforeStart,
}

/// Reads all token files into `draft`. Returns notes on the files that come with the start.
pub(super) fn resolve(draft: &mut Draft, purpose: Purpose) -> Vec<String> {
    let mut files = TokenFiles { draft, purpose, notes: Vec::new() };
    let ingest = std::mem::take(&mut files.draft.ingest_tokens);
    files.draft.config.ingest.tokens = files.resolve_list(ingest);
    let feed = std::mem::take(&mut files.draft.feed_tokens);
    files.draft.config.feed.tokens = files.resolve_list(feed);
    files.resolve_http();
    files.notes
}

struct TokenFiles<'a> {
    draft: &'a mut Draft,
    purpose: Purpose,
    notes: Vec<String>,
}

impl TokenFiles<'_> {
    fn resolve_list(&mut self, drafts: Vec<TokenDraft>) -> Vec<Token> {
        let mut tokens: Vec<(String, Token)> = Vec::new();
        for TokenDraft { key, location, table } in drafts {
            let read = |path| self.read_or_report(&location, &format!("{key}.token_file"), path);
            let Some(token) = table.token.or_else(|| table.token_file.as_deref().and_then(read)) else {
                continue;
            };
            let same = tokens.iter().find(|(_, other)| other.token == token && !token.is_awaited());
            if let Some((first, _)) = same {
                self.draft.problem(location, &key, format!("the same token as {first}: give each its own"));
                continue;
            }
            let (token_file, sources, stations) = (table.token_file, table.sources, table.stations);
            tokens.push((key, Token { token, token_file, sources, stations }));
        }
        tokens.into_iter().map(|(_, token)| token).collect()
    }

    fn resolve_http(&mut self) {
        let http = &self.draft.config.http;
        let Some(path) = http.token_file.clone() else { return };
        if http.token.is_some() {
            let what = "both http.token and http.token_file are set, expected at most one of them";
            return self.draft.conflict(&["http.token_file", "http.token"], what);
        }
        let location = self.draft.location("http.token_file");
        self.draft.config.http.token = self.read_or_report(&location, "http.token_file", &path);
    }

    fn read_or_report(&mut self, location: &Location, key: &str, path: &Path) -> Option<Secret> {
        let shown = path.display();
        let problem = match read_file(path) {
            Ok((secret, mode)) => {
                self.draft.warnings.extend(readable_warning(path, mode, "a token"));
                return Some(secret);
            }
            Err(FileError::Io(error)) if self.is_awaited(path, &error) => {
                self.notes.push(format!(
                    "{key}: {shown} is not there yet: the service manager puts it there at the start"
                ));
                return Some(Secret::awaited());
            }
            Err(FileError::Io(error)) => format!("cannot read {shown}: {error}"),
            Err(FileError::Content(why)) => format!("the token in {shown} {why}"),
        };
        self.draft.problem(location.clone(), key, problem);
        None
    }

    fn is_awaited(&self, path: &Path, error: &io::Error) -> bool {
        self.purpose == Purpose::CheckBeforeStart && is_absent(error) && path.starts_with(CREDENTIALS_DIR)
    }
}

/// A warning if `mode` lets everyone on this host read `path`, which holds `content`.
pub(super) fn readable_warning(path: &Path, mode: u32, content: &str) -> Option<String> {
    // Containers get their secrets there, with modes they cannot choose. Only the daemon runs in the container.
    let is_secret_of_container = path.starts_with("/run/secrets");
    let (path, mode) = (path.display(), mode & 0o7777);
    (mode & 0o004 != 0 && !is_secret_of_container).then(|| {
        format!(
            "{path} holds {content} and everyone on this host can read it (mode {mode:04o}): chmod o-rwx {path}"
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

/// The credential in `path`, without blanks at its ends, and the mode of the file.
fn read_file(path: &Path) -> Result<(Secret, u32), FileError> {
    /// Room for blanks around the longest credential.
    const BYTES_MAX: u64 = 2 * Secret::BYTES_MAX as u64;

    let file = plain_file::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    let mut bytes = Vec::new();
    let read = file.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if read as u64 > BYTES_MAX {
        return Err(FileError::Content(format!("has more than {BYTES_MAX} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_| FileError::Content("is no UTF-8 text".to_owned()))?;
    let secret = Secret::new(text.trim()).map_err(|why| FileError::Content(why.to_string()))?;
    Ok((secret, mode))
}
