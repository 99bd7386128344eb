//! One comparison: contenders in turn, medians, ratios.

use std::pin::Pin;

use tokio::runtime::{Builder, Runtime};

use crate::gauge::Spent;

const ROUNDS: usize = 5;

/// Starts one measurement. The future is driven by a runtime made for it alone.
type Run = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Spent>>>>;

/// What the tasks run on.
#[derive(Clone, Copy)]
pub(crate) enum Workers {
    /// The current thread.
    Current,
    /// Two threads of tokio's.
    Two,
}

impl Workers {
    fn runtime(self) -> Runtime {
        let mut builder = match self {
            Self::Current => Builder::new_current_thread(),
            Self::Two => Builder::new_multi_thread(),
        };
        builder.worker_threads(2).enable_time().build().unwrap()
    }
}

/// A comparison of contenders; the first is what the others are measured by.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    operation: &'static str,
    workers: Workers,
    operations: u64,
    contenders: Vec<(&'static str, Run)>,
}

impl Case {
    pub(crate) fn new(
        name: &'static str,
        operation: &'static str,
        workers: Workers,
        operations: u64,
    ) -> Self {
        Self { name, operation, workers, operations, contenders: Vec::new() }
    }

    pub(crate) fn run<F: Future<Output = Spent> + 'static>(
        mut self,
        contender: &'static str,
        run: impl Fn() -> F + 'static,
    ) -> Self {
        self.contenders.push((contender, Box::new(move || Box::pin(run()))));
        self
    }

    /// Measures the contenders, or `only` that one, and prints the table.
    pub(crate) fn compare(&self, only: &str) {
        let chosen: Vec<_> =
            self.contenders.iter().filter(|(name, _)| only.is_empty() || *name == only).collect();
        let mut spent = vec![Vec::new(); chosen.len()];
        for _ in 0..ROUNDS {
            for ((_, run), spent) in chosen.iter().zip(&mut spent) {
                spent.push(self.workers.runtime().block_on(run()));
            }
        }
        println!("\n{}: ns per {}", self.name, self.operation);
        println!("  {:<16}{:>9}{:>9}{:>9}{:>9}{:>9}", "", "wall", "M/s", "ratio", "CPU", "ratio");
        let mut base = None;
        for ((name, _), spent) in chosen.iter().zip(&spent) {
            let wall = self.median(spent.iter().map(|spent| spent.wall.as_secs_f64()));
            let cpu = self.median(spent.iter().map(|spent| spent.cpu.as_secs_f64()));
            let (base_wall, base_cpu) = *base.get_or_insert((wall, cpu));
            let (wall_ratio, cpu_ratio) = (wall / base_wall, cpu / base_cpu);
            let per_second = 1e3 / wall;
            println!("  {name:<16}{wall:>9.1}{per_second:>9.2}{wall_ratio:>9.2}{cpu:>9.1}{cpu_ratio:>9.2}");
        }
    }

    /// In nanoseconds per operation.
    #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    fn median(&self, seconds: impl Iterator<Item = f64>) -> f64 {
        let mut sorted: Vec<f64> = seconds.collect();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2] * 1e9 / self.operations as f64
    }
}
