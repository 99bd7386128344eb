//! The certificates and keys that `[tls]` names.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tls::{Ask, Authorities, Client, FileError, Identity, Server, TlsError};

use super::Config;
use super::draft::Draft;
use super::sections::{NamedClient, Tls, Token};
use super::source::readable_warning;
use super::tls_sides::{TlsFiles, TlsSides};
use super::token_files::is_awaited;

/// A certificate that is valid for less than this is reported.
const EXPIRES_SOON: Duration = Duration::from_secs(14 * 24 * 60 * 60);

impl Tls {
    /// When the certificates expire, by the names of their keys, as time since 1970.
    #[must_use]
    pub fn expiries(&self) -> Vec<(&'static str, Duration)> {
        let TlsFiles { identity, authorities, .. } = &self.files;
        let certificate = identity.as_ref().map(|identity| ("certificate", identity.expires()));
        let ca = authorities.as_ref().and_then(Authorities::expires).map(|expires| ("ca", expires));
        certificate.into_iter().chain(ca).collect()
    }

    /// A sentence for each certificate that has expired at `now`, or expires within 14 days.
    #[must_use]
    pub fn expiring(&self, now: Duration) -> Vec<String> {
        let soon = |(key, expires): (&str, Duration)| {
            let path = if key == "ca" { &self.ca } else { &self.certificate };
            let path = path.as_deref().unwrap_or(Path::new(""));
            let at = humantime::format_rfc3339_seconds(UNIX_EPOCH.checked_add(expires)?);
            match expires.checked_sub(now) {
                Some(left) if left > EXPIRES_SOON => None,
                Some(left) => Some(format!(
                    "tls.{key}: {} expires in {} days, at {at}: renew it and send SIGHUP",
                    path.display(),
                    left.as_secs() / (24 * 60 * 60)
                )),
                None => Some(format!(
                    "tls.{key}: {} has expired at {at}, and TLS connections fail: renew it and send SIGHUP",
                    path.display()
                )),
            }
        };
        self.expiries().into_iter().filter_map(soon).collect()
    }
}

/// Reads the files that `[tls]` names. Adds errors to `draft`.
pub(super) fn resolve(draft: &mut Draft<'_>) {
    let tls = draft.config.tls.clone();
    match (&tls.certificate, &tls.key) {
        (Some(certificate), Some(key)) => {
            if let Some(warning) = mode_of(key).and_then(|mode| readable_warning(key, mode, "a key")) {
                draft.warnings.push(warning);
            }
            draft.config.tls.files.identity =
                loaded(draft, "tls.certificate", Identity::load(certificate, key));
        }
        (None, None) => {}
        (Some(_), None) => draft.conflict(&["tls.certificate"], "has no key: set tls.key"),
        (None, Some(_)) => draft.conflict(&["tls.key"], "has no certificate: set tls.certificate"),
    }
    if let Some(ca) = &tls.ca {
        draft.config.tls.files.authorities = loaded(draft, "tls.ca", Authorities::load(ca));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    draft.warnings.extend(draft.config.tls.expiring(now));
    match sides(&draft.config) {
        Ok(sides) => draft.config.tls.files.sides = sides,
        Err(error) => draft.conflict(&["tls.certificate", "tls.key", "tls.ca"], error.to_string()),
    }
}

/// The content of files that `key` names, or `None` after a report.
fn loaded<T>(draft: &mut Draft<'_>, key: &str, loaded: Result<T, FileError>) -> Option<T> {
    let error = match loaded {
        Ok(loaded) => return Some(loaded),
        Err(error) => error,
    };
    if let FileError::Read { path, error: io } = &error
        && is_awaited(draft, key, path, io)
    {
        return None;
    }
    draft.problem(key, error.to_string());
    None
}

fn mode_of(path: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt as _;
    Some(std::fs::metadata(path).ok()?.permissions().mode())
}

/// Makes the sides from the files.
fn sides(config: &Config) -> Result<TlsSides, TlsError> {
    let TlsFiles { identity, authorities, .. } = &config.tls.files;
    let client = authorities.as_ref().map(|authorities| Client::new(authorities, identity.as_ref()));
    let mut sides = TlsSides { connecting_link: client.transpose()?, ..TlsSides::default() };
    let Some(identity) = identity else { return Ok(sides) };
    let server = |is_on: bool, ask: &Ask| is_on.then(|| Server::new(identity, ask)).transpose();
    let asks = |clients: &[NamedClient], tokens: &[Token]| match authorities {
        // A client without a certificate needs a token then.
        Some(authorities) if !clients.is_empty() && !tokens.is_empty() => Ask::Optional(authorities.clone()),
        Some(authorities) if !clients.is_empty() => Ask::Required(authorities.clone()),
        _ => Ask::Nothing,
    };
    let (ingest, feed) = (&config.ingest, &config.feed);
    sides.ingest = server(ingest.tls, &asks(&ingest.clients, &ingest.tokens))?;
    sides.feed = server(feed.tls, &asks(&feed.clients, &feed.tokens))?;
    sides.http = server(config.http.tls, &Ask::Nothing)?;
    sides.listening_link = server(true, &Ask::Nothing)?;
    Ok(sides)
}
