//! A cluster of three servers: each frame is in the stream once, whatever is killed or cut.

use std::time::Duration;

use crate::line::Line;
use crate::server::{Cluster, count, stored};
use crate::support::{Daemon, archived, wait_until};
use crate::{assert_each_once, config, python, send, wait_forwarded};

/// The servers forget the ids of messages after this time.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(1);

#[test]
fn each_frame_is_in_the_stream_of_a_cluster_once() {
    let Some(python) = python() else { return };
    let mut cluster = Cluster::start(&python);
    cluster.create(DUPLICATE_WINDOW);
    let lines = cluster.0.each_ref().map(|server| Line::to(server.address()));
    let through = lines.each_ref().map(Line::url).join(",");
    let mut daemon = Daemon::start(&config(&through, "replicas = 3"));
    for round in 0..6 {
        let before = count(&cluster.url());
        send(&daemon, 300);
        // Something is on its way.
        wait_until("messages", || match count(&cluster.url()) {
            now if now > before => Ok(()),
            _ => Err("none".to_owned()),
        });
        match round % 3 {
            0 => {
                let leader = cluster.leader();
                leader.kill();
                send(&daemon, 100);
                leader.go_on();
            }
            1 => daemon = daemon.kill_and_restart(),
            _ => {
                lines.iter().for_each(Line::go_down);
                send(&daemon, 100);
                // The servers forget what they have seen.
                std::thread::sleep(2 * DUPLICATE_WINDOW);
                lines.iter().for_each(Line::go_up);
            }
        }
    }
    let frames = archived(&daemon.archive_dir());
    wait_forwarded(&daemon, frames.len() as u64);
    assert_each_once(&stored(&cluster.url()), &frames);
    daemon.stop();
}
