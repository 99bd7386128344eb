//! A configuration in the making: values so far, where each was set, and all that is wrong.

use std::collections::{BTreeMap, BTreeSet};

use super::Config;
use super::error::{ConfigError, Place, Problem};
use super::keys::keys;
use super::setting::Raw;
use super::token_draft::TokenDraft;

/// Most problems that are reported; beyond it the file is something else than a configuration.
pub(super) const PROBLEMS_MAX: usize = 100;

/// Values, their origins and the problems found so far.
#[derive(Default)]
pub(super) struct Draft {
    /// Defaults, overwritten by what was read.
    pub(super) config: Config,
    /// `[[ingest.tokens]]` before their files are read.
    pub(super) ingest_tokens: Vec<TokenDraft>,
    /// `[[feed.tokens]]` before their files are read.
    pub(super) feed_tokens: Vec<TokenDraft>,
    /// What works but deserves a look.
    pub(super) warnings: Vec<String>,
    /// What is not there yet and comes with the start.
    pub(super) notes: Vec<String>,
    /// Whether what comes with the start may be missing.
    pub(super) is_before_start: bool,
    problems: Vec<Problem>,
    places: BTreeMap<String, Place>,
    failed: BTreeSet<String>,
}

impl Draft {
    /// Sets the key `path`, which must be one of [`keys`], or notes why that is not possible.
    pub(super) fn set(&mut self, path: &str, raw: &Raw<'_>, place: Place) {
        let set =
            keys(&mut self.config).iter_mut().find(|key| key.path() == path).map(|key| key.setting.set(raw));
        match set {
            Some(Ok(())) => {
                self.places.insert(path.to_owned(), place);
            }
            Some(Err(what)) => self.problem(place, path, what),
            None => self.problem(place, path, "unknown key"),
        }
    }

    /// Notes a problem. Checks across keys leave out `key` from here on, and the list if it lies in one.
    pub(super) fn problem(&mut self, place: Place, key: &str, what: impl Into<String>) {
        let outermost = key.split('[').next().unwrap_or(key);
        self.failed.insert(outermost.to_owned());
        self.problems.push(Problem { place, key: key.to_owned(), what: what.into() });
    }

    /// Whether so much is wrong that no more is looked for.
    pub(super) fn is_full(&self) -> bool {
        self.problems.len() >= PROBLEMS_MAX
    }

    /// Notes a conflict between `keys`, the likeliest culprit first: it is blamed on the first one that
    /// was set. Nothing is noted when one of them is wrong by itself, since then its value is not known.
    pub(super) fn conflict(&mut self, keys: &[&str], what: impl Into<String>) {
        if keys.iter().any(|key| self.failed.contains(*key)) {
            return;
        }
        let culprit = keys
            .iter()
            .find(|key| self.places.contains_key(**key))
            .or(keys.first())
            .copied()
            .unwrap_or_default();
        self.problems.push(Problem {
            place: self.place(culprit),
            key: culprit.to_owned(),
            what: what.into(),
        });
    }

    /// Where `key` was set.
    pub(super) fn place(&self, key: &str) -> Place {
        self.places.get(key).cloned().unwrap_or(Place::Default)
    }

    /// The configuration and its warnings, or all problems in order.
    pub(super) fn finish(mut self) -> Result<(Config, Vec<String>), ConfigError> {
        if self.problems.is_empty() {
            return Ok((self.config, self.warnings));
        }
        self.problems.sort();
        Err(ConfigError::Invalid(self.problems))
    }

    /// The configuration for who looks at `key` alone: what is wrong with another key does not matter.
    pub(super) fn finish_for(self, key: &str) -> Result<Config, ConfigError> {
        // What is wrong without a key is wrong with the file as a whole.
        if ["", key].iter().any(|key| self.failed.contains(*key)) {
            return self.finish().map(|(config, _)| config);
        }
        Ok(self.config)
    }
}
