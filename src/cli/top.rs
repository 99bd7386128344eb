//! `top`: shows a running daemon on a screen, or prints its state once as text or JSON.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use ratatui::layout::Size;
use serde_json::{Value, json};

use super::daemon_args::DaemonArgs;
use super::{BAD_USAGE, FAILED, fail};
use support::causes::with_causes;
use support::number::number;
use support::stdio;
use top::draw::report;
use top::fetch::{CHOSEN_MAX, Question};
use top::model::{Input, Model, Snapshot};

mod live;
mod terminal;

/// The shortest interval. Counts may change at any time, but the daemon computes its rates only once a second.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const INTERVAL_MAX: Duration = Duration::from_secs(3_600);

/// Show a running daemon in the terminal, or print its state once.
///
/// Keys: q or Ctrl-C quits, ? lists all keys. When the daemon does not answer, the screen says so, shows the last
/// answer with its age, and asks again. Exit codes: 0 ended by the user, or printed; 1 failed, with --once also when
/// the daemon does not answer; 2 bad usage, or no terminal and no --once.
#[derive(Debug, Args)]
pub(super) struct TopArgs {
    #[command(flatten)]
    daemon: DaemonArgs,
    /// How often to ask the daemon
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_interval)]
    interval: Duration,
    /// Print the state once as plain text with all sources, and exit; needs no terminal
    #[arg(long)]
    once: bool,
    /// With --once: print the answers of the API as JSON, {"stats": .., "sources": ..}, and "links" and "outputs" if
    /// any
    #[arg(long, requires = "once")]
    json: bool,
    /// Only this source; may be repeated
    #[arg(long = "source", value_name = "ID", value_parser = number(0..=u32::MAX))]
    sources: Vec<u32>,
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if !(INTERVAL_MIN..=INTERVAL_MAX).contains(&interval) {
        return Err(format!(
            "expected {} to {}",
            humantime::format_duration(INTERVAL_MIN),
            humantime::format_duration(INTERVAL_MAX)
        ));
    }
    Ok(interval)
}

pub(super) fn execute(args: &TopArgs) -> ExitCode {
    let question = match args.question() {
        Ok(question) => question,
        Err(error) => return fail(BAD_USAGE, with_causes(error.as_ref())),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(FAILED, format_args!("cannot start the runtime: {error}")),
    };
    let shown = if args.once {
        runtime.block_on(args.print_once(&question))
    } else {
        runtime.block_on(live::show(question, args.interval))
    };
    // A pending name lookup must not delay the exit.
    runtime.shutdown_background();
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(FAILED, with_causes(error.as_ref())),
    }
}

impl TopArgs {
    fn question(&self) -> anyhow::Result<Question> {
        anyhow::ensure!(
            self.once || (io::stdin().is_terminal() && io::stdout().is_terminal()),
            "top needs a terminal; without one use --once, or --once --json"
        );
        let mut chosen = self.sources.clone();
        chosen.sort_unstable();
        chosen.dedup();
        anyhow::ensure!(
            chosen.len() <= CHOSEN_MAX,
            "--source is given {} times, at most {CHOSEN_MAX} times are allowed; without --source all sources are shown",
            chosen.len()
        );
        Ok(Question { url: self.daemon.url()?, chosen })
    }

    async fn print_once(&self, question: &Question) -> anyhow::Result<()> {
        let url = &question.url;
        let snapshot = question.ask().await.map_err(|why| anyhow::anyhow!("{url}: {why}"))?;
        let text = if self.json {
            json(snapshot).to_string() + "\n"
        } else {
            let mut model = Model::new(url.to_string(), self.interval, Size::default());
            model.step(Input::Known(Box::new(snapshot)));
            report(&model)
        };
        stdio::print(text).context("cannot write the output")
    }
}

/// The answers of the API. Links and outputs are left out where the daemon has none.
fn json(snapshot: Snapshot) -> Value {
    let Snapshot { stats, sources, total, links, outputs } = snapshot;
    let mut printed = json!({ "stats": stats, "sources": { "total": total, "sources": sources } });
    if !links.is_empty() {
        printed["links"] = json!({ "total": links.len(), "links": links });
    }
    if !outputs.is_empty() {
        printed["outputs"] = json!({ "total": outputs.len(), "outputs": outputs });
    }
    printed
}
