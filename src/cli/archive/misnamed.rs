//! Reports segments with wrong names, for commands that write frames.

use super::CommandError;
use archive::Misnamed;
use support::stdio;

/// Names each segment in `found` on stderr.
///
/// # Errors
/// [`CommandError::Misnamed`] if one of them holds frames that are missing from the output.
pub(super) fn note(found: &[Misnamed]) -> Result<(), CommandError> {
    for one in found {
        stdio::note(format_args!("telemetry-aggregator: {}", one.explain()));
    }
    match found.iter().find(|one| !one.is_duplicate()) {
        Some(one) => Err(CommandError::Misnamed(one.segment.clone())),
        None => Ok(()),
    }
}
