//! What the commands that send replays share: `replay` and `import`.

use std::fmt::Display;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use config::{Secret, raise_open_file_limit};
use sim::cli::{Form, duration};
use support::number::number;
use support::stdio::note;
use tools::replay::{Control, Progress, Sending, epoch_now};

mod keys;
mod view;

pub(super) use keys::Keys;
use view::View;

/// The environment variable with the credential, used when no file is named.
const TOKEN_VARIABLE: &str = "TELEMETRY_AGGREGATOR_TOKEN";
/// Files that the process needs besides one socket per connection.
const FILES_BESIDE_CONNECTIONS: u64 = 64;

#[derive(Debug, Args)]
pub(super) struct SendingArgs {
    /// Connections at a time, one per source and station; the one idle longest is closed for a new one
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = number(1..=65_536_u32))]
    connections: u32,
    /// File with the credential [default: the environment variable TELEMETRY_AGGREGATOR_TOKEN, if set]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    tls: tls::ClientArgs,
    /// How long to wait after SIGINT or SIGTERM for the acknowledgements of sent frames
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    linger: Duration,
    /// Format of the report on stdout
    #[arg(long, value_enum, default_value_t = Form::Text)]
    report: Form,
}

impl SendingArgs {
    /// The credential. Empty without one.
    pub(super) fn token(&self) -> anyhow::Result<String> {
        let (text, source) = match (&self.token_file, std::env::var(TOKEN_VARIABLE)) {
            (Some(path), _) => {
                let text = std::fs::read_to_string(path);
                let source = path.display().to_string();
                (text.with_context(|| format!("cannot read the token file {source}"))?, source)
            }
            (None, Ok(text)) => (text, TOKEN_VARIABLE.to_owned()),
            (None, Err(_)) => return Ok(String::new()),
        };
        let secret = Secret::new(text.trim()).with_context(|| format!("the token of {source}"))?;
        Ok(secret.expose().to_owned())
    }

    /// Where to send. `epoch` is that of an earlier run. Blocks on the file system.
    pub(super) fn sending(
        &self,
        connect: String,
        token: String,
        epoch: Option<u64>,
    ) -> anyhow::Result<Sending> {
        let tls = self.tls.client().context("TLS")?;
        Ok(Sending {
            connect,
            tls,
            token,
            epoch: epoch.unwrap_or_else(epoch_now),
            goes_on: epoch.is_some(),
            shared_sequence: false,
            connections: self.connections as usize,
            linger: self.linger,
        })
    }

    /// Writes the report to stdout.
    pub(super) fn print(&self, report: &(impl Display + Serialize)) -> anyhow::Result<()> {
        Ok(self.report.print(report)?)
    }
}

/// Raises the process's limit of open files to what the connections need, because each of them is one.
pub(super) fn raise_limit(sending: &Sending) -> anyhow::Result<()> {
    Ok(raise_open_file_limit(sending.connections as u64 + FILES_BESIDE_CONNECTIONS)?)
}

pub(super) fn start_runtime() -> anyhow::Result<Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.context("cannot start the runtime")
}

/// How the progress of a run is shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject {
    /// The name of the command.
    pub(super) command: &'static str,
    /// What the offset of a frame is.
    pub(super) position: &'static str,
    /// Whether the frames carry the time when they were received, as those of an archive do; then the progress shows
    /// it.
    pub(super) is_timed: bool,
}

/// Shows the progress of `run` to its end, and lets signals and keys stop and pause it. `None` if a second signal stops
/// it at once.
pub(super) async fn attend<T>(
    run: impl Future<Output = T>,
    subject: Subject,
    mut keys: Keys,
    control: Arc<Control>,
    progress: Arc<Progress>,
) -> anyhow::Result<Option<T>> {
    let mut signals = Signals::catch().context("cannot listen for signals")?;
    let mut view = View::new(subject, progress, Arc::clone(&control));
    tokio::pin!(run);
    loop {
        let request = tokio::select! {
            report = &mut run => {
                view.close();
                return Ok(Some(report));
            }
            request = signals.next() => request,
            () = keys.pressed() => Request::Pause,
            () = view.refresh() => continue,
        };
        match request {
            Request::Stop if control.stop() => {
                view.close();
                return Ok(None);
            }
            Request::Stop => view.say("stopping: waiting for acknowledgements of sent frames"),
            Request::Pause if control.toggle_pause() => view.say("paused"),
            Request::Pause => view.say("resumed"),
        }
    }
}

/// What the user asks for.
enum Request {
    /// The first time: send nothing new and wait for acknowledgements. The second time: end at once.
    Stop,
    /// Pause, or resume if paused.
    Pause,
}

/// The signals of a run: SIGINT and SIGTERM stop it, SIGUSR1 pauses and resumes it.
struct Signals {
    /// SIGINT.
    interrupt: Signal,
    /// SIGTERM.
    terminate: Signal,
    /// SIGUSR1.
    pause: Signal,
}

impl Signals {
    fn catch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            pause: signal(SignalKind::user_defined1())?,
        })
    }

    /// Waits for the next signal. Cancel safe.
    async fn next(&mut self) -> Request {
        tokio::select! {
            _ = self.interrupt.recv() => Request::Stop,
            _ = self.terminate.recv() => Request::Stop,
            _ = self.pause.recv() => Request::Pause,
        }
    }
}

/// The words of a command line for a shell, without the options in `replaced` and their values.
pub(super) fn args_without(mut args: impl Iterator<Item = String>, replaced: &[&str]) -> Vec<String> {
    let mut words = Vec::new();
    while let Some(arg) = args.next() {
        match arg.split_once('=') {
            Some((name, _)) if replaced.contains(&name) => {}
            _ if replaced.contains(&arg.as_str()) => drop(args.next()),
            _ => words.push(quoted(arg)),
        }
    }
    words
}

/// Quotes a word for a shell.
fn quoted(word: String) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,@+%[]".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return word;
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Writes one line of `command` to stderr.
pub(super) fn say(command: &str, line: &str) {
    note(format_args!("{command}: {line}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_a_shell_would_split_are_quoted() {
        assert_eq!(quoted("it's here".to_owned()), r"'it'\''s here'");
        assert_eq!(quoted(String::new()), "''");
        assert_eq!(quoted("a/b-c_1.seg".to_owned()), "a/b-c_1.seg");
    }
}
