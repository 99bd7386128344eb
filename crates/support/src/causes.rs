//! An error with its causes, in one line.

use std::error::Error;

/// Joins `error` and its causes with colons. It leaves out a cause whose text is already in the line, because many
/// errors repeat their cause.
#[must_use]
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = error.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open it: {0}")]
    struct Repeating(#[source] std::io::Error);

    #[test]
    fn each_cause_is_printed_once() {
        let cause = || std::io::Error::other("no such thing");
        let repeating: anyhow::Result<()> = Err(Repeating(cause()).into());
        let error = repeating.context("not started").unwrap_err();
        assert_eq!(with_causes(error.as_ref()), "not started: cannot open it: no such thing");
        let silent: Result<(), _> = Err(cause());
        let error = silent.context("not started").unwrap_err();
        assert_eq!(with_causes(error.as_ref()), "not started: no such thing");
    }
}
