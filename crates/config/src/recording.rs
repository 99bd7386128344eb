//! The rules by which a recording is read: those of a link, from the command line.

use std::path::Path;

use toml::{Table, Value};

use super::check::check_recording;
use super::draft::Draft;
use super::error::{ConfigError, Location, Problem};
use super::links::{Link, read};
use super::print;
use super::purpose::Purpose;

/// The keys of a link that a recording has no use for, and that a link must have.
const UNUSED: &str = "name = \"recording\"\nconnect = \"recording:1\"\n";

/// The options that say how a recording is read, as they were written. Each has the name of a key of a link.
#[derive(Clone, Debug, Default)]
pub struct RecordingOptions {
    /// Name and TOML value, in the order in which problems are reported.
    values: Vec<(&'static str, String)>,
}

impl RecordingOptions {
    /// Adds a table with a `kind`: `{ kind = "cadu", length = 1024 }`, or `cadu, length = 1024`, or `packet`.
    #[must_use]
    pub fn kind(self, name: &'static str, text: &str) -> Self {
        let text = text.trim();
        if text.starts_with('{') {
            return self.add(name, text.to_owned());
        }
        let (kind, keys) = text.split_once(',').unwrap_or((text, ""));
        let comma = if keys.trim().is_empty() { "" } else { "," };
        self.add(name, format!("{{ kind = {}{comma}{keys} }}", Value::from(kind.trim())))
    }

    /// Adds a list: `[1, 2]`, or `1, 2`.
    #[must_use]
    pub fn list(self, name: &'static str, text: &str) -> Self {
        let text = text.trim();
        let is_list = text.starts_with('[');
        self.add(name, if is_list { text.to_owned() } else { format!("[{text}]") })
    }

    /// Adds a text or an integer.
    #[must_use]
    pub fn value(self, name: &'static str, text: &str) -> Self {
        let integer = text.parse::<i64>().map(|integer| integer.to_string());
        self.add(name, integer.unwrap_or_else(|_| Value::from(text).to_string()))
    }

    /// Adds a text.
    #[must_use]
    pub fn text(self, name: &'static str, text: &str) -> Self {
        self.add(name, Value::from(text).to_string())
    }

    fn add(mut self, name: &'static str, toml: String) -> Self {
        // A line holds one option, so that an error of TOML is that of one option.
        self.values.push((name, toml.replace(['\r', '\n'], " ")));
        self
    }

    /// Reads the rules with the code that reads the links of the file. The result has no transport.
    ///
    /// # Errors
    /// One line per problem, each with the name of its option.
    pub fn read(&self) -> Result<Link, Vec<String>> {
        let lines = self.values.iter().map(|(name, toml)| format!("{name} = {toml}\n"));
        let text = lines.collect::<String>() + UNUSED;
        let mut draft = Draft::of_file(Some((Path::new(""), &text)), Purpose::Run);
        // The daemon that gets the frames has its own limit.
        draft.config.ingest.max_message = u32::MAX.into();
        let mut root = draft.parse();
        root.note(&mut draft.written);
        let is_toml = draft.problem_count() == 0;
        let link =
            is_toml.then(|| read(&mut draft, &mut root)).flatten().filter(|_| draft.problem_count() == 0);
        if let Some(link) = &link {
            check_recording(&mut draft, link);
        }
        match (draft.finish(), link) {
            (Ok(_), Some(link)) => Ok(link),
            (Err(ConfigError::Invalid(problems)), _) => {
                Err(problems.iter().map(|problem| self.explain(problem)).collect())
            }
            (Ok(_), None) | (Err(ConfigError::Read { .. }), _) => {
                unreachable!("rules without a problem are a link")
            }
        }
    }

    /// The problem, with the name of its option.
    fn explain(&self, Problem { location, key, what }: &Problem) -> String {
        let line = match location {
            Location::File { line, .. } => self.values.get(line - 1).map(|(name, _)| *name),
            Location::Variable(_) | Location::Default => None,
        };
        let name = key.split(['.', '[']).next().filter(|name| !name.is_empty()).or(line).unwrap_or_default();
        let option = name.replace('_', "-");
        if key.is_empty() || key == name {
            format!("--{option}: {what}")
        } else {
            format!("--{option}: {key}: {what}")
        }
    }
}

impl Link {
    /// A checksum of all values. Links that differ have different ones, most likely.
    #[must_use]
    pub fn checksum(&self) -> u32 {
        let table = Table::try_from(self).expect("every value of a link has a form in TOML");
        let lines = print::lines(&table).into_iter().map(|(key, value)| format!("{key} = {value}\n"));
        crc32c::crc32c(lines.collect::<String>().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LinkSource;
    use framing::{Cadu, Framing, packet::PACKET_BYTES_MAX};

    fn problems(options: RecordingOptions) -> String {
        options.read().unwrap_err().join("\n")
    }

    #[test]
    fn a_table_can_be_written_as_in_the_file_or_short() {
        for text in ["{ kind = \"cadu\", length = 1024, strip = 128 }", "cadu, length = 1024, strip = 128"] {
            let link = RecordingOptions::default().kind("framing", text).value("source", "7").read().unwrap();
            assert_eq!(
                link.framing,
                Framing::Cadu(Cadu { length: 1_024, strip: 128, ..Cadu::default() }),
                "{text}"
            );
            assert_eq!(link.source, LinkSource::Fixed(7));
        }
        let link =
            RecordingOptions::default().kind("framing", "packet").value("source", "apid").read().unwrap();
        assert_eq!(link.framing, Framing::Packet { max: PACKET_BYTES_MAX });
    }

    #[test]
    fn lists_can_be_written_with_or_without_brackets() {
        let options = |list: &str, rules: &str| {
            let options =
                RecordingOptions::default().kind("framing", "fixed, length = 892").kind("decode", "aos");
            options.list("spacecraft", list).list("emergency", rules).read().unwrap()
        };
        let rule = "{ vcid = [16] }";
        let link = options("157, 3", rule);
        assert_eq!(link.spacecraft, [3, 157].into());
        assert_eq!(link, options("[157, 3]", &format!("[{rule}]")));
    }

    #[test]
    fn problems_name_the_option_and_say_what_the_configuration_says() {
        let options = RecordingOptions::default();
        assert_eq!(
            problems(options.clone().kind("framing", "cadu").value("source", "7")),
            "--framing: framing.length: is missing: expected the bytes of a unit, marker and check symbols included"
        );
        let found = problems(options.clone().kind("framing", "cadu, lenght = 5").value("idle", "no"));
        assert!(found.contains("--framing: framing.lenght: unknown key, did you mean length?"), "{found}");
        assert!(found.contains("--idle: "), "{found}");
        let found = problems(options.clone().value("source", "7").kind("framing", "cadu, length = = 5"));
        assert!(found.starts_with("--framing: not valid TOML: "), "{found}");
        let packets = options.kind("framing", "packet");
        let found = problems(packets.clone());
        assert!(found.starts_with("--source: \"scid\" takes frames that name their spacecraft"), "{found}");
        let found = problems(packets.value("source", "1").list("emergency", "{ vcid = [3] }"));
        assert!(found.starts_with("--emergency: a rule with vcid takes frames"), "{found}");
        let found = problems(RecordingOptions::default().kind("framing", "datagram").value("source", "1"));
        assert!(found.starts_with("--framing: a recording has no datagrams"), "{found}");
    }
}
