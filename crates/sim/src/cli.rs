//! The command line of `uplink-sim`.

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde::Serialize;

use super::link::{LinkError, LinkFormat, LinkPeer, LinkPlan};
use super::{CatalogWish, InputError, Plan, read_packets};
use support::number::number;
use support::stdio::Report;

/// Longest payload that the user can ask for. A server has its own limit.
const PAYLOAD_BYTES_MAX: u32 = 16 << 20;

/// Connects simulated satellites and replay feeds to a telemetry aggregator and sends telemetry.
///
/// Both lanes of a source share one sequence counter, and HELLO sets SHARED_SEQUENCE. Unacknowledged frames are kept
/// and sent again after a reconnect. The program ends with a report: after all frames, after the duration, or on SIGINT
/// or SIGTERM; a second signal stops it at once. Exit codes: 0 all sent frames were acknowledged and no source was shut
/// out, 1 otherwise, 2 bad usage or input.
#[derive(Debug, Parser)]
#[command(name = "uplink-sim", version)]
pub struct Args {
    /// Ingest listener of the daemon, or with --link the address of the link [default: 127.0.0.1:7480, with --link none]
    #[arg(long, value_name = "HOST:PORT", value_parser = host_and_port)]
    pub connect: Option<String>,
    /// Number of live sources; their ids begin at 0
    #[arg(long, value_name = "N", default_value_t = 48, value_parser = number(0..=100_000_u32))]
    pub satellites: u32,
    /// Number of replay feeds; their ids follow the ids of the satellites
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = number(0..=100_000_u32))]
    pub replays: u32,
    /// Number of ground stations that the sources are spread over
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = number(1..=u32::MAX))]
    pub stations: u32,
    /// Frames per source [default: until --duration, or until SIGINT]
    #[arg(long, value_name = "N", value_parser = number(1..=u64::MAX))]
    pub frames: Option<u64>,
    /// Send for this time, such as 30s or 5m; a number without a unit is seconds. With --frames, the earlier end counts
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
    /// Frames per second and source; 0 is as fast as possible
    #[arg(long, value_name = "N", default_value_t = 0.0, value_parser = rate)]
    pub rate: f64,
    /// Payload bytes per frame; with --input each packet is a payload
    #[arg(long, value_name = "BYTES", default_value_t = 256,
          value_parser = number(0..=PAYLOAD_BYTES_MAX))]
    pub payload: u32,
    /// Share of emergency frames (SAFE_MODE, ABORT), 0 to 1 [default: 0.01, with --input 0]
    #[arg(long, value_name = "RATIO", value_parser = ratio)]
    pub emergency_ratio: Option<f64>,
    /// File of CCSDS space packets to send in place of generated payloads: every source sends the whole file once, one
    /// packet per frame
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Credential
    #[arg(long, value_name = "TOKEN", default_value = "", hide_default_value = true, value_parser = token)]
    pub token: String,
    /// File with the credential, so that the list of processes does not show it
    #[arg(long, value_name = "FILE", conflicts_with = "token", value_parser = token_in_file)]
    pub token_file: Option<String>,
    /// Request the catalog of orbital elements, and report how many versions were received completely
    #[arg(long)]
    pub catalog: bool,
    /// Request the catalog, and write the newest complete version to this file at the end
    #[arg(long, value_name = "FILE")]
    pub save_catalog: Option<PathBuf>,
    /// Request no acknowledgements: no frame is sent again, and the server's BYE reports what arrived
    #[arg(long)]
    pub no_ack: bool,
    /// Compress the frames, if the server takes that
    #[arg(long)]
    pub zstd: bool,
    /// Epoch (sequence space) of all sources [default: unix milliseconds at the start, with --no-ack none]
    #[arg(long, value_name = "N", value_parser = number(1..=u64::MAX >> 1))]
    pub epoch: Option<u64>,
    /// Seed of the generated payloads and of the choice of emergencies
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = number(0..=u64::MAX))]
    pub seed: u64,
    /// How long to wait at the end for acknowledgements
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub linger: Duration,
    /// Format of the report on stdout
    #[arg(long, value_enum, default_value_t = Form::Text)]
    pub report: Form,
    /// The options of TLS.
    #[command(flatten)]
    pub tls: tls::ClientArgs,
    /// The options of a link.
    #[command(flatten)]
    pub link: LinkArgs,
}

/// Options to send as equipment that speaks its own protocol.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Equipment")]
pub struct LinkArgs {
    /// Send as equipment does, to an input link of the daemon and without acknowledgements. One connection carries all
    /// satellites; --payload is the length of a transfer frame or packet. stderr gets the keys of the link
    #[arg(long = "link", value_enum, value_name = "FORMAT")]
    pub format: Option<LinkFormat>,
    /// Wait here for a link that connects, such as NCTRS
    #[arg(long, value_name = "HOST:PORT", requires = "format", conflicts_with = "connect")]
    pub listen: Option<String>,
    /// Send AOS frames in place of TM frames
    #[arg(long, requires = "format")]
    pub aos: bool,
    /// Leave out this share of the frames, at random: 0 to 100 percent
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, requires = "format", value_parser = percent)]
    pub loss: f64,
    /// Bytes of noise behind every 16th CADU
    #[arg(long, value_name = "BYTES", default_value_t = 0, requires = "format", value_parser = number(0..=1_u32 << 20))]
    pub noise: u32,
}

