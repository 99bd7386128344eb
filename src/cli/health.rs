//! `health`: asks a running daemon whether it is healthy.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::daemon_args::DaemonArgs;
use super::{BAD_USAGE, FAILED, fail};
use api::{Health, Readiness};
use http_client::{Answer, Limits, Url};
use support::causes::with_causes;

/// Largest response that is read. Reasons are a few lines.
const BODY_BYTES_MAX: u64 = 64 << 10;

#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    #[command(flatten)]
    daemon: DaemonArgs,
    /// Ask whether the daemon accepts all data that clients offer (/readyz), not only whether it answers (/healthz)
    #[arg(long)]
    ready: bool,
    /// How long to wait for the answer
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

pub(super) fn execute(args: &HealthArgs) -> ExitCode {
    let url = match args.daemon.url() {
        Ok(url) => url,
        Err(error) => return fail(BAD_USAGE, with_causes(error.as_ref())),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(FAILED, format_args!("cannot start the runtime: {error}")),
    };
    let asked = runtime.block_on(args.ask(&url));
    // A pending name lookup must not delay the exit.
    runtime.shutdown_background();
    match asked {
        Ok(()) => {
            let word = if args.ready { "ready" } else { "healthy" };
            // The exit code is the answer, so an error of the output does not matter.
            let _ = writeln!(io::stdout(), "{word}");
            ExitCode::SUCCESS
        }
        Err(why) => fail(FAILED, why),
    }
}

impl HealthArgs {
    async fn ask(&self, url: &Url) -> Result<(), String> {
        let (path, not) = if self.ready { ("/readyz", "not ready") } else { ("/healthz", "not healthy") };
        let limits = Limits { time: self.timeout, body_bytes: BODY_BYTES_MAX };
        let judged = match url.get(path, limits).await {
            Ok(answer) if self.ready => judge_readiness(&answer),
            Ok(answer) => answer.json::<Health>().map(drop),
            Err(error) => Err(error.to_string()),
        };
        judged.map_err(|why| format!("{not}: {url}{path}: {why}"))
    }
}

/// Whether the daemon is ready. If its body says that it is not, the error is its reasons in one line, whatever the
/// status is. Any other answer is judged as [`Answer::json`] does: the status must be 200 and the body must parse.
fn judge_readiness(answer: &Answer) -> Result<(), String> {
    match serde_json::from_slice(&answer.body) {
        Ok(Readiness { ready: false, reasons, .. }) => Err(reasons.join("; ").replace(char::is_control, " ")),
        _ => answer.json::<Readiness>().map(drop),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status: StatusCode::from_u16(status).unwrap(), body: body.as_bytes().to_vec() }
    }

    #[test]
    fn the_reasons_of_a_daemon_that_is_not_ready_are_one_line() {
        let ready = r#"{"service":"telemetry-aggregator","ready":true,"reasons":[]}"#;
        assert_eq!(judge_readiness(&answer(200, ready)), Ok(()));
        let reasons = r#"{"service":"telemetry-aggregator","ready":false,"reasons":["draining","archive degraded:\nfull"]}"#;
        let judged = judge_readiness(&answer(503, reasons));
        assert_eq!(judged, Err("draining; archive degraded: full".to_owned()));
        assert_eq!(judge_readiness(&answer(204, ready)), Err(format!("answered 204 No Content: {ready}")));
    }

    #[test]
    fn another_server_is_not_ready() {
        for body in [
            "",
            "ok",
            "{}",
            r#"{"ready":true,"reasons":[]}"#,
            r#"{"service":"another","ready":true,"reasons":[]}"#,
        ] {
            let why = judge_readiness(&answer(200, body)).unwrap_err();
            assert!(why.starts_with("this is no telemetry-aggregator"), "{why}");
        }
        let why = judge_readiness(&answer(503, "<html>")).unwrap_err();
        assert_eq!(why, "answered 503 Service Unavailable: <html>");
    }
}
