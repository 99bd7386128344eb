//! Where values were written: which text a span belongs to, and its line and column.

use std::ops::Range;
use std::path::Path;

use super::error::Location;

/// The file and the environment variables that values are read from.
///
/// Each variable has a span of its own behind the end of the file's text, so that one span says where a value comes
/// from.
pub(super) struct Origins<'a> {
    /// The name of the file as it goes into messages, and its content.
    pub(super) file: (&'a Path, &'a str),
    /// The names of the variables.
    pub(super) variables: Vec<String>,
}

impl Origins<'_> {
    /// The span of the variable at `index`.
    pub(super) fn variable_span(&self, index: usize) -> Range<usize> {
        let start = self.file.1.len() + 1 + index;
        start..start + 1
    }

    /// Where `span` begins.
    pub(super) fn location(&self, span: &Range<usize>) -> Location {
        let (path, text) = self.file;
        let variable = span.start.checked_sub(text.len() + 1).and_then(|index| self.variables.get(index));
        if let Some(name) = variable {
            return Location::Variable(name.clone());
        }
        let before = text.get(..span.start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Location::File {
            path: path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}
