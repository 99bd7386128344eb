//! The files that hold credentials.

use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::draft::Draft;
use super::purpose::Purpose;
use super::source::{is_absent, readable_warning};
use support::plain_file;
use support::secret::Secret;

/// The directory where the service manager puts the credentials of a unit when it starts the unit.
pub const CREDENTIALS_DIR: &str = "/run/credentials";

/// Reads the file that `http.token_file` names.
pub(super) fn resolve_http(draft: &mut Draft<'_>) {
    let http = &draft.config.http;
    let Some(path) = http.token_file.clone() else { return };
    if http.token.is_some() {
        let what = "both http.token and http.token_file are set, expected at most one of them";
        return draft.conflict(&["http.token_file", "http.token"], what);
    }
    draft.config.http.token = read_or_report(draft, "http.token_file", &path);
}

/// Reads the credential in `path`, which `key` names. Adds errors to `draft`.
pub(super) fn read_or_report(draft: &mut Draft<'_>, key: &str, path: &Path) -> Option<Secret> {
    let shown = path.display();
    let problem = match read_file(path) {
        Ok((secret, mode)) => {
            draft.warnings.extend(readable_warning(path, mode, "a token"));
            return Some(secret);
        }
        Err(FileError::Io(error)) if is_awaited(draft, key, path, &error) => {
            return Some(Secret::awaited());
        }
        Err(FileError::Io(error)) => format!("cannot read {shown}: {error}"),
        Err(FileError::Content(why)) => format!("the token in {shown} {why}"),
    };
    draft.problem(key, problem);
    None
}

/// Whether the file that `key` names does not exist before the start, because the service manager creates it. Notes that.
pub(super) fn is_awaited(draft: &mut Draft<'_>, key: &str, path: &Path, error: &io::Error) -> bool {
    let is_awaited =
        draft.purpose == Purpose::CheckBeforeStart && path.starts_with(CREDENTIALS_DIR) && is_absent(error);
    if is_awaited {
        let path = path.display();
        draft
            .notes
            .push(format!("{key}: {path} does not exist yet: the service manager creates it at the start"));
    }
    is_awaited
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
    /// The longest credential, with room for blanks around it.
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
