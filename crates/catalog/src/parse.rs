//! Parses TLE text into element sets.

use std::collections::HashMap;

use sgp4::{Constants, Elements, MinutesSinceEpoch};

use super::element_line;
use super::error::{LineError, ParseError};
use super::{NAME_BYTES_MAX, SETS_MAX, TEXT_BYTES_MAX};

/// The mark that some editors write in front of UTF-8 text.
const BYTE_ORDER_MARK: &str = "\u{feff}";
/// How many characters of a line an error shows.
const SHOWN_CHARS: usize = 24;

/// The elements of one satellite.
#[derive(Clone, Debug, PartialEq)]
pub struct ElementSet {
    /// The title line, or `NORAD <id>` without a title line.
    pub name: Box<str>,
    /// Catalog number.
    pub norad_id: u64,
    /// The orbit at its epoch.
    pub elements: Elements,
}

/// Parses TLE text. It consists of sets of two lines. Each set may have a title line (`NAME` or `0 NAME`). Empty lines
/// and comments (`#`) may be between sets. Lines end with LF or CRLF.
///
/// # Errors
/// [`ParseError`] for the first error. Every set must be valid, must be propagatable and must occur only once.
pub fn parse(text: &[u8]) -> Result<Vec<ElementSet>, ParseError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(ParseError::TooLarge { bytes: text.len() });
    }
    let text = text.strip_prefix(BYTE_ORDER_MARK.as_bytes()).unwrap_or(text);
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let mut parser = Parser::default();
    let mut at = 0;
    for line in text.split(|byte| *byte == b'\n') {
        at += 1;
        if let Err(Fault { line_one, what, satellite }) = parser.take(at, line) {
            let satellite = satellite.or_else(|| parser.begun.satellite());
            return Err(ParseError::Line { line: line_one.unwrap_or(at), what: what.into(), satellite });
        }
    }
    parser.finish(at)
}

/// The lines of the current set so far.
#[derive(Clone, Copy, Default)]
enum Begun<'a> {
    /// None: the next line begins a set, or is between sets.
    #[default]
    Nothing,
    /// The name in the title line; line 1 is due.
    Title(&'a str),
    /// Line 1, whose form is right; line 2 is due.
    LineOne {
        /// The name, if there is a title line.
        title: Option<&'a str>,
        /// The number of line 1 in the text, from 1.
        at: usize,
        /// Line 1.
        line: &'a str,
    },
}

impl Begun<'_> {
    /// The satellite, as far as it is known so far.
    fn satellite(self) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::Title(title) | Self::LineOne { title: Some(title), .. } => Some(title.to_owned()),
            Self::LineOne { line, .. } => by_number(line),
        }
    }
}

fn by_number(line: &str) -> Option<String> {
    element_line::norad_columns(line).map(|id| format!("NORAD {id}"))
}

/// An error that shows when a line is read.
struct Fault {
    /// The number of the set's line 1 if that is the wrong one, and not the line that is read.
    line_one: Option<usize>,
    /// What is wrong.
    what: LineError,
    /// The satellite, if the line itself names it.
    satellite: Option<String>,
}

impl From<LineError> for Fault {
    fn from(what: LineError) -> Self {
        Self { line_one: None, what, satellite: None }
    }
}

impl Fault {
    fn of(satellite: Option<String>, what: LineError) -> Self {
        Self { satellite, ..what.into() }
    }
}

/// What was read of a text.
#[derive(Default)]
struct Parser<'a> {
    /// The set that is not complete.
    begun: Begun<'a>,
    /// The complete ones, in the order of the text.
    sets: Vec<ElementSet>,
    /// The number of line 1 of each satellite's set, by catalog number.
    lines: HashMap<u64, usize>,
}

impl<'a> Parser<'a> {
    /// Reads the next line, which is number `at` of the text, from 1.
    fn take(&mut self, at: usize, line: &'a [u8]) -> Result<(), Fault> {
        let line = str::from_utf8(line).map_err(|_| LineError::NotText)?.trim_end();
        self.begun = match self.begun {
            Begun::Nothing if line.trim_start().is_empty() || line.starts_with('#') => Begun::Nothing,
            Begun::Nothing if line.starts_with("2 ") => {
                return Err(Fault::of(by_number(line), LineError::NoLineOne));
            }
            Begun::Nothing if line.starts_with("1 ") => line_one(None, at, line)?,
            Begun::Nothing => Begun::Title(title(line)?),
            Begun::Title(title) if line.starts_with("1 ") => line_one(Some(title), at, line)?,
            Begun::Title(_) => return Err(not_due(1, line).into()),
            Begun::LineOne { title, at, line: one } if line.starts_with("2 ") => {
                self.complete(title, at, one, line)?;
                Begun::Nothing
            }
            Begun::LineOne { .. } => return Err(not_due(2, line).into()),
        };
        Ok(())
    }

