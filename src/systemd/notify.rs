//! `sd_notify(3)`: datagrams of `NAME=value` lines to the socket that `NOTIFY_SOCKET` names.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// How long a notification may block if the service manager does not read.
const SEND_MAX: Duration = Duration::from_millis(200);
/// Added to the deadline of the drain, so that systemd does not kill a daemon that ends in time.
const STOP_MARGIN: Duration = Duration::from_secs(5);

/// Sends notifications to the service manager. Does nothing without one. Cheap to clone.
///
/// A notification that cannot be delivered is logged and dropped. The daemon continues.
#[derive(Clone, Debug, Default)]
pub struct Notifier(Option<Arc<Target>>);

/// Where notifications go.
#[derive(Debug)]
struct Target {
    /// An unbound socket to send from.
    socket: UnixDatagram,
    /// The socket of the service manager.
    address: SocketAddr,
}

impl Notifier {
    /// The notifier for the socket in `NOTIFY_SOCKET`.
    #[must_use]
    pub fn from_env() -> Self {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        Self::to(Path::new(&name)).unwrap_or_else(|error| {
            let name = name.display();
            tracing::warn!(%error, "NOTIFY_SOCKET is {name}, and the service manager cannot be notified there");
            Self::default()
        })
    }

    /// A notifier for the socket at `name`: an absolute path, or `@` and a name in the abstract namespace.
    ///
    /// # Errors
    /// `name` is not such an address.
    pub fn to(name: &Path) -> io::Result<Self> {
        let address = match name.as_os_str().as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(name)?,
            _ => {
                let text = "expected an absolute path, or @ and a name";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SEND_MAX))?;
        Ok(Self(Some(Arc::new(Target { socket, address }))))
    }

    /// Whether there is a service manager.
    #[must_use]
    pub const fn is_heard(&self) -> bool {
        self.0.is_some()
    }

    /// Reports that everything is up, or that a reload is done.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// Reports that a reload begins. The caller calls [`Self::ready`] after every outcome.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// Reports that the drain begins. It takes `deadline` at most, which may exceed `TimeoutStopSec` of the unit.
    pub fn stopping(&self, deadline: Duration) {
        let micros = deadline.saturating_add(STOP_MARGIN).as_micros();
        self.send(&format!(
            "STOPPING=1\nSTATUS=draining, {deadline:?} at most\nEXTEND_TIMEOUT_USEC={micros}"
        ));
    }

    /// Sends one line of status for people.
    pub fn status(&self, text: &str) {
        if self.is_heard() {
            self.send(&format!("STATUS={}", text.replace('\n', " ")));
        }
    }

    /// Reports that every stage makes progress.
    pub(super) fn watchdog(&self) {
        self.send("WATCHDOG=1");
    }

    fn send(&self, message: &str) {
        let Some(target) = &self.0 else { return };
        if let Err(error) = target.socket.send_to_addr(message.as_bytes(), &target.address) {
            tracing::warn!(%error, message, "the service manager cannot be notified");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 512];
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let len = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..len].to_vec()).unwrap()
    }

    #[test]
    fn paths_and_abstract_names_are_reached() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let at_path = UnixDatagram::bind(&path).unwrap();
        Notifier::to(&path).unwrap().ready();
        assert_eq!(received(&at_path), "READY=1");

        let name = format!("telemetry-aggregator-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let hidden = UnixDatagram::bind_addr(&address).unwrap();
        let notifier = Notifier::to(Path::new(&format!("@{name}"))).unwrap();
        notifier.status("two\nlines");
        assert_eq!(received(&hidden), "STATUS=two lines");
        notifier.stopping(Duration::from_secs(7));
        let text = received(&hidden);
        assert_eq!(text, "STOPPING=1\nSTATUS=draining, 7s at most\nEXTEND_TIMEOUT_USEC=12000000");
        notifier.reloading();
        let text = received(&hidden);
        let micros = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(micros.parse::<u64>().unwrap() > 0, "{text}");
    }

    #[test]
    fn a_missing_service_manager_is_ignored() {
        assert!(!Notifier::default().is_heard());
        Notifier::default().ready();
        Notifier::to(Path::new("/nowhere/at/all")).unwrap().ready();
        let error = Notifier::to(Path::new("vsock:2:1234")).unwrap_err().to_string();
        assert!(error.contains("absolute path"), "{error}");
    }
}
