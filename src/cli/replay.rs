//! `replay`: sends a range of an archive to a daemon.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::directory::resolve;
use super::filter::FilterArgs;
use super::sending::{Keys, SendingArgs, Subject, args_without, attend, raise_limit, say, start_runtime};
use super::{BAD_USAGE, FAILED, fail};
use archive::Filter;
use archive::inspect::oldest_offset;
use sim::cli::{duration, host_and_port};
use support::causes::with_causes;
use support::number::number;
use tools::replay::{self, Control, Plan, Progress, Report, Sending, Speed};

/// The name of the command in its lines on stderr.
const NAME: &str = "replay";

/// Send a range of an archive to a daemon, as archived replays with their original sequences and timing.
///
/// Enter, p and SIGUSR1 pause and resume the replay. SIGINT and SIGTERM end it when all sent frames are acknowledged,
/// and print the command that continues it. A second one of these signals ends it at once. Exit codes: 0 every frame of
/// the range is acknowledged, 1 some are not, 2 bad usage.
#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// The archive directory, or a data directory that contains it
    #[arg(long, value_name = "DIR")]
    archive: PathBuf,
    /// Ingest listener of the daemon
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7480", value_parser = host_and_port)]
    connect: String,
    #[command(flatten)]
    filter: FilterArgs,
    /// Speed as a multiple of the recorded speed, or max for as fast as the daemon accepts frames
    #[arg(long, value_name = "N|max", default_value = "1", allow_hyphen_values = true)]
    speed: Speed,
    /// Shorten times without a frame in the recording to at most this
    #[arg(long, value_name = "TIME", value_parser = duration)]
    max_gap: Option<Duration>,
    /// Continue an earlier replay of this range, which printed its epoch when it started
    #[arg(long, value_name = "N", value_parser = number(1..=u64::MAX >> 1))]
    epoch: Option<u64>,
    /// Frames below this offset were acknowledged to the earlier replay: they are not sent again and take no time
    #[arg(long, value_name = "OFFSET", requires = "epoch", value_parser = number(0..=u64::MAX))]
    skip_to: Option<u64>,
    /// Tell the daemon that both lanes of each stream shared one sequence counter (SHARED_SEQUENCE), as in uplink-sim;
    /// without it the daemon counts missing frames in each lane separately. The archive does not store this flag
    #[arg(long)]
    shared_sequence: bool,
    #[command(flatten)]
    sending: SendingArgs,
}

impl ReplayArgs {
    fn plan(&self, token: String) -> anyhow::Result<Plan> {
        let dir = resolve(&self.archive)?;
        let (filter, end) = (self.filter.filter(), replay::end_of(&dir)?);
        let to_offset = Some(filter.to_offset.map_or(end, |to| to.min(end)));
        let filter = Filter { from_offset: self.beginning(&dir)?, to_offset, ..filter };
        Ok(Plan {
            dir,
            filter,
            speed: self.speed,
            gap_max: self.max_gap,
            skip_to: self.skip_to.unwrap_or(0),
            sending: Sending {
                shared_sequence: self.shared_sequence,
                ..self.sending.sending(self.connect.clone(), token, self.epoch)?
            },
        })
    }

    /// The first offset of the range. A run that continues another one must begin at the same offset: the epochs of a
    /// replay are counted from there, even over frames that it skips. The command that a run prints names the offset.
    /// Without it such a run begins at 0. Then frames that retention has removed end it with an error, instead of
    /// wrong epochs with which the daemon would take new frames for those that it has.
    fn beginning(&self, dir: &Path) -> anyhow::Result<u64> {
        match self.filter.from_offset {
            Some(offset) => Ok(offset),
            None if self.epoch.is_some() => Ok(0),
            None => Ok(oldest_offset(dir)?),
        }
    }
}

pub(super) fn execute(args: &ReplayArgs) -> ExitCode {
    let token = match args.filter.check().map_err(anyhow::Error::from).and_then(|()| args.sending.token()) {
        Ok(token) => token,
        Err(error) => return fail(BAD_USAGE, with_causes(error.as_ref())),
    };
    match start(args, token) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => fail(FAILED, with_causes(error.as_ref())),
    }
}

