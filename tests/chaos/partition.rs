//! Partitions between network namespaces.

use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;

use crate::scene::Scene;

/// Where the network is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partition {
    /// The cable is pulled.
    Link,
    /// What the clients send is dropped.
    ToDaemon,
    /// What the daemon sends is dropped.
    ToClients,
}

pub const PARTITIONS: [Partition; 3] = [Partition::Link, Partition::ToDaemon, Partition::ToClients];

impl Partition {
    /// The name in the table of figures.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Link => "partition: the link is down for 1 to 6 s",
            Self::ToDaemon => "partition: packets to the daemon are dropped for 1 to 6 s",
            Self::ToClients => "partition: packets to the clients are dropped for 1 to 6 s",
        }
    }

    /// Lets this happen to `scene`, and asserts that it did. Returns when it was over.
    pub fn strike(self, scene: &mut Scene, rng: &mut StdRng) -> Instant {
        let time = Duration::from_millis(rng.random_range(700..5_700));
        self.set(scene, false);
        scene.assert_nothing_acked(time);
        self.set(scene, true);
        Instant::now()
    }

    fn set(self, scene: &Scene, is_open: bool) {
        match self {
            Self::Link => scene.namespace().set_link(is_open),
            Self::ToDaemon => scene.namespace().set_way_out(is_open),
            Self::ToClients => scene.namespace().set_way_in(is_open),
        }
    }
}
