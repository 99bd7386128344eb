//! `health`: asks a running daemon whether it is well.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use axum::http::StatusCode;
use clap::Args;
use serde::Deserialize;

use super::whom::WhomArgs;
use super::{BAD_USAGE, FAILED, fail};
use crate::http::client::{Answer, Limits, Url};

/// Largest answer that is read; reasons are a few lines.
const BODY_BYTES_MAX: u64 = 64 << 10;

#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    #[command(flatten)]
    whom: WhomArgs,
    /// Ask whether it takes in everything it is offered (/readyz), not only whether it lives (/healthz)
    #[arg(long)]
    ready: bool,
    /// How long to wait for the answer
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// What /readyz says.
#[derive(Deserialize)]
struct Readiness {
    reasons: Vec<String>,
}

pub(super) fn execute(args: &HealthArgs) -> ExitCode {
    let url = match args.whom.url() {
        Ok(url) => url,
        Err(error) => return fail(BAD_USAGE, format_args!("{error:#}")),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(FAILED, format_args!("cannot start the runtime: {error}")),
    };
    let asked = runtime.block_on(args.ask(&url));
    // Looking up a name must not delay the exit.
    runtime.shutdown_background();
    match asked {
        Ok(()) => {
            let word = if args.ready { "ready" } else { "healthy" };
            // The exit code is the answer, whoever reads this or not.
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
        match url.get(path, limits).await {
            Ok(answer) => judge(&answer).map_err(|why| format!("{not}: {url}{path}: {why}")),
            Err(error) => Err(format!("{not}: {url}{path}: {error}")),
        }
    }
}

fn judge(answer: &Answer) -> Result<(), String> {
    if answer.status == StatusCode::OK {
        return Ok(());
    }
    match serde_json::from_slice::<Readiness>(&answer.body) {
        Ok(Readiness { reasons }) if !reasons.is_empty() => {
            Err(reasons.join("; ").replace(char::is_control, " "))
        }
        _ => Err(answer.problem()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_200_is_well_and_reasons_are_told_in_one_line() {
        let judged = |status: u16, body: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            judge(&Answer { status, body: body.as_bytes().to_vec() })
        };
        assert_eq!(judged(200, "anything"), Ok(()));
        let reasons = r#"{"ready":false,"reasons":["draining","archive degraded:\nfull"]}"#;
        assert_eq!(judged(503, reasons), Err("draining; archive degraded: full".to_owned()));
        assert_eq!(judged(503, "<html>"), Err("answered 503 Service Unavailable: <html>".to_owned()));
        assert_eq!(judged(204, ""), Err("answered 204 No Content".to_owned()));
    }
}
