//! A network namespace with a cable to the namespace of the test, for partitions.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Addresses for tests, which no host has: 198.18.0.0/15.
const BENCHMARKS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
/// Networks of four addresses there.
const NETWORKS: u32 = 1 << 15;

/// Moves the calling thread into the namespace. Its new sockets are there.
pub fn enter(namespace: &Path) {
    let file = File::open(namespace).expect("the namespace is there");
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .expect("the namespace can be entered");
}

/// A namespace with a pair of interfaces. Dropping it removes all of it.
pub struct Namespace {
    name: String,
    /// Number of the pair of addresses: the first is that of the test, the second is that of this namespace.
    network: u32,
}

impl Namespace {
    /// # Errors
    /// The reason why that is not possible on this machine.
    pub fn new() -> Result<Self, String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Other tests may have namespaces at the same time.
        let network = (8 * std::process::id() + NEXT.fetch_add(1, Relaxed)) % NETWORKS;
        let name = format!("chaos-{}-{network}", std::process::id());
        ip(&["netns", "add", &name])?;
        let namespace = Self { name, network };
        let (near, far) = (namespace.device('a'), namespace.device('b'));
        ip(&["link", "add", &near, "type", "veth", "peer", "name", &far, "netns", &namespace.name])?;
        ip(&["address", "add", &format!("{}/30", namespace.near()), "dev", &near])?;
        ip(&["link", "set", &near, "up"])?;
        namespace.inside(&["address", "add", &format!("{}/30", namespace.far()), "dev", &far])?;
        namespace.inside(&["link", "set", &far, "up"])?;
        Ok(namespace)
    }

    /// The namespace as a file.
    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// The address of the test.
    pub fn host(&self) -> [u8; 4] {
        self.address(1).octets()
    }

    fn near(&self) -> String {
        self.address(1).to_string()
    }

    fn far(&self) -> String {
        self.address(2).to_string()
    }

    fn address(&self, of_network: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(BENCHMARKS.to_bits() + 4 * self.network + of_network)
    }

    fn device(&self, end: char) -> String {
        format!("ch{}{end}{}", std::process::id(), self.network)
    }

    /// Pulls or plugs the cable at the end of the namespace.
    pub fn set_link(&self, is_up: bool) {
        self.inside(&["link", "set", &self.device('b'), if is_up { "up" } else { "down" }]).unwrap();
    }

    /// Drops or passes what goes from the namespace to the test.
    pub fn set_way_out(&self, is_open: bool) {
        self.inside(&["route", change(is_open), "blackhole", &self.near()]).unwrap();
    }

    /// Drops or passes what goes from the test to the namespace.
    pub fn set_way_in(&self, is_open: bool) {
        ip(&["route", change(is_open), "blackhole", &self.far()]).unwrap();
    }

    fn inside(&self, args: &[&str]) -> Result<(), String> {
        ip(&[&["-n", &self.name][..], args].concat())
    }
}

const fn change(is_open: bool) -> &'static str {
    if is_open { "delete" } else { "add" }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(ip(&["route", "delete", "blackhole", &self.far()]));
        drop(ip(&["link", "delete", &self.device('a')]));
        drop(ip(&["netns", "delete", &self.name]));
    }
}

fn ip(args: &[&str]) -> Result<(), String> {
    let ran = Command::new("ip").args(args).output().map_err(|error| format!("ip: {error}"))?;
    if ran.status.success() {
        return Ok(());
    }
    Err(format!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&ran.stderr).trim()))
}
