//! Values that the kernel reports about a process.

use std::net::SocketAddr;

/// The peak of the resident memory of the process, in KiB.
pub fn rss_max_kib(pid: u32) -> u64 {
    rss_max_kib_if_running(pid).expect("VmHWM in the status of a running process")
}

/// Like [`rss_max_kib`]. `None` if the process has ended: then it has no memory.
pub fn rss_max_kib_if_running(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number of KiB"))
}

/// Bytes in the send queue of the IPv4 socket at `local` that is connected to `remote`.
pub fn send_queue_bytes(local: SocketAddr, remote: SocketAddr) -> u64 {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's table of sockets");
    let mut rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row[1] == hex(local) && row[2] == hex(remote));
    let row = row.unwrap_or_else(|| panic!("no socket from {local} to {remote}"));
    let (unsent, _) = row[4].split_once(':').expect("two queues");
    u64::from_str_radix(unsent, 16).expect("a hexadecimal number")
}

/// The address as the kernel's table writes it: the IP address as a native number, the port in normal order.
fn hex(address: SocketAddr) -> String {
    let SocketAddr::V4(address) = address else { panic!("{address} is no IPv4 address") };
    let ip = u32::from_ne_bytes(address.ip().octets());
    format!("{ip:08X}:{:04X}", address.port())
}
