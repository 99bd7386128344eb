//! The command line of `uplink-sim`.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde::Serialize;

use super::{CatalogWish, InputError, Plan, read_packets};
use support::number::number;

/// Longest payload that the user can ask for. A server has its own limit.
const PAYLOAD_BYTES_MAX: u32 = 16 << 20;

/// Connects simulated satellites and replay feeds to a telemetry aggregator and sends telemetry.
///
/// Both lanes of a source draw their sequences from one counter, and HELLO says so (SHARED_SEQUENCE).
/// Keeps what is unacknowledged, reconnects and resumes, and ends with a report: after its frames, after its
/// duration, or on SIGINT or SIGTERM (a second one stops at once). Exit codes: 0 everything sent was acknowledged and
/// no source was shut out, 1 it was not, 2 bad usage or input.
#[derive(Debug, Parser)]
#[command(name = "uplink-sim", version)]
pub struct Args {
    /// Ingest listener of the daemon
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7480", value_parser = host_and_port)]
    pub connect: String,
    /// Live sources, with the ids 0 and up
    #[arg(long, value_name = "N", default_value_t = 48, value_parser = number(0..=100_000_u32))]
    pub satellites: u32,
    /// Replay feeds, with the ids after the satellites
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = number(0..=100_000_u32))]
    pub replays: u32,
    /// Ground stations the sources are spread over
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = number(1..=u32::MAX))]
    pub stations: u32,
    /// Frames per source; without it and --duration: until SIGINT
    #[arg(long, value_name = "N", value_parser = number(1..=u64::MAX))]
    pub frames: Option<u64>,
    /// Send for so long, as in 30s or 5m, bare numbers are seconds; with --frames: whatever ends first
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
    /// Frames per second and source; 0 is flat out
    #[arg(long, value_name = "N", default_value_t = 0.0, value_parser = rate)]
    pub rate: f64,
    /// Payload per frame; with --input the packets decide
    #[arg(long, value_name = "BYTES", default_value_t = 256,
          value_parser = number(0..=PAYLOAD_BYTES_MAX))]
    pub payload: u32,
    /// Share of emergency frames (SAFE_MODE, ABORT), 0 to 1 [default: 0.01, with --input 0]
    #[arg(long, value_name = "RATIO", value_parser = ratio)]
    pub emergency_ratio: Option<f64>,
    /// CCSDS space packets to send instead: every source sends the whole file once, one packet per frame
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Credential
    #[arg(long, value_name = "TOKEN", default_value = "", hide_default_value = true, value_parser = token)]
    pub token: String,
    /// File with the credential, which then does not show in the list of processes
    #[arg(long, value_name = "FILE", conflicts_with = "token", value_parser = token_in_file)]
    pub token_file: Option<String>,
    /// Ask for the catalog of orbital elements, and report how many versions came complete
    #[arg(long)]
    pub catalog: bool,
    /// Ask for the catalog, and write the newest version that came complete to this file at the end
    #[arg(long, value_name = "FILE")]
    pub save_catalog: Option<PathBuf>,
    /// Ask for no acknowledgements: nothing is kept, the server's BYE tells what arrived
    #[arg(long)]
    pub no_ack: bool,
    /// Sequence space of all sources; unix milliseconds at the start when left out, none with --no-ack
    #[arg(long, value_name = "N", value_parser = number(1..=u64::MAX >> 1))]
    pub epoch: Option<u64>,
    /// Decides payloads and which frames are emergencies
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = number(0..=u64::MAX))]
    pub seed: u64,
    /// How long to wait at the end for what is not acknowledged
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub linger: Duration,
    /// Form of the report on stdout
    #[arg(long, value_enum, default_value_t = Form::Text)]
    pub report: Form,
}

/// Form of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Lines for people
    Text,
    /// One JSON object
    Json,
}

impl Form {
    /// Writes `report` to stdout. A closed stdout is an error, too.
    ///
    /// # Errors
    /// Errors of stdout.
    pub fn print(self, report: &(impl Display + Serialize)) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match self {
            Self::Text => writeln!(out, "{report}")?,
            Self::Json => writeln!(out, "{}", serde_json::to_string(report)?)?,
        }
        out.flush()
    }
}

impl Args {
    /// The plan; reads the input file.
    ///
    /// # Errors
    /// [`InputError`] when the input file is not a file of space packets.
    pub fn plan(&self) -> Result<Plan, InputError> {
        let defaults = Plan::default();
        let input = match &self.input {
            Some(path) => Some(Arc::new(read_packets(path)?)),
            None => None,
        };
        let emergency_ratio = match (self.emergency_ratio, &input) {
            (Some(ratio), _) => ratio,
            (None, Some(_)) => 0.0,
            (None, None) => defaults.emergency_ratio,
        };
        Ok(Plan {
            connect: self.connect.clone(),
            satellites: self.satellites,
            replays: self.replays,
            stations: self.stations,
            frames: self.frames,
            duration: self.duration,
            rate: self.rate,
            payload_bytes: self.payload as usize,
            emergency_ratio,
            input,
            token: self.token_file.as_ref().unwrap_or(&self.token).clone(),
            catalog: match self.save_catalog {
                Some(_) => CatalogWish::Keep,
                None if self.catalog => CatalogWish::Count,
                None => CatalogWish::No,
            },
            no_ack: self.no_ack,
            epoch: self.epoch,
            seed: self.seed,
            linger: self.linger,
        })
    }
}

