//! `check`: checks a configuration and the files that it names, and prints it in full.

use std::io;
use std::process::ExitCode;

use super::preflight::{can_hold_the_archive, preflight};
use super::{BAD_USAGE, ConfigArgs, fail};
use config::{Config, environment};
use support::causes::with_causes;
use support::stdio::{Report, note};

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
    for line in &loaded.notes {
        note(format_args!("note: {line}"));
    }
    for warning in loaded.warnings.iter().chain(&warnings) {
        note(format_args!("warning: {warning}"));
    }
    Report::on_stdout().print(loaded.config.to_toml());
    ExitCode::SUCCESS
}
