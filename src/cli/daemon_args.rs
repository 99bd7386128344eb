//! The arguments that select the daemon for HTTP requests.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;

use config::{Config, environment};
use http_client::Url;

#[derive(Clone, Debug, Args)]
pub(super) struct DaemonArgs {
    /// URL of the daemon's HTTP API, such as http://127.0.0.1:7482 [default: http.listen of the configuration; loopback
    /// if the daemon listens on all addresses]
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    url: Option<Url>,
    /// Configuration file of the daemon. Only http.listen is read from it [default: the file that the daemon would find;
    /// without a file, the default of http.listen]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    tls: tls::ClientArgs,
}

impl DaemonArgs {
    pub(super) fn url(&self) -> anyhow::Result<Url> {
        let tls = self.tls.client().context("TLS")?;
        if let Some(url) = self.url.clone() {
            return match (url.is_encrypted(), tls) {
                (true, Some(tls)) => Ok(url.encrypted(tls)),
                (false, None) => Ok(url),
                (true, None) => bail!("{url} needs --ca FILE: the authorities that are trusted"),
                (false, Some(_)) => bail!("{url} is not encrypted: write https:// or leave out --ca"),
            };
        }
        let (listen, is_encrypted) = Config::http_listener(self.config.as_deref(), environment())
            .context("cannot find out where the daemon listens; name its URL with --url")?;
        anyhow::ensure!(
            listen.port() != 0,
            "http.listen = \"{listen}\" lets the system choose the port: pass --url"
        );
        let url = Url::of_listener(listen);
        match (is_encrypted, tls) {
            (_, Some(tls)) => Ok(url.encrypted(tls)),
            (true, None) if url.is_loopback() => {
                Ok(url.encrypted(tls::Client::of_this_host()?).either_scheme()?)
            }
            (true, None) => bail!("{listen} is not loopback: name the trusted authorities with --ca FILE"),
            (false, None) if url.is_loopback() => Ok(url.either_scheme()?),
            (false, None) => Ok(url),
        }
    }
}