/// Takes `host:port` of a daemon.
pub fn host_and_port(text: &str) -> Result<String, String> {
    let (host, port) = text.rsplit_once(':').ok_or("expected HOST:PORT")?;
    let port: u16 = port.parse().map_err(|_| format!("{port:?} is no port"))?;
    if host.is_empty() || port == 0 {
        return Err("expected HOST:PORT, neither of them empty or 0".to_owned());
    }
    Ok(text.to_owned())
}

/// Reads a time; bare numbers are seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string());
    }
    humantime::parse_duration(text).map_err(|error| error.to_string())
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate >= 0.0 && rate.is_finite() => Ok(rate),
        _ => Err("expected frames per second, 0 or more".to_owned()),
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        _ => Err("expected a number from 0 to 1".to_owned()),
    }
}

/// Checks a token. The error does not repeat the value, because it is a secret.
fn token(text: &str) -> Result<String, String> {
    let bytes_max = wire::hello::TOKEN_BYTES_MAX;
    if text.len() > bytes_max {
        return Err(format!("longer than {bytes_max} bytes"));
    }
    Ok(text.to_owned())
}

/// Reads the credential in the file at `path`, without whitespace at its ends.
fn token_in_file(path: &str) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read it: {error}"))?;
    match text.trim() {
        "" => Err("there is no token in it".to_owned()),
        text => token(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(std::iter::once("uplink-sim").chain(line.split_whitespace()))
    }

    #[test]
    fn without_arguments_it_is_the_default_plan() {
        let plan = parse("").unwrap().plan().unwrap();
        assert_eq!(format!("{plan:?}"), format!("{:?}", Plan::default()));
    }

    #[test]
    fn every_option_arrives_in_the_plan() {
        let args = parse(
            "--connect [::1]:9 --satellites 3 --replays 4 --stations 5 --frames 6 --duration 7s --rate 8.5 \
             --payload 9 --emergency-ratio 0.25 --token t --epoch 10 --seed 11 --linger 12ms --catalog \
             --report json",
        )
        .unwrap();
        assert_eq!(args.report, Form::Json);
        let expected = Plan {
            connect: "[::1]:9".to_owned(),
            satellites: 3,
            replays: 4,
            stations: 5,
            frames: Some(6),
            duration: Some(Duration::from_secs(7)),
            rate: 8.5,
            payload_bytes: 9,
            emergency_ratio: 0.25,
            input: None,
            token: "t".to_owned(),
            catalog: CatalogWish::Count,
            no_ack: false,
            epoch: Some(10),
            seed: 11,
            linger: Duration::from_millis(12),
        };
        assert_eq!(format!("{:?}", args.plan().unwrap()), format!("{expected:?}"));
        assert_eq!(parse("--save-catalog f").unwrap().plan().unwrap().catalog, CatalogWish::Keep);
        assert!(parse("--no-ack").unwrap().plan().unwrap().no_ack);
        assert_eq!(parse("--duration 1.5").unwrap().duration, Some(Duration::from_millis(1500)));
    }

    #[test]
    fn bad_usage_exits_with_2() {
        for line in [
            "--satellites -1",
            "--satellites many",
            "--stations 0",
            "--frames 0",
            "--duration -5",
            "--rate -1",
            "--rate nan",
            "--rate inf",
            "--emergency-ratio 1.1",
            "--emergency-ratio NaN",
            "--connect localhost",
            "--connect :7480",
            "--connect localhost:0",
            "--epoch 0",
            "--epoch 9223372036854775808",
            "--report xml",
            "stray",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn a_token_may_lie_in_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "from the file\n").unwrap();
        let line = format!("--token-file {}", file.path().display());
        assert_eq!(parse(&line).unwrap().plan().unwrap().token, "from the file");
        assert_eq!(parse(&format!("{line} --token t")).unwrap_err().exit_code(), 2);
        assert_eq!(parse("--token-file /nothing/there").unwrap_err().exit_code(), 2);
    }

    #[test]
    fn packets_come_without_emergencies_unless_asked_for() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [0, 1, 0xC0, 0, 0, 1, 7, 8]).unwrap();
        let line = format!("--input {}", file.path().display());
        let plan = parse(&line).unwrap().plan().unwrap();
        assert_eq!((plan.emergency_ratio, plan.frames_per_source()), (0.0, 1));
        let plan = parse(&format!("{line} --emergency-ratio 0.5")).unwrap().plan().unwrap();
        assert_eq!(plan.emergency_ratio, 0.5);
    }
}
