//! The watchdog: it notifies the service manager as long as every stage makes progress.
//!
//! A separate thread looks at each [`Liveness`] several times per interval. So it can name a stage that hangs even if
//! all workers of the runtime hang. A stage that waits for input, for the archive (a full disk) or for room is healthy.
//! A stage that hangs in one step for an interval, in a system call or in a loop, is not. The watchdog logs it and
//! stops its notifications. An interval later the service manager restarts the daemon. If the stage makes progress
//! before that, the notifications continue.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Notifier;
use frame::liveness::{Liveness, Probe};

/// Number of looks per interval. A stage that makes no progress for this many looks is late.
const LOOKS: u32 = 4;

/// The interval of the service manager: `WATCHDOG_USEC`, if it is meant for this process.
pub(super) fn interval_from_env() -> Option<Duration> {
    let variable = |name| std::env::var(name).ok();
    interval(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"), std::process::id())
}

fn interval(micros: Option<String>, pid: Option<String>, own_pid: u32) -> Option<Duration> {
    if pid.is_some_and(|pid| pid.parse() != Ok(own_pid)) {
        return None;
    }
    let micros = micros?;
    match micros.parse() {
        Ok(micros) if micros > 0 => Some(Duration::from_micros(micros)),
        _ => {
            tracing::warn!("WATCHDOG_USEC is {micros:?}, expected microseconds: there is no watchdog");
            None
        }
    }
}

/// The running watchdog. It ends when dropped.
#[derive(Debug)]
pub struct Watchdog {
    /// A message says that the drain has begun; closing it ends the thread. `None` only while it is dropped.
    drain_tx: Option<Sender<()>>,
    /// The thread. `None` only while it is dropped.
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Watches `stages`, each with its name. Notifies `notifier` several times in each `interval`.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(
        interval: Duration,
        notifier: Notifier,
        stages: Vec<(Arc<str>, Liveness)>,
    ) -> std::io::Result<Self> {
        let names = stages.iter().map(|(name, _)| &**name).collect::<Vec<_>>().join(", ");
        tracing::info!(?interval, stages = names, "watchdog started");
        let (drain_tx, drain) = channel();
        let watch = Watch { interval, notifier, stages: stages.into_iter().map(Stage::new).collect() };
        let thread = std::thread::Builder::new().name("watchdog".into()).spawn(move || watch.run(&drain))?;
        Ok(Self { drain_tx: Some(drain_tx), thread: Some(thread) })
    }

    /// Stops the watch, because stages end one after the other in a drain. `shutdown.deadline` limits the drain.
    pub fn drain(&self) {
        if let Some(drain_tx) = &self.drain_tx {
            // If the thread is gone, it needs no message.
            let _ = drain_tx.send(());
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.drain_tx.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The work of the thread.
struct Watch {
    /// After this time without a notification the service manager kills the daemon.
    interval: Duration,
    /// Notifies the service manager.
    notifier: Notifier,
    /// The stages that must make progress; none during the drain, when stages end.
    stages: Vec<Stage>,
}

impl Watch {
    fn run(mut self, drain: &Receiver<()>) {
        loop {
            match drain.recv_timeout(self.interval / LOOKS) {
                Ok(()) => self.stages.clear(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.is_well() {
                self.notifier.watchdog();
            }
        }
    }

    /// Looks at every stage. Logs stages that became late or continue.
    fn is_well(&mut self) -> bool {
        let mut is_well = true;
        for stage in &mut self.stages {
            let was_late = stage.is_late();
            stage.look();
            is_well &= !stage.is_late();
            match (was_late, stage.is_late()) {
                (false, true) => tracing::error!(
                    stage = &*stage.name,
                    "watchdog: this stage hangs, it made no progress for {:?}; unless it continues, the service \
                     manager restarts the daemon; no acknowledged frame is lost",
                    self.interval
                ),
                (true, false) => tracing::warn!(stage = &*stage.name, "watchdog: this stage continues"),
                _ => {}
            }
        }
        is_well
    }
}

/// A stage that is watched.
#[derive(Debug)]
struct Stage {
    /// Its name in the log.
    name: Arc<str>,
    /// Tells how far it is.
    liveness: Liveness,
    /// What the last look saw.
    last: Probe,
    /// Number of consecutive looks without progress. It counts looks instead of time, because after a suspend of the
    /// machine the stages are not late.
    still: u32,
}

impl Stage {
    fn new((name, liveness): (Arc<str>, Liveness)) -> Self {
        Self { last: liveness.look(), name, liveness, still: 0 }
    }

    fn look(&mut self) {
        let look = self.liveness.look();
        let is_still = look == self.last && !look.is_at_rest;
        self.still = if is_still { self.still.saturating_add(1) } else { 0 };
        self.last = look;
    }

    fn is_late(&self) -> bool {
        self.still >= LOOKS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_used_only_if_it_is_for_this_process() {
        let of = |micros: &str, pid: Option<&str>| interval(Some(micros.to_owned()), pid.map(Into::into), 7);
        assert_eq!(of("1500000", Some("7")), Some(Duration::from_millis(1_500)));
        assert_eq!(of("1500000", None), Some(Duration::from_millis(1_500)));
        assert_eq!(of("1500000", Some("8")), None);
        assert_eq!(of("0", None), None);
        assert_eq!(of("soon", None), None);
        assert_eq!(interval(None, None, 7), None);
    }

    #[test]
    fn a_stage_is_late_after_an_interval_without_a_turn_until_its_next_turn() {
        let liveness = [Liveness::of_thread(), Liveness::of_thread()];
        let named =
            |(index, liveness): (usize, &Liveness)| Stage::new((index.to_string().into(), liveness.clone()));
        let stages = liveness.iter().enumerate().map(named).collect();
        let mut watch = Watch { interval: Duration::from_secs(1), notifier: Notifier::default(), stages };
        for _ in 0..3 * LOOKS {
            assert!(watch.is_well(), "a waiting stage is not late");
        }
        for _ in 0..3 * LOOKS {
            liveness.iter().for_each(Liveness::work);
            assert!(watch.is_well(), "a stage that turns is not late");
        }
        for _ in 1..LOOKS {
            liveness[0].work();
            assert!(watch.is_well(), "it still has time");
        }
        liveness[0].work();
        assert!(!watch.is_well(), "it is late");
        assert!(watch.stages[1].is_late() && !watch.stages[0].is_late());
        assert!(!watch.is_well());
        liveness.iter().for_each(Liveness::work);
        assert!(watch.is_well(), "it turns");
    }
}
