//! What the run learns from acknowledgements, on a simulated clock.

use super::*;
use crate::Plan;
use frame::Lanes;

fn script(now: Instant) -> SourceScript {
    let plan = Plan { frames: Some(1000), emergency_ratio: 0.0, ..Plan::default() };
    let shared = Arc::new(Shared::new(plan, Arc::default()));
    SourceScript {
        resend: ResendBuffer::new(shared.plan.content(0), 1000, Mode::Acked),
        schedule: Schedule::new(now, 0.0),
        feed: Feed::new(tokio::sync::watch::channel(false).1, None, Duration::ZERO),
        sent: 0,
        catalog: Assembly::default(),
        ert_base_ns: None,
        shared,
    }
}

#[tokio::test(start_paused = true)]
async fn latency_runs_from_the_first_write_to_the_ack() {
    let now = Instant::now();
    let mut script = script(now);
    script.resend.open(Lanes::default(), 4096).unwrap();
    let mut ack =
        Ack { priority: FramePriority::Routine, duplicates: 0, durable_next: 0, credit_limit: 10 * 276 };
    assert_eq!(script.acknowledge(&ack, now), Ok(false));
    script.fill(&mut BytesMut::new(), now).unwrap();
    (ack.durable_next, ack.duplicates) = (9, 4);
    assert_eq!(script.acknowledge(&ack, now + Duration::from_secs(20)), Ok(true));
    let Lanes { emergency, routine } = script.shared.latency.quantiles();
    assert_eq!(emergency.max, 0);
    for quantile in [routine.p50, routine.max] {
        assert!((19_980_000..=20_020_000).contains(&quantile), "{quantile}");
    }
    let counts = script.shared.progress.counts();
    assert_eq!((counts.sent, counts.acked, counts.duplicates), (10, 9, 4));
}
