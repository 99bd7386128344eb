//! A configuration under construction: the texts, the values that were read from them, and all problems.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::de::DeserializeOwned;
use toml::de::DeTable;

use super::Config;
use super::error::{ConfigError, Location, Problem};
use super::purpose::Purpose;
use super::tree::{Node, Origin, path};

/// At most this many problems are reported. A file with more is not a configuration.
pub(super) const PROBLEMS_MAX: usize = 100;

/// The values, where they were written, and the problems found so far.
#[derive(Default)]
pub(super) struct Draft<'t> {
    /// The name of the file for messages, and its content.
    pub(super) file: Option<(&'t Path, &'t str)>,
    /// Defaults, overwritten by the values of the file and of the variables.
    pub(super) config: Config,
    /// Where each key was written, by its path. A key that is missing here has its default.
    pub(super) written: BTreeMap<String, Origin>,
    /// The names at the top of the file.
    pub(super) names: BTreeSet<String>,
    /// The key of each link in the file, such as `links[0]`. Links with problems are missing.
    pub(super) link_keys: Vec<String>,
    /// The key of each output in the file.
    pub(super) output_keys: Vec<String>,
    /// Warnings about values that are allowed.
    pub(super) warnings: Vec<String>,
    /// Notes about files that are missing and will be there at the start.
    pub(super) notes: Vec<String>,
    /// What the configuration is loaded for.
    pub(super) purpose: Purpose,
    problems: Vec<Problem>,
    failed: BTreeSet<String>,
}

impl<'t> Draft<'t> {
    /// A draft of a configuration that was not read from a text.
    pub(super) fn of(config: Config) -> Self {
        let keys = |name: &str, count: usize| (0..count).map(|index| format!("{name}[{index}]")).collect();
        let link_keys = keys("links", config.links.len());
        let output_keys = keys("outputs", config.outputs.len());
        Self { config, link_keys, output_keys, ..Self::default() }
    }

    /// A draft of the text of this `file`.
    pub(super) fn of_file(file: Option<(&'t Path, &'t str)>, purpose: Purpose) -> Self {
        Self { file, purpose, ..Self::default() }
    }

    /// The tables of the file. Text that is not TOML is reported, and none of it is used, because the parser's guess at
    /// the rest would mislead.
    pub(super) fn parse(&mut self) -> Node {
        let text = self.file.map_or("", |(_, text)| text);
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in errors.iter().take(PROBLEMS_MAX) {
            let message = error.message().trim().replace('\n', ", ");
            let at = Origin::File(error.span().unwrap_or_default().start);
            self.problem_at(&at, "", format!("not valid TOML: {message}"));
        }
        if errors.is_empty() { Node::root(root.get_ref()) } else { Node::root(&DeTable::new()) }
    }

    /// Reads `node`. Reports each wrong key or value and reads the rest without it, so that one error does not hide the
    /// next. Returns `None` if the rest is no value.
    ///
    /// An error of a table from which something was removed may be a consequence. It is not reported.
    pub(super) fn read<T: DeserializeOwned>(&mut self, node: &mut Node) -> Option<T> {
        let mut reduced = BTreeSet::new();
        loop {
            let error = match T::deserialize(&*node) {
                Ok(value) => return Some(value),
                Err(error) => error.at(node),
            };
            let place = error.place.filter(|_| !self.is_full())?;
            if !reduced.contains(&place.culprit) {
                self.problem_at(&place.at, &place.key, error.what);
            }
            reduced.insert(node.remove(&place.culprit)?);
        }
    }

    /// Reads `node` like [`Draft::read`]. Returns `None` if there is any problem.
    pub(super) fn read_whole<T: DeserializeOwned>(&mut self, node: &mut Node) -> Option<T> {
        let problems = self.problem_count();
        self.read(node).filter(|_| self.problem_count() == problems)
    }

    /// Adds a problem with the value that was written `at` a place. Later checks across keys ignore `key` and the list
    /// that contains it.
    pub(super) fn problem_at(&mut self, at: &Origin, key: &str, what: impl Into<String>) {
        let outermost = key.split('[').next().unwrap_or(key);
        self.failed.insert(outermost.to_owned());
        self.problems.push(Problem { location: self.locate(at), key: key.to_owned(), what: what.into() });
    }

    /// Adds a problem with the value of `key`. Later checks across keys ignore it.
    pub(super) fn problem(&mut self, key: &str, what: impl Into<String>) {
        self.conflict_in_table(key.to_owned(), what);
        self.failed.insert(key.split('[').next().unwrap_or(key).to_owned());
    }

    /// How many problems there are.
    pub(super) fn problem_count(&self) -> usize {
        self.problems.len()
    }

    /// Whether the limit of problems is reached and the search ends.
    pub(super) fn is_full(&self) -> bool {
        self.problems.len() >= PROBLEMS_MAX
    }

    /// Adds a conflict between `keys`, the most likely cause first. The problem names the first of them that was set.
    /// It adds nothing if one of them has its own problem, because its value is not known then.
    pub(super) fn conflict(&mut self, keys: &[&str], what: impl Into<String>) {
        if keys.iter().any(|key| self.failed.contains(*key)) {
            return;
        }
        let set = keys.iter().find(|key| self.written.contains_key(**key));
        let key = set.or(keys.first()).copied().unwrap_or_default().to_owned();
        self.conflict_in_table(key, what);
    }

    /// Adds a conflict of `key`, which is in a table of a list. Its location is that of the key, or of the innermost
    /// table around it if the key was not set.
    pub(super) fn conflict_in_table(&mut self, key: String, what: impl Into<String>) {
        let mut set = key.as_str();
        while let (false, Some((table, _))) = (self.written.contains_key(set), set.rsplit_once('.')) {
            set = table;
        }
        let location = self.written.get(set).map_or(Location::Default, |at| self.locate(at));
        self.problems.push(Problem { location, what: what.into(), key });
    }

    /// Whether the key `name` of `table` was written.
    pub(super) fn is_written(&self, table: &str, name: &str) -> bool {
        self.written.contains_key(&path(table, name))
    }

    /// Whether `key`, or a part of the list of this name, has its own problem.
    pub(super) fn has_failed(&self, key: &str) -> bool {
        self.failed.contains(key)
    }

    fn locate(&self, at: &Origin) -> Location {
        let start = match at {
            Origin::Variable(name) => return Location::Variable(name.clone()),
            Origin::File(start) => *start,
        };
        let Some((path, text)) = self.file else { return Location::Default };
        let before = text.get(..start).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Location::File {
            path: path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    /// The configuration and its warnings, or all problems in order.
    pub(super) fn finish(mut self) -> Result<(Config, Vec<String>), ConfigError> {
        if self.problems.is_empty() {
            return Ok((self.config, self.warnings));
        }
        self.problems.sort();
        Err(ConfigError::Invalid(self.problems))
    }

    /// The configuration for a caller that needs only `key`. Problems with other keys do not matter.
    pub(super) fn finish_for(self, key: &str) -> Result<Config, ConfigError> {
        // A problem without a key concerns the whole file.
        if ["", key].iter().any(|key| self.failed.contains(*key)) {
            return self.finish().map(|(config, _)| config);
        }
        Ok(self.config)
    }
}
