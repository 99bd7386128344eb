//! Why a text is not a catalog, and why a catalog cannot be loaded or kept.

use std::io;
use std::path::PathBuf;

use super::{NAME_BYTES_MAX, SETS_MAX, TEXT_BYTES_MAX};

/// Why a text is refused. A text is always refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The text is too long to be parsed.
    #[error("the text has {bytes} bytes, at most {TEXT_BYTES_MAX} are taken")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// The text has no element set. An empty catalog would remove the elements of all satellites.
    #[error("the text holds no element set; a set is two lines that begin with 1 and 2")]
    NoSets,
    /// A line is wrong.
    #[error("line {line}: {what}{}", in_brackets(.satellite.as_deref()))]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        what: Box<LineError>,
        /// The satellite's name or NORAD id, as far as it is known at this line.
        satellite: Option<String>,
    },
}

fn in_brackets(satellite: Option<&str>) -> String {
    satellite.map(|satellite| format!(" ({satellite})")).unwrap_or_default()
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// The bytes are not UTF-8.
    #[error("it is not UTF-8")]
    NotText,
    /// The name of a satellite is too long.
    #[error("a name of {bytes} bytes, at most {NAME_BYTES_MAX} are taken")]
    LongName {
        /// Its length.
        bytes: usize,
    },
    /// The name holds a control character, which would garble logs and screens.
    #[error("the name holds a control character, {character:?}")]
    ControlCharacter {
        /// The first one.
        character: char,
    },
    /// Another line is expected here.
    #[error("line {due} of an element set is due, which begins with \"{due} \", not {found:?}")]
    NotDue {
        /// The expected line, 1 or 2.
        due: u8,
        /// The start of the line found.
        found: String,
    },
    /// The text ends within a set.
    #[error("the text ends, but line {due} of the element set is due")]
    Unfinished {
        /// The missing line, 1 or 2.
        due: u8,
    },
    /// Line 2 without its line 1.
    #[error("line 2 of an element set without its line 1")]
    NoLineOne,
    /// The line is too short or too long.
    #[error("{chars} characters, an element line has 69")]
    Length {
        /// The number of its characters.
        chars: usize,
    },
    /// The line holds a character that no element line has.
    #[error("{character:?} in column {column}, element lines are plain ASCII")]
    NotAscii {
        /// The character.
        character: char,
        /// Its column, from 1.
        column: usize,
    },
    /// The last column holds no digit.
    #[error("the checksum in column 69 is {found:?}, expected {expected}")]
    NoChecksum {
        /// The character found.
        found: char,
        /// The checksum of the line.
        expected: u8,
    },
    /// The checksum is wrong.
    #[error("checksum is {found}, expected {expected}")]
    Checksum {
        /// The checksum in the line.
        found: u8,
        /// The computed checksum.
        expected: u8,
    },
    /// A field holds no number.
    #[error("{field} is {found:?} (columns {} to {}), expected a number", columns.0, columns.1)]
    NoNumber {
        /// The name of the field.
        field: &'static str,
        /// The text found.
        found: String,
        /// First and last column, from 1.
        columns: (usize, usize),
    },
    /// A number is outside the range of the field.
    #[error("{field} is {found} (columns {} to {}), allowed is {allowed}", columns.0, columns.1)]
    OutOfRange {
        /// The name of the field.
        field: &'static str,
        /// The text found.
        found: String,
        /// First and last column, from 1.
        columns: (usize, usize),
        /// The allowed values.
        allowed: &'static str,
    },
    /// The two lines are of different satellites.
    #[error("line 2 is of NORAD {found}, line 1 of NORAD {expected}")]
    OtherSatellite {
        /// The NORAD id of line 2.
        found: String,
        /// The NORAD id of line 1.
        expected: String,
    },
    /// An error that only `sgp4` finds, in its words; it reads the lines after our checks of them.
    #[error("{0}")]
    Format(String),
    /// The elements describe no orbit; the reason is in the words of `sgp4`.
    #[error("the elements cannot be propagated: {0}")]
    NoOrbit(String),
    /// A satellite occurs twice.
    #[error("NORAD {norad_id} is in line {before} already")]
    Doubled {
        /// The satellite.
        norad_id: u64,
        /// The line where its first set begins.
        before: usize,
    },
    /// The text has too many sets.
    #[error("more than {SETS_MAX} element sets")]
    TooMany,
}

/// Why a catalog cannot be loaded or kept.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The text is refused.
    #[error(transparent)]
    Text(#[from] ParseError),
    /// The text of a file is refused. The error in the text is part of the message, so it is no `source`.
    #[error("{}, {error}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// The error in the text.
        error: ParseError,
    },
    /// A file cannot be read.
    #[error("cannot read the catalog {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the file system.
        source: io::Error,
    },
    /// The catalog cannot be stored for the next start. So it is not used either: a restart would undo it unnoticed.
    #[error("cannot keep the catalog in {}: {source}", path.display())]
    Keep {
        /// The file.
        path: PathBuf,
        /// The error of the file system.
        source: io::Error,
    },
}
