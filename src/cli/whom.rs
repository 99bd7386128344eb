//! The arguments that select the daemon for HTTP requests.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use crate::config::{Config, environment};
use crate::http::client::Url;

#[derive(Clone, Debug, Args)]
pub(super) struct WhomArgs {
    /// HTTP side of the daemon, as in http://127.0.0.1:7482 [default: http.listen of the configuration, on loopback
    /// where that is all addresses]
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    url: Option<Url>,
    /// The daemon's configuration, of which http.listen is read; else it is looked for where the daemon does, and
    /// without one it is the default
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl WhomArgs {
    pub(super) fn url(&self) -> anyhow::Result<Url> {
        if let Some(url) = &self.url {
            return Ok(url.clone());
        }
        let listen = Config::http_listen(self.config.as_deref(), environment())
            .context("cannot tell where the daemon listens (--url says it)")?;
        anyhow::ensure!(
            listen.port() != 0,
            "http.listen = \"{listen}\" lets the system choose the port: name it with --url"
        );
        Ok(Url::of_listener(listen))
    }
}
