//! `demo`: prints the expected output of the RFC.

use std::process::ExitCode;

use super::{FAILED, fail, log};
use support::causes::with_causes;

pub(super) fn execute() -> ExitCode {
    log::init_demo();
    let ran = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(crate::demo::run()));
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(FAILED, format_args!("the demo failed: {}", with_causes(error.as_ref()))),
    }
}