    /// Appends the set of the lines `one`, which is number `at` of the text, and `two`.
    fn complete(&mut self, title: Option<&str>, at: usize, one: &str, two: &str) -> Result<(), Fault> {
        element_line::check(2, two)?;
        let set = element_set(title, one, two).map_err(|what| {
            // The errors of sgp4 name the line only in their text. If it changes, line 2 is named instead of line 1.
            let line_one = matches!(&what, LineError::Format(text) if text.contains("line 1")).then_some(at);
            Fault { line_one, ..what.into() }
        })?;
        if let Some(before) = self.lines.insert(set.norad_id, at) {
            return Err(LineError::Doubled { norad_id: set.norad_id, before }.into());
        }
        if self.sets.len() == SETS_MAX {
            return Err(LineError::TooMany.into());
        }
        self.sets.push(set);
        Ok(())
    }

    /// Ends the text, whose last line is number `at`.
    fn finish(mut self, at: usize) -> Result<Vec<ElementSet>, ParseError> {
        let due = match self.begun {
            Begun::Nothing if self.sets.is_empty() => return Err(ParseError::NoSets),
            Begun::Nothing => {
                self.sets.shrink_to_fit();
                return Ok(self.sets);
            }
            Begun::Title(_) => 1,
            Begun::LineOne { .. } => 2,
        };
        let satellite = self.begun.satellite();
        Err(ParseError::Line { line: at, what: LineError::Unfinished { due }.into(), satellite })
    }
}

fn title(line: &str) -> Result<&str, LineError> {
    let name = line.strip_prefix("0 ").unwrap_or(line).trim();
    if let Some(character) = name.chars().find(|character| character.is_control()) {
        return Err(LineError::ControlCharacter { character });
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(LineError::LongName { bytes: name.len() });
    }
    Ok(name)
}

fn line_one<'a>(title: Option<&'a str>, at: usize, line: &'a str) -> Result<Begun<'a>, Fault> {
    let satellite = || title.map(str::to_owned).or_else(|| by_number(line));
    element_line::check(1, line).map_err(|what| Fault::of(satellite(), what))?;
    Ok(Begun::LineOne { title, at, line })
}

fn not_due(due: u8, line: &str) -> LineError {
    LineError::NotDue { due, found: line.chars().take(SHOWN_CHARS).collect() }
}

/// Builds a set from two lines that are valid on their own.
fn element_set(title: Option<&str>, one: &str, two: &str) -> Result<ElementSet, LineError> {
    let [id_one, id_two] = [one, two].map(|line| element_line::norad_columns(line).unwrap_or_default());
    // One id may be padded with zeros and the other with spaces.
    if id_one.trim_start_matches('0') != id_two.trim_start_matches('0') {
        return Err(LineError::OtherSatellite { found: id_two.to_owned(), expected: id_one.to_owned() });
    }
    let mut elements = Elements::from_tle(None, one.as_bytes(), two.as_bytes()).map_err(|error| {
        LineError::Format(error.to_string().to_lowercase().replace("tle parse error: ", ""))
    })?;
    // This field is not used, and it would take memory for every set.
    elements.international_designator = None;
    check_orbit(&elements).map_err(LineError::NoOrbit)?;
    let norad_id = elements.norad_id;
    let name = match title {
        Some(title) if !title.is_empty() => title.into(),
        _ => format!("NORAD {norad_id}").into(),
    };
    Ok(ElementSet { name, norad_id, elements })
}

/// Checks that SGP4 takes the elements and computes a finite position and velocity at their epoch.
fn check_orbit(elements: &Elements) -> Result<(), String> {
    let constants =
        Constants::from_elements_afspc_compatibility_mode(elements).map_err(|error| error.to_string())?;
    let at_epoch = constants
        .propagate_afspc_compatibility_mode(MinutesSinceEpoch(0.0))
        .map_err(|error| error.to_string())?;
    if at_epoch.position.iter().chain(&at_epoch.velocity).all(|value| value.is_finite()) {
        Ok(())
    } else {
        Err("they lead to no position".to_owned())
    }
}
