//! A measured child process.

use std::path::Path;
use std::process::{Child, ChildStdout, Command};

/// Nanoseconds per tick of /proc/PID/stat on Linux.
const TICK_NS: u64 = 10_000_000;

/// A process. Dropping this kills it.
pub struct Receiver(Child);

/// The resources that a process has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Time on a CPU, in user space and in the kernel.
    pub cpu_ns: u64,
    pub resident_bytes: u64,
    /// The peak of the resident memory.
    pub resident_bytes_peak: u64,
    /// Context switches because a thread waited.
    pub switches_voluntary: u64,
    /// Context switches because the kernel took the CPU from a thread.
    pub switches_involuntary: u64,
}

impl Receiver {
    pub fn spawn(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// The stdout of the process. It must be piped.
    pub fn stdout(&mut self) -> ChildStdout {
        self.0.stdout.take().unwrap()
    }

    /// Panics if the process has ended. A measured process never ends by itself.
    pub fn assert_running(&mut self) {
        let status = self.0.try_wait().unwrap();
        assert!(status.is_none(), "the process has ended: {status:?}");
    }

    /// Sends SIGTERM and waits for the end. Panics if the exit code is not 0.
    pub fn terminate(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = self.0.wait().unwrap();
        assert!(status.success(), "{status}");
    }

    pub fn usage(&self) -> Usage {
        let process = format!("/proc/{}", self.pid());
        let process = Path::new(&process);
        let mut usage = Usage { cpu_ns: ticks(process) * TICK_NS, ..Usage::default() };
        let mut threads_ns = 0;
        for thread in std::fs::read_dir(process.join("task")).unwrap() {
            let thread = thread.unwrap().path();
            // A thread may end while its files are read.
            let Ok(status) = std::fs::read_to_string(thread.join("status")) else { continue };
            threads_ns += on_cpu_ns(&thread.join("schedstat")).unwrap_or(0);
            usage.switches_voluntary += field(&status, "voluntary_ctxt_switches:");
            usage.switches_involuntary += field(&status, "nonvoluntary_ctxt_switches:");
        }
        // The threads report nanoseconds. The time of ended threads is only in the ticks of the process.
        usage.cpu_ns = usage.cpu_ns.max(threads_ns);
        let status = std::fs::read_to_string(process.join("status")).unwrap();
        usage.resident_bytes = field(&status, "VmRSS:") * 1024;
        usage.resident_bytes_peak = field(&status, "VmHWM:") * 1024;
        usage
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// CPU time of the calling thread.
pub fn own_thread_cpu_ns() -> u64 {
    on_cpu_ns(Path::new("/proc/thread-self/schedstat")).unwrap()
}

/// User and system time of a whole process.
fn ticks(process: &Path) -> u64 {
    let stat = std::fs::read_to_string(process.join("stat")).unwrap();
    // utime and stime are the 14th and 15th fields; the 2nd, in parentheses, may hold spaces.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

/// The first field of a schedstat file: the time on a CPU.
fn on_cpu_ns(schedstat: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(schedstat).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// The number after `name`, without its unit.
fn field(status: &str, name: &str) -> u64 {
    let rest = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    rest.split_whitespace().next().unwrap().parse().unwrap()
}
