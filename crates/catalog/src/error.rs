//! Why a text is no catalog, and why a catalog cannot be had.

use std::io;
use std::path::PathBuf;

use super::{NAME_BYTES_MAX, SETS_MAX, TEXT_BYTES_MAX};

/// Why a text is refused, as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The text is too long to be looked at.
    #[error("the text has {bytes} bytes, at most {TEXT_BYTES_MAX} are taken")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// A catalog of nothing would take away everybody's elements.
    #[error("the text holds no element set; a set is two lines that begin with 1 and 2")]
    NoSets,
    /// A line is wrong.
    #[error("line {line}: {what}{}", in_brackets(.satellite.as_deref()))]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong with it.
        what: Box<LineError>,
        /// The satellite's name or NORAD id, as far as it is known there.
        satellite: Option<String>,
    },
}

fn in_brackets(satellite: Option<&str>) -> String {
    satellite.map(|satellite| format!(" ({satellite})")).unwrap_or_default()
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Bytes that are no text.
    #[error("it is not UTF-8")]
    NotText,
    /// The name of a satellite is too long.
    #[error("a name of {bytes} bytes, at most {NAME_BYTES_MAX} are taken")]
    LongName {
        /// Its length.
        bytes: usize,
    },
    /// The name holds what would garble logs and screens.
    #[error("the name holds a control character, {character:?}")]
    ControlCharacter {
        /// The first one.
        character: char,
    },
    /// Another line belongs here.
    #[error("line {due} of an element set is due, which begins with \"{due} \", not {found:?}")]
    NotDue {
        /// 1 or 2.
        due: u8,
        /// How this one begins.
        found: String,
    },
    /// The text ends within a set.
    #[error("the text ends, but line {due} of the element set is due")]
    Unfinished {
        /// 1 or 2.
        due: u8,
    },
    /// Line 2 without its line 1.
    #[error("line 2 of an element set without its line 1")]
    NoLineOne,
    /// The line is too short or too long.
    #[error("{chars} characters, an element line has 69")]
    Length {
        /// How many it has.
        chars: usize,
    },
    /// A character that no element line has.
    #[error("{character:?} in column {column}, element lines are plain ASCII")]
    NotAscii {
        /// The character.
        character: char,
        /// Where, from 1.
        column: usize,
    },
    /// The last column holds no digit.
    #[error("the checksum in column 69 is {found:?}, expected {expected}")]
    NoChecksum {
        /// What is there.
        found: char,
        /// What the line adds up to.
        expected: u8,
    },
    /// The line adds up to something else.
    #[error("checksum is {found}, expected {expected}")]
    Checksum {
        /// What the line says.
        found: u8,
        /// What it adds up to.
        expected: u8,
    },
    /// A field holds no number.
    #[error("{field} is {found:?} (columns {} to {}), expected a number", columns.0, columns.1)]
    NoNumber {
        /// Its name.
        field: &'static str,
        /// What is there.
        found: String,
        /// Where, from 1, both included.
        columns: (usize, usize),
    },
    /// A number is beyond what the field can mean.
    #[error("{field} is {found} (columns {} to {}), allowed is {allowed}", columns.0, columns.1)]
    OutOfRange {
        /// Its name.
        field: &'static str,
        /// What is there.
        found: String,
        /// Where, from 1, both included.
        columns: (usize, usize),
        /// What would do.
        allowed: &'static str,
    },
    /// The two lines are not of one satellite.
    #[error("line 2 is of NORAD {found}, line 1 of NORAD {expected}")]
    OtherSatellite {
        /// Of line 2.
        found: String,
        /// Of line 1.
        expected: String,
    },
    /// The format has another fault.
    #[error("{0}")]
    Format(String),
    /// The elements describe no orbit.
    #[error("the elements cannot be propagated: {0}")]
    NoOrbit(String),
    /// A satellite is there twice.
    #[error("NORAD {norad_id} is in line {before} already")]
    Doubled {
        /// The satellite.
        norad_id: u64,
        /// Where its set begins.
        before: usize,
    },
    /// One set too many.
    #[error("more than {SETS_MAX} element sets")]
    TooMany,
}

/// Why a catalog cannot be had, or not be kept.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The text is refused.
    #[error(transparent)]
    Text(#[from] ParseError),
    /// The text of a file is refused.
    #[error("{}, {error}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        error: ParseError,
    },
    /// A file cannot be read.
    #[error("cannot read the catalog {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What was given cannot be kept for the next start, so it is not used either.
    #[error("cannot keep the catalog in {}: {source}", path.display())]
    Keep {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
