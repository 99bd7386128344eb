//! The location of a value: the text that a span belongs to, with line and column.

use std::ops::Range;
use std::path::Path;

use super::error::Location;

/// The file and the environment variables that hold the values.
///
/// Each variable has its own span behind the end of the file's text. So a span alone identifies the source of a value.
pub(super) struct Origins<'a> {
    /// The name of the file for messages, and its content.
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

    /// The location where `span` begins.
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