fn start(args: &ReplayArgs, token: String) -> anyhow::Result<bool> {
    let plan = args.plan(token)?;
    // Each connection is an open file.
    raise_limit(&plan.sending)?;
    let (epoch, filter) = (plan.sending.epoch, plan.filter.clone());
    let command = |skip_to| go_on(std::env::args(), epoch, &filter, skip_to);
    if filter.to_offset.is_some_and(|to| to > filter.from_offset) {
        say(NAME, &format!("epoch {epoch}; to continue after an interruption: {}", command(args.skip_to)));
    }
    let runtime = start_runtime()?;
    let report = runtime.block_on(replay(plan));
    // A blocked read of the archive must not delay the exit.
    runtime.shutdown_background();
    let Some(report) = report? else {
        say(NAME, &format!("stopped at once; to continue: {}", command(args.skip_to)));
        return Ok(false);
    };
    args.sending.print(&report)?;
    if report.complete && report.read == 0 && args.skip_to.is_none() {
        say(NAME, "no frame of the range matches, nothing was sent");
    }
    if !report.complete {
        say(NAME, &format!("not complete; to continue: {}", command(report.go_on_from)));
    }
    Ok(report.complete)
}

/// Runs the plan. `None` if a second signal stopped it at once.
async fn replay(plan: Plan) -> anyhow::Result<Option<Report>> {
    let (control, progress) = (Arc::new(Control::default()), Arc::new(Progress::default()));
    let run = replay::run(plan, Arc::clone(&control), Arc::clone(&progress));
    let subject = Subject { command: NAME, position: "offset", is_timed: true };
    Ok(attend(run, subject, Keys::of_terminal(), control, progress).await?.transpose()?)
}

/// The command line that continues this run. It has the same range, with `epoch` and the acknowledged offset. Times are
/// written as absolute times, because "before now" would mean another time later.
fn go_on(args: impl Iterator<Item = String>, epoch: u64, filter: &Filter, skip_to: Option<u64>) -> String {
    let replaced = ["--epoch", "--from-offset", "--to-offset", "--from", "--to", "--skip-to"];
    let mut words = args_without(args, &replaced);
    words.push(format!("--from-offset {}", filter.from_offset));
    words.extend(filter.to_offset.map(|to| format!("--to-offset {to}")));
    words.extend(filter.from_received_ns.map(|ns| format!("--from {ns}ns")));
    words.extend(filter.to_received_ns.map(|ns| format!("--to {ns}ns")));
    words.push(format!("--epoch {epoch}"));
    words.extend(skip_to.map(|offset| format!("--skip-to {offset}")));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(line: &str, skip_to: Option<u64>) -> String {
        let filter = Filter { from_offset: 9, to_offset: Some(400), ..Filter::default() };
        go_on(line.split(' ').map(str::to_owned), 77, &filter, skip_to)
    }

    #[test]
    fn the_resume_command_writes_times_as_absolute_times() {
        let filter = Filter { from_received_ns: Some(5), to_received_ns: Some(6), ..Filter::default() };
        let args = "ta replay --from -1h --to=-1m".split(' ').map(str::to_owned);
        assert_eq!(
            go_on(args, 77, &filter, None),
            "ta replay --from-offset 0 --from 5ns --to 6ns --epoch 77"
        );
    }

    #[test]
    fn the_resume_command_repeats_the_arguments_and_adds_the_epoch() {
        assert_eq!(
            after("ta replay --archive d --speed max", None),
            "ta replay --archive d --speed max --from-offset 9 --to-offset 400 --epoch 77"
        );
        let again = "ta replay --epoch 5 --from-offset=9 --to-offset 999 --archive d --skip-to 10 --epoch=6";
        let pinned = "ta replay --archive d --from-offset 9 --to-offset 400 --epoch 77";
        assert_eq!(after(again, None), pinned);
        assert_eq!(after(again, Some(12)), format!("{pinned} --skip-to 12"));
    }
}
