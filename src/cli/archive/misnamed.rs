//! Reports segments with wrong names, for commands that write frames.

use super::CommandError;
use archive::Misnamed;

/// Names each segment in `found` on stderr.
///
/// # Errors
/// [`CommandError::Misnamed`] if one of them holds frames that are missing from the output.
#[allow(clippy::print_stderr, reason = "command output")]
pub(super) fn note(found: &[Misnamed]) -> Result<(), CommandError> {
    for one in found {
        eprintln!("telemetry-aggregator: {}", one.explain());
    }
    match found.iter().find(|one| !one.is_duplicate()) {
        Some(one) => Err(CommandError::Misnamed(one.segment.clone())),
        None => Ok(()),
    }
}
