//! Socket activation (`sd_listen_fds(3)`): listeners that the service manager has bound. It keeps them while the daemon
//! is down.

use std::io;
use std::net::TcpListener;

use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;

/// The names of sockets, `FileDescriptorName=` in their units.
pub const NAMES: [&str; 3] = ["ingest", "feed", "http"];

/// Sockets from the service manager. Each replaces the bind of its listener.
#[derive(Debug, Default)]
pub struct Sockets {
    /// For sources.
    pub ingest: Option<TcpListener>,
    /// For subscribers.
    pub feed: Option<TcpListener>,
    /// For operators.
    pub http: Option<TcpListener>,
}

/// Why sockets from the service manager cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ActivationError {
    /// `LISTEN_FDS` is not a number of sockets that this daemon takes.
    #[error(
        "LISTEN_FDS is {0:?}: expected the number of sockets handed over, at most 3, named \"ingest\", \"feed\" and \
         \"http\"; unset LISTEN_FDS to bind all addresses of the configuration"
    )]
    Count(String),
    /// The number of names differs from the number of sockets.
    #[error(
        "{sockets} sockets were handed over and LISTEN_FDNAMES names {names} of them: expected a name for each, by \
         FileDescriptorName= in its .socket unit"
    )]
    Names {
        /// How many sockets there are.
        sockets: usize,
        /// How many names.
        names: usize,
    },
    /// No listener has this name.
    #[error(
        "a socket named {0:?} was handed over: expected \"ingest\", \"feed\" or \"http\" as FileDescriptorName= in its \
         .socket unit"
    )]
    UnknownName(String),
    /// Two sockets have the same name. A listener takes only one.
    #[error(
        "two sockets named {0:?} were handed over: expected one ListenStream= in its .socket unit; [::]:port \
         accepts IPv4 too"
    )]
    Twice(&'static str),
    /// The socket is not a listening TCP socket.
    #[error(
        "the socket {name:?} that was handed over is no listening TCP socket: expected ListenStream= with an \
         address and \
         a port, and Accept=no, in its .socket unit"
    )]
    Kind {
        /// The name of the socket.
        name: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl Sockets {
    /// Takes the sockets of this process and removes their variables from the environment.
    ///
    /// As in `sd_listen_fds(3)`, sockets belong to the process that `LISTEN_PID` names. `LISTEN_FDS` without
    /// `LISTEN_PID` or for another process was inherited and is ignored.
    ///
    /// # Errors
    /// [`ActivationError`].
    pub fn from_env() -> Result<Self, ActivationError> {
        let text = |name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        let Some(fds) = text("LISTEN_FDS") else { return Ok(Self::default()) };
        let pid = text("LISTEN_PID").unwrap_or_default();
        if !is_for(std::process::id(), &pid) {
            tracing::warn!("LISTEN_FDS is ignored: LISTEN_PID is {pid:?}, which is not this process");
            return Ok(Self::default());
        }
        count(&fds)?;
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut fds = ListenFd::from_env();
        Self::named(&names, fds.len(), |index| fds.take_tcp_listener(index))
    }

    /// Takes `count` sockets by their `names`, separated by colons.
    fn named(
        names: &str,
        count: usize,
        mut take: impl FnMut(usize) -> io::Result<Option<TcpListener>>,
    ) -> Result<Self, ActivationError> {
        let mut sockets = Self::default();
        if count == 0 {
            return Ok(sockets);
        }
        let names: Vec<&str> = names.split(':').filter(|name| !name.is_empty()).collect();
        if names.len() != count {
            return Err(ActivationError::Names { sockets: count, names: names.len() });
        }
        for (index, name) in names.into_iter().enumerate() {
            let [ingest, feed, http] = NAMES;
            let (name, place) = match name {
                "ingest" => (ingest, &mut sockets.ingest),
                "feed" => (feed, &mut sockets.feed),
                "http" => (http, &mut sockets.http),
                other => return Err(ActivationError::UnknownName(other.to_owned())),
            };
            if place.is_some() {
                return Err(ActivationError::Twice(name));
            }
            let taken = take(index).and_then(listening);
            *place = taken.map_err(|source| ActivationError::Kind { name, source })?;
        }
        Ok(sockets)
    }
}

/// Whether `pid` names the process `own`.
fn is_for(own: u32, pid: &str) -> bool {
    pid.parse() == Ok(own)
}

/// The number of sockets in `LISTEN_FDS`. It is checked before memory is allocated for that many sockets.
fn count(fds: &str) -> Result<usize, ActivationError> {
    fds.parse()
        .ok()
        .filter(|count| *count <= NAMES.len())
        .ok_or_else(|| ActivationError::Count(fds.to_owned()))
}

/// Prepares the listener for tokio. A socket that does not listen is an error.
fn listening(socket: Option<TcpListener>) -> io::Result<Option<TcpListener>> {
    if let Some(socket) = &socket {
        if !socket_acceptconn(socket)? {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it does not listen"));
        }
        socket.set_nonblocking(true)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, Socket, Type};

    fn named(names: &str, count: usize) -> Result<Sockets, ActivationError> {
        Sockets::named(names, count, |_| TcpListener::bind("127.0.0.1:0").map(Some))
    }

    #[test]
    fn sockets_are_assigned_by_name() {
        let sockets = named("http:ingest", 2).unwrap();
        assert!(sockets.ingest.is_some() && sockets.feed.is_none() && sockets.http.is_some());
        let none = named("whatever was left there", 0).unwrap();
        assert!(none.ingest.is_none() && none.feed.is_none() && none.http.is_none());
    }

    #[test]
    fn ambiguous_sockets_are_refused_with_a_remedy() {
        let text = |names: &str, count: usize| named(names, count).unwrap_err().to_string();
        let missing = text("ingest", 2);
        assert!(missing.contains("2 sockets") && missing.contains("FileDescriptorName="), "{missing}");
        let unset = text("", 1);
        assert!(unset.contains("names 0 of them"), "{unset}");
        let unknown = text("telemetry.socket", 1);
        assert!(unknown.contains("\"telemetry.socket\"") && unknown.contains("\"feed\""), "{unknown}");
        let twice = text("feed:feed", 2);
        assert!(twice.contains("two sockets named \"feed\""), "{twice}");
    }

    #[test]
    fn sockets_belong_to_the_process_in_listen_pid() {
        assert!(is_for(7, "7"));
        for other in ["", "8", "-7", "7 ", "seven", "18446744073709551623"] {
            assert!(!is_for(7, other), "{other:?}");
        }
    }

    #[test]
    fn an_invalid_number_of_sockets_is_refused_with_a_remedy() {
        assert_eq!([0, 1, 3].map(|number| count(&number.to_string()).unwrap()), [0, 1, 3]);
        for absurd in ["", "-1", "4", "two", "999999999999", "18446744073709551617"] {
            let error = count(absurd).unwrap_err().to_string();
            let says = [&format!("LISTEN_FDS is {absurd:?}"), "at most 3", "unset LISTEN_FDS"];
            assert!(says.iter().all(|part| error.contains(part)), "{error}");
        }
    }

    #[test]
    fn a_socket_that_does_not_listen_is_refused() {
        let idle = || Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let error = Sockets::named("ingest", 1, |_| Ok(Some(idle().into()))).unwrap_err();
        assert!(error.to_string().contains("no listening TCP socket"), "{error}");
        let other = Sockets::named("ingest", 1, |_| Err(io::Error::other("fd 3 is not a valid tcp socket")));
        assert!(matches!(other, Err(ActivationError::Kind { name: "ingest", .. })), "{other:?}");
    }
}
