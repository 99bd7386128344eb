//! What a scene is made of, and how its daemon is configured and started.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use crate::equipment::{self, LINKS};
use crate::exports;
use crate::netns::Namespace;
use crate::reader;
use crate::shim::Shim;
use crate::support::{Daemon, Launch};

/// The credential of sources and subscribers in a namespace.
pub const TOKEN: &str = "a token of the tests";

/// What a scene has beside its sources.
#[derive(Clone, Default)]
pub struct Setup {
    /// More of the configuration: lines of TOML in front of all tables of links.
    pub archive: &'static str,
    /// Put a proxy in front of the listeners for sources and subscribers.
    pub is_proxied: bool,
    /// A library that the daemon preloads.
    pub shim: Option<Arc<Shim>>,
    /// The network namespace of sources and subscribers.
    pub namespace: Option<Arc<Namespace>>,
}

impl Setup {
    /// Whether retention removes frames in the time of a test.
    pub fn has_retention(&self) -> bool {
        self.archive.contains("retention_size")
    }

    /// The address on which sources and subscribers reach the daemon.
    pub fn host(&self) -> [u8; 4] {
        self.namespace.as_ref().map_or([127, 0, 0, 1], |namespace| namespace.host())
    }
}

/// Passes `start` how the daemon of this scene is launched.
pub fn launched(setup: &Setup, start: impl FnOnce(&Launch<'_>) -> Daemon) -> Daemon {
    let prepare = |command: &mut Command| {
        if let Some(shim) = &setup.shim {
            shim.preload(command);
        }
    };
    start(&Launch { through: &[], prepare: &prepare })
}

pub fn config(setup: &Setup, addresses: &[SocketAddr]) -> String {
    let [ingest, feed, http, output, links @ ..] = addresses else { unreachable!("there are that many") };
    let links = LINKS.into_iter().zip(links).map(|(source, address)| equipment::table(source, *address));
    // Beyond loopback a listener needs a token.
    let tokens = setup.namespace.as_ref().map_or_else(String::new, |_| {
        format!("[[ingest.tokens]]\ntoken = \"{TOKEN}\"\n[[feed.tokens]]\ntoken = \"{TOKEN}\"\n")
    });
    format!(
        "[ingest]\nlisten = \"{ingest}\"\nheartbeat = \"1s\"\nmax_takeovers_per_minute = 10000\n\
         [feed]\nlisten = \"{feed}\"\n[http]\nlisten = \"{http}\"\n[archive]\n{}\n{}{tokens}{}{}",
        setup.archive,
        exports::keys(),
        reader::table(*output),
        links.collect::<String>()
    )
}

/// The names of the segments in an archive, oldest first.
pub fn segments(archive_dir: &Path) -> Vec<String> {
    let mut names = names(archive_dir, ".seg");
    names.sort_unstable();
    names
}

/// The names in `dir` with this ending.
pub fn names(dir: &Path, ending: &str) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.ends_with(ending)).collect()
}
