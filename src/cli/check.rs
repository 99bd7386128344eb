//! `check`: is this configuration good, with the files it names, and what does it say in full.

use std::process::ExitCode;

use super::{BAD_USAGE, ConfigArgs, fail};
use crate::catalog::CatalogStore;

#[allow(clippy::print_stdout, clippy::print_stderr, reason = "command output")]
pub(super) fn execute(args: &ConfigArgs) -> ExitCode {
    match args.load() {
        Ok(loaded) => {
            if let Some(Err(error)) = loaded.config.catalog.file.as_deref().map(CatalogStore::check) {
                return fail(BAD_USAGE, format_args!("{error} (catalog.file)"));
            }
            for warning in &loaded.warnings {
                eprintln!("warning: {warning}");
            }
            print!("{}", loaded.config.to_toml());
            ExitCode::SUCCESS
        }
        Err(error) => fail(BAD_USAGE, error),
    }
}
