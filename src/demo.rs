//! `demo`: the RFC's scenario end to end, over loopback TCP into a temporary archive.
//!
//! Four uplinks send ten frames each, with two emergencies in the middle. A replay sends five frames. One uplink is
//! registered after others have sent frames, and the operator removes one. Every uplink sends its batch in a single
//! write. Only the pipeline puts the emergencies first.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::time::{MissedTickBehavior, interval};

use crate::daemon::{Daemon, Handles};
use actor::Tasks;
use config::Config;
use frame::{FramePriority, SourceKind};
use ingest::pipeline::Counters;
use ingest::pipeline::stats::snapshot;

mod uplink;

use uplink::Uplink;

/// Frames of an uplink. The frames at [`EMERGENCIES`] are emergencies.
const UPLINK_FRAMES: u64 = 10;
/// Sequences of the emergencies of an uplink. Neither is the first in the batch.
const EMERGENCIES: [u64; 2] = [4, 7];
/// Frames of the replay.
const REPLAY_FRAMES: u64 = 5;
/// Frames that the archive must hold at the end.
const TOTAL: u64 = 4 * UPLINK_FRAMES + REPLAY_FRAMES;
/// How often the monitor reads the stats.
const MONITOR_PERIOD: Duration = Duration::from_millis(50);

/// Runs the scenario and logs it.
///
/// # Errors
/// If any step gives another result than expected.
pub async fn run() -> anyhow::Result<()> {
    let dir = tempfile::tempdir().context("cannot make a temporary directory")?;
    let daemon = Daemon::start(config(dir.path())).await?;
    let (address, handles) = (daemon.addresses().ingest, daemon.handles());
    let counters = std::sync::Arc::clone(&handles.counters);
    let (stop_tx, stop_rx) = tokio::sync::oneshot::channel::<()>();

    let mut monitor = Tasks::new();
    monitor.spawn("monitor", monitor_stats(std::sync::Arc::clone(&counters)));
    let scenario = async {
        let played = play(address, handles).await;
        drop(stop_tx);
        played
    };
    let (outcome, played) =
        tokio::join!(daemon.run(async { drop(stop_rx.await) }, std::future::pending()), scenario);
    monitor.abort_all();
    log_stats(&counters);
    played?;
    tracing::info!(total = outcome.totals.archived, "archive done");
    ensure!(outcome.totals.archived == TOTAL, "archived {} frames of {TOTAL}", outcome.totals.archived);
    ensure!(outcome.exit_code() == 0, "the drain ended with exit code {}", outcome.exit_code());
    Ok(())
}

fn config(dir: &std::path::Path) -> Config {
    let mut config = Config { data_dir: dir.to_owned(), ..Config::default() };
    config.ingest.listen.set_port(0);
    config.feed.listen.set_port(0);
    config.http.listen.set_port(0);
    config.archive.reserve = 32 << 20;
    config.archive.segment_size = 32 << 20;
    config
}

async fn play(address: SocketAddr, handles: Handles) -> anyhow::Result<()> {
    let mut uplinks = Vec::new();
    for source_id in 0..3 {
        uplinks.push(Uplink::connect(address, source_id, SourceKind::LiveUplink).await?);
    }
    let mut replay = Uplink::connect(address, 100, SourceKind::ArchivedReplay).await?;
    for uplink in &mut uplinks {
        uplink.send(&uplink_batch()).await?;
    }
    replay.send(&vec![FramePriority::Routine; REPLAY_FRAMES as usize]).await?;

    tracing::info!("registering one more source mid-run");
    let mut late = Uplink::connect(address, 3, SourceKind::LiveUplink).await?;
    late.send(&uplink_batch()).await?;

    let mut removed = uplinks.remove(1);
    removed.await_acknowledged().await?;
    tracing::info!(source = 1, "removing a source mid-run");
    ensure!(handles.router.remove(removed.session_id()).await?, "the source to remove is not registered");
    removed.await_removed().await?;

    for mut uplink in uplinks.into_iter().chain([late, replay]) {
        uplink.finish().await?;
    }
    Ok(())
}

fn uplink_batch() -> Vec<FramePriority> {
    let priority = |sequence| match EMERGENCIES.contains(&sequence) {
        true => FramePriority::Emergency,
        false => FramePriority::Routine,
    };
    (0..UPLINK_FRAMES).map(priority).collect()
}

async fn monitor_stats(counters: std::sync::Arc<Counters>) {
    let mut ticks = interval(MONITOR_PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        log_stats(&counters);
    }
}

fn log_stats(counters: &Counters) {
    let stats = snapshot(counters);
    tracing::info!(
        routed = stats.frames_routed,
        processed = stats.frames_processed,
        emergency = stats.emergency_count,
        "stats"
    );
}
