//! `check`: is this configuration good, and what does it say in full.

use std::process::ExitCode;

use super::{BAD_USAGE, ConfigArgs, fail};

#[allow(clippy::print_stdout, clippy::print_stderr, reason = "command output")]
pub(super) fn execute(args: &ConfigArgs) -> ExitCode {
    match args.load() {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                eprintln!("warning: {warning}");
            }
            print!("{}", loaded.config.to_toml());
            ExitCode::SUCCESS
        }
        Err(error) => fail(BAD_USAGE, error),
    }
}
