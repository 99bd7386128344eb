//! The outcome of a run, for people and for programs.

use frame::Lanes;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::catalogs::CatalogCounts;
use super::tally::{Counts, Quantiles};

/// Most errors that a report lists. Its last entry counts the others.
const ERRORS_MAX: usize = 50;

/// Outcome of a run. Its serialized form is the object of `--report json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Distinct frames written at least once.
    pub sent: u64,
    /// Frames known to be on the server's stable storage, by ACK or BYE.
    pub acked: u64,
    /// Writes of frames that had been written before.
    pub resent: u64,
    /// Frames the server dropped as duplicates.
    pub duplicates: u64,
    /// Connections after each source's first.
    pub reconnects: u64,
    /// Both lanes of a source take their sequences from one counter, and HELLO said so (SHARED_SEQUENCE).
    pub shared_sequence: bool,
    /// Time from the start to the end of the last source, seconds.
    pub elapsed_s: f64,
    /// Acknowledged frames per second of this time.
    pub frames_per_s: f64,
    /// Acknowledged payload bytes per second of this time.
    pub bytes_per_s: f64,
    /// Time from a frame's first write to the ACK that covers it.
    pub ack_latency_us: Lanes<Quantiles>,
    /// Counts of the received catalogs; left out when no source asked for the catalog.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catalog: Option<CatalogCounts>,
    /// Why sources ended early, one line each: at most 50 and a line for the others; left out when there are
    /// none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
}

impl Report {
    pub(super) fn new(
        counts: Counts,
        ack_latency_us: Lanes<Quantiles>,
        elapsed: Duration,
        mut errors: Vec<String>,
    ) -> Self {
        errors.sort_unstable();
        if errors.len() > ERRORS_MAX {
            let more = errors.len() - ERRORS_MAX;
            errors.truncate(ERRORS_MAX);
            errors.push(format!("and {more} more"));
        }
        let elapsed_s = elapsed.as_secs_f64();
        let per_second = |count: u64| {
            if elapsed_s > 0.0 { count as f64 / elapsed_s } else { 0.0 }
        };
        Self {
            sent: counts.sent,
            acked: counts.acked,
            resent: counts.resent,
            duplicates: counts.duplicates,
            reconnects: counts.reconnects,
            shared_sequence: true,
            elapsed_s,
            frames_per_s: per_second(counts.acked),
            bytes_per_s: per_second(counts.acked_bytes),
            ack_latency_us,
            catalog: None,
            errors,
        }
    }

    /// Whether everything sent was acknowledged and no source failed.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.errors.is_empty() && self.acked == self.sent
    }
}

impl fmt::Display for Report {
    /// Writes several lines, without a line break at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "sent {}, acked {}, resent {}, duplicates {}, reconnects {}",
            self.sent, self.acked, self.resent, self.duplicates, self.reconnects
        )?;
        write!(
            f,
            "{:.3} s, {:.0} frames/s, {:.0} payload bytes/s; both lanes share one sequence counter",
            self.elapsed_s, self.frames_per_s, self.bytes_per_s
        )?;
        for (priority, lane) in self.ack_latency_us {
            let name = priority.name();
            let Quantiles { p50, p99, p999, max } = lane;
            write!(f, "\nack latency {name:<9} p50 {p50} us, p99 {p99} us, p999 {p999} us, max {max} us")?;
        }
        if let Some(catalog) = self.catalog {
            write!(f, "\n{catalog}")?;
        }
        for error in &self.errors {
            write!(f, "\nerror: {error}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(errors: Vec<String>) -> Report {
        let counts = Counts { sent: 10, acked: 10, acked_bytes: 2_560, ..Counts::default() };
        let lane = |p50| Quantiles { p50, p99: 2, p999: 3, max: 4 };
        Report::new(counts, Lanes::new(lane(1), lane(9)), Duration::from_secs(2), errors)
    }

    #[test]
    fn the_json_has_exactly_the_documented_keys() {
        let expected = serde_json::json!({
            "sent": 10, "acked": 10, "resent": 0, "duplicates": 0, "reconnects": 0, "shared_sequence": true,
            "elapsed_s": 2.0, "frames_per_s": 5.0, "bytes_per_s": 1280.0,
            "ack_latency_us": {
                "emergency": {"p50": 1, "p99": 2, "p999": 3, "max": 4},
                "routine": {"p50": 9, "p99": 2, "p999": 3, "max": 4},
            },
        });
        assert_eq!(serde_json::to_value(report(Vec::new())).unwrap(), expected);
        let with_error = serde_json::to_value(report(vec!["live/3: fenced".to_owned()])).unwrap();
        assert_eq!(with_error["errors"], serde_json::json!(["live/3: fenced"]));
    }

    #[test]
    fn a_report_is_complete_only_without_missing_frames_and_errors() {
        assert!(report(Vec::new()).is_complete());
        assert!(!report(vec![String::new()]).is_complete());
        let missing = Report { acked: 9, ..report(Vec::new()) };
        assert!(!missing.is_complete());
    }

    #[test]
    fn many_errors_are_cut_and_counted() {
        let report = report(vec!["e".to_owned(); ERRORS_MAX + 7]);
        assert_eq!(report.errors.len(), ERRORS_MAX + 1);
        assert_eq!(report.errors[ERRORS_MAX], "and 7 more");
    }
}
