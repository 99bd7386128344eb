//! A configuration under construction: the values, where each was set, and all problems.

use std::collections::{BTreeMap, BTreeSet};

use super::Config;
use super::error::{ConfigError, Location, Problem};
use super::keys::{LINKS, OUTPUTS};
use super::token_files::Purpose;

/// At most this many problems are reported. A file with more is not a configuration.
pub(super) const PROBLEMS_MAX: usize = 100;

/// Values, their locations and the problems found so far.
#[derive(Default)]
pub(super) struct Draft {
    /// Defaults, overwritten by the values of the file and of the variables.
    pub(super) config: Config,
    /// Where each key was set, by its path. A key that is missing here has its default.
    pub(super) locations: BTreeMap<String, Location>,
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

impl Draft {
    /// A draft of a configuration that was not read from a text.
    pub(super) fn of(config: Config) -> Self {
        let keys = |name: &str, count: usize| (0..count).map(|index| format!("{name}[{index}]")).collect();
        let link_keys = keys(LINKS, config.links.len());
        let output_keys = keys(OUTPUTS, config.outputs.len());
        Self { config, link_keys, output_keys, ..Self::default() }
    }

    /// Adds a problem. Later checks across keys ignore `key` and the list that contains it.
    pub(super) fn problem(&mut self, location: Location, key: &str, what: impl Into<String>) {
        let outermost = key.split('[').next().unwrap_or(key);
        self.failed.insert(outermost.to_owned());
        self.problems.push(Problem { location, key: key.to_owned(), what: what.into() });
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
        let set = keys.iter().find(|key| self.locations.contains_key(**key));
        let culprit = set.or(keys.first()).copied().unwrap_or_default();
        let (location, key) = (self.location(culprit), culprit.to_owned());
        self.problems.push(Problem { location, key, what: what.into() });
    }

    /// Adds a conflict of `key`, which is in a table of a list. Its location is that of the key, or of the innermost
    /// table around it if the key was not set.
    pub(super) fn conflict_in_table(&mut self, key: String, what: impl Into<String>) {
        let mut set = key.as_str();
        while let (false, Some((table, _))) = (self.locations.contains_key(set), set.rsplit_once('.')) {
            set = table;
        }
        self.problems.push(Problem { location: self.location(set), what: what.into(), key });
    }

    /// Whether `key`, or a part of the list of this name, has its own problem.
    pub(super) fn has_failed(&self, key: &str) -> bool {
        self.failed.contains(key)
    }

    /// The location where `key` was set.
    pub(super) fn location(&self, key: &str) -> Location {
        self.locations.get(key).cloned().unwrap_or(Location::Default)
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
