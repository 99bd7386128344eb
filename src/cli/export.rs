//! `export ls`: which exported segments are where.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::{BAD_USAGE, ConfigArgs, FAILED, fail};
use config::Config;
use export::listing::{self, LISTINGS, Listing};
use support::stdio;
use upload::{Store, StoreUrl};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the exported segments: offsets, frames, bytes, and whether they are in the directory and in the object storage.
    ///
    /// Reads the directory archive.export and the bucket export.store. Exit codes: 0 done, 1 the directory or the bucket
    /// cannot be read, 2 bad usage or configuration.
    Ls(LsArgs),
}

#[derive(Debug, Args)]
pub(super) struct LsArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// One JSON object for each segment instead of a table
    #[arg(long)]
    json: bool,
}

/// A segment of the list.
#[derive(Debug, Serialize)]
struct Row {
    from_offset: u64,
    to_offset: u64,
    frames: u64,
    bytes: u64,
    /// Whether its files are in the directory.
    local: bool,
    /// Whether its files are in the store. `None` without a store.
    stored: Option<bool>,
    /// When they were uploaded, unix milliseconds.
    uploaded_ms: Option<i64>,
}

pub(super) fn execute(command: &Command) -> ExitCode {
    let Command::Ls(args) = command;
    let config = match args.config.load() {
        Ok(loaded) => loaded.config,
        Err(error) => return fail(BAD_USAGE, error),
    };
    let Some(out) = &config.archive.export else {
        return fail(BAD_USAGE, "nothing is exported: archive.export is not set");
    };
    match ls(args, out, &config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(FAILED, format_args!("{error:#}")),
    }
}

fn ls(args: &LsArgs, out: &Path, config: &Config) -> anyhow::Result<()> {
    let mut listings = in_directory(out)?;
    let stored = match &config.export.store {
        Some(url) => Some(in_store(url, &mut listings)?),
        None => None,
    };
    let rows = listings.into_iter().map(|(base, (listing, is_local))| Row {
        from_offset: base,
        to_offset: listing.end,
        frames: listing.rows(),
        bytes: listing.bytes(),
        local: is_local && !listing.removed,
        stored: stored.as_ref().map(|stored| stored.contains(&base)),
        uploaded_ms: listing.uploaded.map(|uploaded| uploaded.at_ms),
    });
    let mut text = if args.json { String::new() } else { format!("{HEAD}\n") };
    for row in rows {
        text += &if args.json { serde_json::to_string(&row)? } else { row.to_string() };
        text.push('\n');
    }
    stdio::print(text).context("cannot write the output")
}

/// The listings of the export in the directory `out`.
fn in_directory(out: &Path) -> anyhow::Result<BTreeMap<u64, (Listing, bool)>> {
    let bases = listing::list(out).with_context(|| format!("cannot read {}", out.display()))?;
    let read = |base: u64| {
        let path: PathBuf = listing::path_of(out, base);
        let listing = listing::read(out, base);
        Ok((base, (listing.with_context(|| format!("cannot read {}", path.display()))?, true)))
    };
    bases.into_iter().map(read).collect()
}

/// The first offsets of the segments in the store. Adds those to `listings` that are nowhere else.
fn in_store(url: &StoreUrl, listings: &mut BTreeMap<u64, (Listing, bool)>) -> anyhow::Result<BTreeSet<u64>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = Store::open(url)?;
        let names = store.list(LISTINGS).await?;
        let stored: BTreeSet<u64> = names.iter().filter_map(|name| listing::base_of(name)).collect();
        for base in stored.iter().filter(|base| !listings.contains_key(base)).copied().collect::<Vec<_>>() {
            let path = listing::path_in(base);
            if let Some(json) = store.get(&path).await? {
                let listing = listing::parse(&json, base);
                listings.insert(base, (listing.with_context(|| format!("cannot read {url}/{path}"))?, false));
            }
        }
        Ok(stored)
    })
}

const HEAD: &str = "        FROM           TO       FRAMES        BYTES  LOCAL  STORED  UPLOADED";

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from_offset, to_offset, frames, bytes, local, stored, uploaded_ms } = self;
        let yes = |is: bool| if is { "yes" } else { "no" };
        let uploaded = uploaded_ms.map_or("-".to_owned(), |ms| {
            let since = Duration::from_millis(u64::try_from(ms).unwrap_or(0));
            humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
        });
        let (local, stored) = (yes(*local), stored.map_or("-", yes));
        write!(
            f,
            "{from_offset:>12} {to_offset:>12} {frames:>12} {bytes:>12}  {local:5}  {stored:6}  {uploaded}"
        )
    }
}
