//! SIGHUP: reads the configuration again and applies all keys that can change while the daemon runs.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::ConfigArgs;
use super::log::LevelSwitch;
use crate::daemon::Settings;
use catalog::CatalogStore;
use config::{Change, Changed, Config, ConfigError, Loaded, Mismatch, raise_open_file_limit};
use equipment::outputs::unused_cursors;

/// The outcome of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reloaded {
    /// The new configuration is in force, except for keys that need a restart.
    Applied {
        /// Number of keys that have changed.
        changed: usize,
        /// Number of keys that need a restart.
        waiting: usize,
    },
    /// The new configuration is invalid. Nothing has changed.
    Refused,
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Applied { changed, waiting: 0 } => write!(f, "{changed} keys have changed"),
            Self::Applied { changed, waiting } => {
                write!(f, "{changed} keys have changed, {waiting} wait for a restart")
            }
            Self::Refused => f.write_str("the configuration in force has not changed"),
        }
    }
}

/// What a reload needs.
pub(super) struct Reload {
    /// The arguments that selected the configuration at the start.
    pub(super) args: ConfigArgs,
    /// The file that the configuration in force was read from.
    pub(super) file: Option<PathBuf>,
    /// Whether that file has no key.
    pub(super) is_empty: bool,
    /// Where the new configuration comes into force.
    pub(super) settings: Arc<Settings>,
    /// Where the new catalog does.
    pub(super) catalog: Arc<CatalogStore>,
    /// Changes the level of the log.
    pub(super) level: LevelSwitch,
}

impl Reload {
    /// Reads the configuration again as at the start. Applies it, or reports its errors.
    ///
    /// # Cancel safety
    /// Cancel safe: if it is dropped before it returns, either nothing has changed, or everything is applied except the
    /// catalog.
    pub(super) async fn reload(&mut self) -> Reloaded {
        tracing::info!("SIGHUP: reading the configuration again");
        let args = self.args.clone();
        // Reading the files may take long. Meanwhile this task must still receive SIGTERM.
        let outcome = match tokio::task::spawn_blocking(move || args.load()).await {
            Ok(loaded) => self.take(loaded),
            Err(panic) => Err(vec![format!("reading the configuration panicked: {panic}")]),
        };
        match outcome {
            Ok(reloaded) => {
                self.note_unused_cursors().await;
                self.reload_catalog().await;
                reloaded
            }
            Err(problems) => {
                for problem in problems {
                    tracing::error!("{problem}");
                }
                tracing::error!("SIGHUP: the configuration in force has not changed");
                Reloaded::Refused
            }
        }
    }

    async fn note_unused_cursors(&self) {
        let config = self.settings.live().current();
        let unused = tokio::task::spawn_blocking(move || unused_cursors(&config)).await;
        unused.iter().flatten().for_each(|line| tracing::warn!("{line}"));
    }

    /// Reads the orbital elements again, even if `catalog.file` is the same, because the content of the file may
    /// differ.
    async fn reload_catalog(&self) {
        let Some(file) = self.settings.live().current().catalog.file.clone() else { return };
        let catalog = Arc::clone(&self.catalog);
        let read = tokio::task::spawn_blocking(move || catalog.reload_file(&file).map(|_| ()));
        match read.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the catalog in force has not changed"),
            Err(panic) => tracing::error!("reading the catalog panicked: {panic}"),
        }
    }

    /// Applies the loaded configuration, or returns the reasons why it cannot.
    fn take(&mut self, loaded: Result<Loaded, ConfigError>) -> Result<Reloaded, Vec<String>> {
        let loaded = loaded.map_err(|error| problems(&error))?;
        if let (Some(file), None) = (&self.file, &loaded.file) {
            let file = file.display();
            return Err(vec![format!(
                "{file} does not exist any more, and there is no other configuration file: restore it, or restart \
                 the daemon to use the defaults"
            )]);
        }
        let live = self.settings.live();
        if let (Some(file), Some(why)) = (&loaded.file, self.incomplete(&loaded, &live.current())) {
            return Err(vec![format!("{} {why}", file.display())]);
        }
        let change = Change::new(live.at_start(), &live.current(), &loaded.config).map_err(mismatch)?;
        let at_sockets = self.settings.validate(&change.config).map_err(|error| unfit(&error))?;
        raise_open_file_limit(change.config.open_files_needed()).map_err(|error| vec![error.to_string()])?;
        let is_empty = loaded.names.is_empty();
        let Loaded { file, overrides, mut warnings, .. } = loaded;
        let Change { config, changed, waiting, warnings: in_force } = change;
        for warning in in_force.into_iter().chain(at_sockets) {
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        for waiting in &waiting {
            tracing::warn!("{waiting}");
        }
        let outcome = Reloaded::Applied { changed: changed.len(), waiting: waiting.len() };
        let level = config.log.level;
        let say = || {
            let overrides = (!overrides.is_empty()).then(|| overrides.join(", "));
            let file = file.as_ref().map(|file| tracing::field::display(file.display()));
            if changed.is_empty() {
                tracing::info!(file, overrides, "configuration reloaded, nothing has changed");
            } else {
                let changed = changed.iter().map(Changed::to_string).collect::<Vec<_>>().join(", ");
                tracing::info!(file, overrides, changed, "configuration reloaded");
            }
        };
        self.settings.apply(config);
        // The line is logged under the more verbose of the two levels.
        self.level.set(level, say);
        (self.file, self.is_empty) = (file, is_empty);
        Ok(outcome)
    }

    /// Why the file is probably not complete: editors empty a file before they write it. Otherwise a SIGHUP at that
    /// moment would switch off TLS and remove every token.
    fn incomplete(&self, loaded: &Loaded, in_force: &Config) -> Option<&'static str> {
        let has_tls = |config: &Config| config.tls.certificate.is_some();
        if loaded.names.is_empty() && !self.is_empty {
            Some(
                "has no key: reload again when the file is complete, or restart the daemon to use the defaults",
            )
        } else if has_tls(in_force) && !has_tls(&loaded.config) && !loaded.names.contains("tls") {
            Some(
                "has no [tls], and TLS is in force: restore tls.certificate, or write [tls] without a certificate to switch \
                 TLS off",
            )
        } else {
            None
        }
    }
}

/// One line per problem.
fn problems(error: &ConfigError) -> Vec<String> {
    match error {
        ConfigError::Read { .. } => vec![error.to_string()],
        ConfigError::Invalid(problems) => {
            problems.iter().map(|problem| one_line(&problem.to_string())).collect()
        }
    }
}

fn mismatch(Mismatch { problems, waiting }: Mismatch) -> Vec<String> {
    let keys: Vec<_> = waiting.iter().map(|waiting| waiting.key.as_str()).collect();
    let keys = keys.join(", ");
    let say = |problem: &config::Problem| {
        let what = one_line(&problem.what);
        format!(
            "{}: {what}; the values in the file fit only after a restart, because {keys} need one",
            problem.key
        )
    };
    problems.iter().map(say).collect()
}

/// The configuration fits the addresses in it, but not those of the sockets that the service manager handed over.
fn unfit(error: &ConfigError) -> Vec<String> {
    let say = |problem: &config::Problem| {
        let what = one_line(&problem.what);
        format!("{}: {what}; the socket that was handed over has this address", problem.key)
    };
    error.problems().iter().map(say).collect()
}

fn one_line(text: &str) -> String {
    text.split('\n').map(str::trim).collect::<Vec<_>>().join("; ")
}
