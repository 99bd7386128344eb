//! When certificates expire: for the metrics, and one line a day in the log.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use config::{Config, ConfigHandle};
use frame::unix_now_ns;

/// How often to look. The configuration warns by itself when it is loaded.
const EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// Logs every day which certificates of the configuration in force expire soon. Never returns.
pub async fn watch(live: ConfigHandle) {
    let mut days = interval(EVERY);
    days.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick comes at once.
    days.tick().await;
    loop {
        days.tick().await;
        for warning in expiring(&live.current()) {
            tracing::warn!("{warning}");
        }
    }
}

/// A sentence for each certificate of `config` that expires soon.
fn expiring(config: &Config) -> Vec<String> {
    let now = Duration::from_nanos(unix_now_ns().unsigned_abs());
    config.tls.expiring(now)
}