/// Format of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Readable lines
    Text,
    /// One JSON object
    Json,
}

impl Form {
    /// Writes `report` to stdout.
    ///
    /// # Errors
    /// `report` cannot be JSON.
    pub fn print(self, report: &(impl Display + Serialize)) -> serde_json::Result<()> {
        let text = match self {
            Self::Text => format!("{report}\n"),
            Self::Json => serde_json::to_string(report)? + "\n",
        };
        Report::on_stdout().print(text);
        Ok(())
    }
}

impl Args {
    /// What to send to an input link; `None` without `--link`.
    ///
    /// # Errors
    /// [`LinkError`] when the options do not fit together.
    pub fn link_plan(&self) -> Result<Option<LinkPlan>, LinkError> {
        let Some(format) = self.link.format else { return Ok(None) };
        let peer = match (&self.link.listen, &self.connect) {
            (Some(address), _) => LinkPeer::Listen(address.clone()),
            (None, Some(address)) => LinkPeer::Connect(address.clone()),
            (None, None) => return Err(LinkError::NoPeer),
        };
        let plan = LinkPlan {
            format,
            aos: self.link.aos,
            peer,
            tls: self.tls.client().map_err(|error| LinkError::Tls(error.to_string()))?,
            satellites: self.satellites,
            frames: self.frames,
            duration: self.duration,
            rate: self.rate,
            unit_bytes: self.payload as usize,
            emergency_ratio: self.emergency_ratio.unwrap_or(Plan::default().emergency_ratio),
            loss_ratio: self.link.loss / 100.0,
            noise_bytes: self.link.noise as usize,
            seed: self.seed,
            linger: self.linger,
        };
        plan.check()?;
        Ok(Some(plan))
    }

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
            connect: self.connect.clone().unwrap_or(defaults.connect),
            tls: self.tls.client()?,
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
            zstd: self.zstd,
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

fn percent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err("expected a number from 0 to 100".to_owned()),
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
             --payload 9 --emergency-ratio 0.25 --token t --epoch 10 --seed 11 --linger 12ms --catalog --zstd \
             --report json",
        )
        .unwrap();
        assert_eq!(args.report, Form::Json);
        let expected = Plan {
            connect: "[::1]:9".to_owned(),
            tls: None,
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
            zstd: true,
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
    fn a_link_has_its_own_plan() {
        let line = "--link cadu --listen 127.0.0.1:9 --satellites 3 --frames 6 --rate 8.5 --payload 1115 --loss 2.5 \
                    --noise 40 --aos --emergency-ratio 0.25 --seed 11 --linger 12ms";
        let expected = LinkPlan {
            format: LinkFormat::Cadu,
            aos: true,
            peer: LinkPeer::Listen("127.0.0.1:9".to_owned()),
            tls: None,
            satellites: 3,
            frames: Some(6),
            duration: None,
            rate: 8.5,
            unit_bytes: 1_115,
            emergency_ratio: 0.25,
            loss_ratio: 0.025,
            noise_bytes: 40,
            seed: 11,
            linger: Duration::from_millis(12),
        };
        assert_eq!(parse(line).unwrap().link_plan(), Ok(Some(expected)));
        assert_eq!(parse("").unwrap().link_plan(), Ok(None));
        assert_eq!(parse("--link kiss").unwrap().link_plan(), Err(LinkError::NoPeer));
    }

    #[test]
    fn bad_usage_exits_with_2() {
        for line in [
            "--link modem",
            "--loss 5",
            "--listen 127.0.0.1:9",
            "--link cadu --connect a:1 --listen b:2",
            "--link cadu --loss 101",
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
    fn a_token_may_be_in_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "from the file\n").unwrap();
        let line = format!("--token-file {}", file.path().display());
        assert_eq!(parse(&line).unwrap().plan().unwrap().token, "from the file");
        assert_eq!(parse(&format!("{line} --token t")).unwrap_err().exit_code(), 2);
        assert_eq!(parse("--token-file /nothing/there").unwrap_err().exit_code(), 2);
    }

    #[test]
    fn packets_have_no_emergencies_by_default() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [0, 1, 0xC0, 0, 0, 1, 7, 8]).unwrap();
        let line = format!("--input {}", file.path().display());
        let plan = parse(&line).unwrap().plan().unwrap();
        assert_eq!((plan.emergency_ratio, plan.frames_per_source()), (0.0, 1));
        let plan = parse(&format!("{line} --emergency-ratio 0.5")).unwrap().plan().unwrap();
        assert_eq!(plan.emergency_ratio, 0.5);
    }
}
