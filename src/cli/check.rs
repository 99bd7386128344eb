//! `check`: checks a configuration and the files that it names, and prints it in full.

use std::io::{self, Write as _};
use std::process::ExitCode;

use super::preflight::{can_hold_the_archive, preflight};
use super::{BAD_USAGE, ConfigArgs, FAILED, fail};
use config::{Config, environment};
use support::causes::with_causes;

#[allow(clippy::print_stderr, reason = "command output")]
pub(super) fn execute(args: &ConfigArgs) -> ExitCode {
    let loaded = match Config::load_before_start(args.config.as_deref(), environment()) {
        Ok(loaded) => loaded,
        Err(error) => return fail(BAD_USAGE, error),
    };
    let mut warnings = match preflight(&loaded.config) {
        Ok(warnings) => warnings,
        Err(error) => return fail(BAD_USAGE, with_causes(error.as_ref())),
    };
    match can_hold_the_archive(&loaded.config) {
        Ok(()) => {}
        // The daemon may run as another user who has the permission.
        Err(error) if error.source.kind() == io::ErrorKind::PermissionDenied => {
            warnings.push(format!("{}; run check as the user of the daemon to be sure", with_causes(&error)));
        }
        Err(error) => return fail(BAD_USAGE, with_causes(&error)),
    }
    for note in &loaded.notes {
        eprintln!("note: {note}");
    }
    for warning in loaded.warnings.iter().chain(&warnings) {
        eprintln!("warning: {warning}");
    }
    match io::stdout().write_all(loaded.config.to_toml().as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(FAILED, format_args!("cannot write the output: {error}")),
    }
}
