//! The options of a client's command line.

use std::path::PathBuf;

use clap::Args;

use super::config::Client;
use super::error::TlsError;
use super::identity::{Authorities, FileError, Identity};

/// The options of a client's command line.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "TLS")]
pub struct ClientArgs {
    /// Connect over TLS 1.3, and trust the authorities in this file (PEM)
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// File with the certificate and its chain (PEM) to show to a daemon that asks for one
    #[arg(long, value_name = "FILE", requires = "ca", requires = "key")]
    pub certificate: Option<PathBuf>,
    /// File with the key of the certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub key: Option<PathBuf>,
}

/// Why the options cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ArgsError {
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The key or the authorities cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl ClientArgs {
    /// What the options say. `None` without `--ca`. Blocks on the file system.
    ///
    /// # Errors
    /// [`ArgsError`] when a file cannot be used.
    pub fn client(&self) -> Result<Option<Client>, ArgsError> {
        let Some(ca) = &self.ca else { return Ok(None) };
        let authorities = Authorities::load(ca)?;
        let identity = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => Some(Identity::load(certificate, key)?),
            _ => None,
        };
        Ok(Some(Client::new(&authorities, identity.as_ref())?))
    }
}
