//! The arguments that select the daemon for HTTP requests.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use crate::config::{Config, environment};
use crate::http::client::Url;

#[derive(Clone, Debug, Args)]
pub(super) struct WhomArgs {
    /// URL of the daemon's HTTP API, such as http://127.0.0.1:7482 [default: http.listen of the configuration; loopback
    /// if the daemon listens on all addresses]
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    url: Option<Url>,
    /// Configuration file of the daemon. Only http.listen is read from it [default: the file that the daemon would find;
    /// without a file, the default of http.listen]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl WhomArgs {
    pub(super) fn url(&self) -> anyhow::Result<Url> {
        if let Some(url) = &self.url {
            return Ok(url.clone());
        }
        let listen = Config::http_listen(self.config.as_deref(), environment())
            .context("cannot find out where the daemon listens; name its URL with --url")?;
        anyhow::ensure!(
            listen.port() != 0,
            "http.listen = \"{listen}\" lets the system choose the port: pass --url"
        );
        Ok(Url::of_listener(listen))
    }
}
