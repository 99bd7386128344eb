//! What the rounds of all sittings found. A long form keeps the totals in a file and goes on where it was interrupted.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::track::Faults;

/// The totals of each fault.
pub struct Figures {
    /// None keeps nothing.
    file: Option<PathBuf>,
    rows: BTreeMap<String, Row>,
}

#[derive(Default)]
struct Row {
    rounds: u64,
    /// Frames that were acknowledged since the round before.
    acked: u64,
    lost: u64,
    doubled: u64,
    wrong: u64,
    seconds: f64,
    /// Time to recover of each round, in milliseconds.
    recovery_ms: Vec<u64>,
}

/// The outcome of one round.
pub struct Round<'a> {
    pub fault: &'a str,
    pub acked: u64,
    /// None where the fault leaves nothing to recover from.
    pub recovery: Option<Duration>,
    pub elapsed: Duration,
    pub faults: &'a Faults,
}

impl Figures {
    /// Figures of this run alone.
    pub const fn of_this_run() -> Self {
        Self { file: None, rows: BTreeMap::new() }
    }

    /// Figures that continue those in `CHAOS_TOTALS`, by default a file in the directory of the build.
    pub fn of_all_sittings() -> Self {
        let default = || PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("chaos-totals.json");
        let file = std::env::var_os("CHAOS_TOTALS").map_or_else(default, PathBuf::from);
        let rows = std::fs::read_to_string(&file).map(|text| rows_in(&text)).unwrap_or_default();
        println!("totals in {}", file.display());
        Self { file: Some(file), rows }
    }

    /// Adds a round, keeps the totals and prints the round.
    pub fn add(&mut self, round: &Round<'_>) {
        let row = self.rows.entry(round.fault.to_owned()).or_default();
        row.rounds += 1;
        row.acked += round.acked;
        row.lost += round.faults.lost;
        row.doubled += round.faults.doubled;
        row.wrong += round.faults.wrong;
        row.seconds += round.elapsed.as_secs_f64();
        let recovery = round.recovery.map(|time| time.as_millis() as u64);
        row.recovery_ms.extend(recovery);
        let recovery = recovery.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
        println!(
            "{}: round {}, {} acknowledged, recovered in {recovery}, {:.1} s",
            round.fault,
            row.rounds,
            round.acked,
            round.elapsed.as_secs_f64()
        );
        self.keep();
    }

    /// Rounds of all faults whose name begins with `prefix`.
    pub fn rounds(&self, prefix: &str) -> u64 {
        self.of(prefix).map(|row| row.rounds).sum()
    }

    /// Seconds of all rounds whose fault begins with `prefix`.
    pub fn seconds(&self, prefix: &str) -> f64 {
        self.of(prefix).map(|row| row.seconds).sum()
    }

    fn of(&self, prefix: &str) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |(fault, _)| fault.starts_with(prefix)).map(|(_, row)| row)
    }

    /// The table of `docs/reliability.md`.
    pub fn table(&self) -> String {
        let mut table = String::from(
            "| fault | rounds | frames acknowledged | lost | twice | wrong | recovery p50 | recovery max |\n\
             |---|---|---|---|---|---|---|---|\n",
        );
        for (fault, row) in &self.rows {
            let mut times = row.recovery_ms.clone();
            times.sort_unstable();
            let middle = times.get(times.len() / 2).map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
            let longest = times.last().map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
            let Row { rounds, acked, lost, doubled, wrong, .. } = row;
            let numbers = format!("{rounds} | {acked} | {lost} | {doubled} | {wrong}");
            writeln!(table, "| {fault} | {numbers} | {middle} | {longest} |").unwrap();
        }
        table
    }

    fn keep(&self) {
        let Some(file) = &self.file else { return };
        let rows = self.rows.iter().map(|(fault, row)| (fault.clone(), row.json()));
        let text = Value::Object(rows.collect()).to_string();
        // A rename: an interruption must not leave half a file.
        let unfinished = file.with_extension("tmp");
        std::fs::write(&unfinished, text).expect("the totals cannot be kept");
        std::fs::rename(&unfinished, file).expect("the totals cannot be kept");
    }
}

impl Row {
    fn json(&self) -> Value {
        json!({
            "rounds": self.rounds,
            "acknowledged": self.acked,
            "lost": self.lost,
            "twice": self.doubled,
            "wrong": self.wrong,
            "seconds": self.seconds,
            "recovery_ms": self.recovery_ms,
        })
    }

    fn of(value: &Value) -> Self {
        let number = |name: &str| value[name].as_u64().unwrap_or(0);
        let times = value["recovery_ms"].as_array().into_iter().flatten();
        Self {
            rounds: number("rounds"),
            acked: number("acknowledged"),
            lost: number("lost"),
            doubled: number("twice"),
            wrong: number("wrong"),
            seconds: value["seconds"].as_f64().unwrap_or(0.0),
            recovery_ms: times.filter_map(Value::as_u64).collect(),
        }
    }
}

fn rows_in(text: &str) -> BTreeMap<String, Row> {
    let value: Value = serde_json::from_str(text).expect("the totals are JSON");
    let rows = value.as_object().expect("the totals are an object").iter();
    rows.map(|(fault, row)| (fault.clone(), Row::of(row))).collect()
}
