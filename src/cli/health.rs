//! `health`: asks a running daemon whether it is healthy.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use axum::http::StatusCode;
use clap::Args;
use serde::Deserialize;

use super::whom::WhomArgs;
use super::{BAD_USAGE, FAILED, fail};
use crate::causes::told;
use crate::http::client::{Answer, Limits, Url};
use crate::observe::report::SERVICE;

/// Largest response that is read. Reasons are a few lines.
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

/// The body of /healthz and /readyz.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Health {
    service: String,
    reasons: Vec<String>,
}

pub(super) fn execute(args: &HealthArgs) -> ExitCode {
    let url = match args.whom.url() {
        Ok(url) => url,
        Err(error) => return fail(BAD_USAGE, told(error.as_ref())),
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
        match url.get(path, limits).await {
            Ok(answer) => judge(&answer).map_err(|why| format!("{not}: {url}{path}: {why}")),
            Err(error) => Err(format!("{not}: {url}{path}: {error}")),
        }
    }
}

fn judge(answer: &Answer) -> Result<(), String> {
    let Health { service, reasons } = serde_json::from_slice(&answer.body).unwrap_or_default();
    match answer.status {
        StatusCode::OK if service == SERVICE => Ok(()),
        StatusCode::OK => Err(format!("this is no {SERVICE}: it {}", answer.problem())),
        _ if !reasons.is_empty() => Err(reasons.join("; ").replace(char::is_control, " ")),
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
        let ours = r#"{"service":"telemetry-aggregator","status":"ok"}"#;
        assert_eq!(judged(200, ours), Ok(()));
        let reasons = r#"{"service":"telemetry-aggregator","ready":false,"reasons":["draining","archive degraded:\nfull"]}"#;
        assert_eq!(judged(503, reasons), Err("draining; archive degraded: full".to_owned()));
        assert_eq!(judged(204, ours), Err(format!("answered 204 No Content: {ours}")));
    }

    #[test]
    fn the_200_of_another_server_is_not_well() {
        let judged = |status: u16, body: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            judge(&Answer { status, body: body.as_bytes().to_vec() })
        };
        for body in ["", "ok", "{}", r#"{"status":"ok"}"#, r#"{"service":"another","status":"ok"}"#] {
            let why = judged(200, body).unwrap_err();
            assert!(why.starts_with("this is no telemetry-aggregator: it answered 200 OK"), "{why}");
        }
        assert_eq!(judged(503, "<html>"), Err("answered 503 Service Unavailable: <html>".to_owned()));
    }
}
