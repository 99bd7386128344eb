//! `archive`: what is in an archive directory.

use std::io::{BufWriter, stdout};
use std::process::ExitCode;

use super::{BAD_USAGE, FAILED, fail};
use crate::archive::cli::{Command, CommandError, run};

pub(super) fn execute(command: &Command) -> ExitCode {
    match run(command, &mut BufWriter::new(stdout().lock())) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error @ CommandError::Filter(_)) => fail(BAD_USAGE, error),
        Err(error) => fail(FAILED, error),
    }
}
