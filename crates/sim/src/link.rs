//! Equipment that speaks its own protocol: sends frames and packets in the formats of the daemon's input links.
//!
//! One connection carries the units of all satellites in turn, as that of a modem does. Nothing is acknowledged: a unit
//! counts as sent when the kernel has it. After a lost connection the next one goes on with the next units.

use std::fmt;
use std::future::Future;
use std::io;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;
use tls::Socket;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use crate::pace::{Feed, Schedule};
use crate::resend_buffer::Due;
use client::{BACKOFF_MAX, Backoff, WRITE_BYTES};

#[cfg(test)]
mod tests;
mod units;

use units::{Batch, Units};

/// Bytes of the longest unit: what a UDP datagram holds.
pub(crate) const UNIT_BYTES_MAX: u32 = 65_507;

/// What the link carries, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LinkFormat {
    /// TM frames in CADUs over TCP, randomised, with 32 bytes in place of check symbols
    Cadu,
    /// Space packets over TCP; the APID is the satellite
    Packet,
    /// TM frames over TCP, as software modems send them, with their times
    Kiss,
    /// TM frames over TCP, each behind a length of 4 bytes
    Length,
    /// TM frames over TCP in the data units of an NCTRS, with their times
    Nctrs,
    /// Space packets, one in each datagram
    UdpPacket,
    /// TM frames, one in each datagram
    UdpFrame,
}

impl LinkFormat {
    const fn is_packet(self) -> bool {
        matches!(self, Self::Packet | Self::UdpPacket)
    }

    const fn is_udp(self) -> bool {
        matches!(self, Self::UdpPacket | Self::UdpFrame)
    }
}

/// The other end of the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkPeer {
    /// The link listens, or receives datagrams, at this `host:port`.
    Connect(String),
    /// The link connects to this address.
    Listen(String),
}

/// The parameters of simulated equipment.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkPlan {
    /// What is sent.
    pub format: LinkFormat,
    /// AOS frames in place of TM frames.
    pub aos: bool,
    /// Where it is sent.
    pub peer: LinkPeer,
    /// TLS of the connections that it opens, if they are encrypted.
    pub tls: Option<tls::Client>,
    /// Satellites; their spacecraft ids, or APIDs, count from 0.
    pub satellites: u32,
    /// Units per satellite, those that are left out included; `None` means until `duration` or the stop.
    pub frames: Option<u64>,
    /// How long units are sent.
    pub duration: Option<Duration>,
    /// Units per second and satellite; 0 is flat out.
    pub rate: f64,
    /// Bytes of a transfer frame or packet.
    pub unit_bytes: usize,
    /// Share of emergencies, 0 to 1.
    pub emergency_ratio: f64,
    /// Share of units that are left out, 0 to 1.
    pub loss_ratio: f64,
    /// Bytes of noise behind every 16th CADU.
    pub noise_bytes: usize,
    /// Decides content, emergencies and losses.
    pub seed: u64,
    /// How long to wait at the end until the peer has read everything.
    pub linger: Duration,
}

/// A plan that cannot be run.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[allow(missing_docs, reason = "each message says what its fields are")]
pub enum LinkError {
    #[error("--link needs --connect with the address of the link, or --listen for a link that connects")]
    NoPeer,
    #[error("{0}")]
    Tls(String),
    #[error("--listen is for TCP: datagrams are sent to --connect")]
    ListenUdp,
    #[error("--noise is for --link cadu: no other format finds its units between other bytes")]
    Noise,
    #[error("--aos is for frames: packets are in no frames")]
    Aos,
    #[error("--satellites {found}: the format has room for at most {max} ids")]
    Satellites { found: u32, max: u32 },
    #[error("--payload {found}: expected {min} to {UNIT_BYTES_MAX} bytes")]
    UnitBytes { found: usize, min: usize },
}

impl LinkPlan {
    /// Checks that the values fit together.
    ///
    /// # Errors
    /// What does not fit.
    pub fn check(&self) -> Result<(), LinkError> {
        if self.format.is_udp() && matches!(self.peer, LinkPeer::Listen(_)) {
            return Err(LinkError::ListenUdp);
        }
        if self.noise_bytes > 0 && self.format != LinkFormat::Cadu {
            return Err(LinkError::Noise);
        }
        if self.aos && self.format.is_packet() {
            return Err(LinkError::Aos);
        }
        let max = match (self.format.is_packet(), self.aos) {
            // The highest APID is that of idle packets.
            (true, _) => 2_047,
            (false, false) => 1_024,
            (false, true) => 256,
        };
        if self.satellites > max {
            return Err(LinkError::Satellites { found: self.satellites, max });
        }
        let (found, min) = (self.unit_bytes, self.unit_bytes_min());
        if found < min || found > UNIT_BYTES_MAX as usize {
            return Err(LinkError::UnitBytes { found, min });
        }
        Ok(())
    }
}

/// Outcome of a run. Its serialized form is the object of `--report json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct LinkReport {
    /// Units that were written.
    pub sent: u64,
    /// Units that were left out, as `--loss` says.
    pub left_out: u64,
    /// Units whose write failed. Some of them may have arrived.
    pub failed: u64,
    /// Bytes that were written, with framing and noise.
    pub bytes: u64,
    /// Bytes of noise.
    pub noise_bytes: u64,
    /// Connections. Datagrams have one.
    pub connections: u64,
    /// Time from the start to the end, seconds.
    pub elapsed_s: f64,
    /// Units written per second of this time.
    pub frames_per_s: f64,
    /// Why not everything was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl LinkReport {
    /// Whether everything was written.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.failed == 0 && self.error.is_none()
    }
}

impl fmt::Display for LinkReport {
    /// Writes several lines, without a line break at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, left_out, failed, bytes, noise_bytes, connections, .. } = self;
        write!(
            f,
            "sent {sent}, left out {left_out}, failed {failed}, bytes {bytes}, noise {noise_bytes}, connections \
             {connections}\n{:.3} s, {:.0} frames/s; nothing is acknowledged",
            self.elapsed_s, self.frames_per_s
        )?;
        self.error.iter().try_for_each(|error| write!(f, "\nerror: {error}"))
    }
}

/// Sends the units of `plan`, which [`LinkPlan::check`] accepts, and reports. `note` gets lines for the user. When `stop`
/// is true or its sender is dropped, nothing more is sent.
///
/// # Errors
/// The address to listen on or to send from cannot be had.
///
/// # Cancel safety
/// Dropping the future stops at once.
pub async fn run(
    plan: &LinkPlan,
    stop: watch::Receiver<bool>,
    note: impl FnMut(String) + Send,
) -> io::Result<LinkReport> {
    let started = Instant::now();
    let until = plan.duration.and_then(|duration| started.checked_add(duration));
    let mut equipment = Equipment {
        plan,
        feed: Feed::new(stop, until, plan.linger),
        units: Units::new(plan),
        next: 0,
        schedule: None,
        report: LinkReport::default(),
        note,
    };
    match &plan.peer {
        LinkPeer::Connect(address) if plan.format.is_udp() => equipment.send_datagrams(address).await?,
        LinkPeer::Connect(address) => equipment.connect(address, plan.tls.as_ref()).await,
        LinkPeer::Listen(address) => equipment.listen(TcpListener::bind(address).await?).await?,
    }
    let elapsed_s = started.elapsed().as_secs_f64();
    let report = equipment.report;
    let frames_per_s = if elapsed_s > 0.0 { report.sent as f64 / elapsed_s } else { 0.0 };
    Ok(LinkReport { elapsed_s, frames_per_s, ..report })
}

struct Equipment<'a, N> {
    plan: &'a LinkPlan,
    feed: Feed,
    units: Units<'a>,
    /// The next unit of each satellite.
    next: u64,
    /// Begins with the first connection.
    schedule: Option<Schedule>,
    report: LinkReport,
    note: N,
}

/// Connects to `address`, with TLS if `tls` is given.
async fn dial(address: &str, tls: Option<&tls::Client>) -> io::Result<Socket> {
    let mut socket = Socket::connected(TcpStream::connect(address).await?, address, tls)?;
    socket.handshake().await?;
    Ok(socket)
}

impl<N: FnMut(String) + Send> Equipment<'_, N> {
    /// Whether all units are made.
    fn is_over(&self) -> bool {
        self.feed.is_over() || self.plan.frames.is_some_and(|frames| self.next >= frames)
    }

    /// Connects until everything is sent.
    async fn connect(&mut self, address: &str, tls: Option<&tls::Client>) {
        let mut backoff = Backoff::new(BACKOFF_MAX);
        let mut is_noted = false;
        while !self.is_over() {
            let Some(connected) = self.unless_over(dial(address, tls)).await else { break };
            match connected {
                Ok(socket) => {
                    (self.note)(format!("connected to {address}"));
                    is_noted = false;
                    backoff.reset();
                    self.serve(socket).await;
                }
                Err(error) if !std::mem::replace(&mut is_noted, true) => {
                    (self.note)(format!("no connection, trying again: {address}: {error}"));
                }
                Err(_) => {}
            }
            if !self.is_over() {
                let wait = tokio::time::sleep(backoff.next(Duration::ZERO));
                self.unless_over(wait).await;
            }
        }
        self.note_unconnected();
    }

    /// Accepts one connection after the other until everything is sent.
    async fn listen(&mut self, listener: TcpListener) -> io::Result<()> {
        (self.note)(format!("listening on {}", listener.local_addr()?));
        while !self.is_over() {
            let Some(accepted) = self.unless_over(listener.accept()).await else { break };
            let (socket, peer) = accepted?;
            (self.note)(format!("connected to {peer}"));
            self.serve(socket.into()).await;
        }
        self.note_unconnected();
        Ok(())
    }

    fn note_unconnected(&mut self) {
        if self.report.connections == 0 {
            self.report.error = Some("never connected".to_owned());
        }
    }

    /// The output of `work`, or `None` if the feed ends first.
    async fn unless_over<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.feed.over() => None,
            output = work => Some(output),
        }
    }

    /// Sends over one connection until it is lost or everything is sent.
    async fn serve(&mut self, mut socket: Socket) {
        self.begin();
        // Small writes go out at once.
        let _ = socket.tcp().set_nodelay(true);
        while let Some(batch) = self.next_batch().await {
            match self.unless_over(socket.write_all(&batch.bytes)).await {
                Some(Ok(())) => self.count(&batch),
                Some(Err(error)) => {
                    self.report.failed += batch.ends.len() as u64;
                    (self.note)(format!("connection lost: {error}"));
                    return;
                }
                // The feed ended while the peer did not read.
                None => {
                    self.report.failed += batch.ends.len() as u64;
                    return;
                }
            }
        }
        // A socket that is closed with unread bytes in it would destroy what the peer has not read.
        let read_to_end = async {
            socket.shutdown().await?;
            tokio::io::copy(&mut (&mut socket).take(u64::MAX), &mut tokio::io::sink()).await
        };
        match timeout(self.plan.linger, read_to_end).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => self.report.error = Some(format!("connection lost at the end: {error}")),
            Err(_) => (self.note)("the peer did not close the connection".to_owned()),
        }
    }

    async fn send_datagrams(&mut self, address: &str) -> io::Result<()> {
        let to = tokio::net::lookup_host(address).await?.next();
        let to = to.ok_or_else(|| io::Error::other(format!("{address} has no address")))?;
        let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).await?;
        socket.connect(to).await?;
        self.begin();
        while let Some(batch) = self.next_batch().await {
            let mut start = 0;
            for end in &batch.ends {
                // A peer that does not listen refuses a later datagram. That is no reason to end.
                let sent = socket.send(&batch.bytes[start..*end]).await;
                match sent {
                    Ok(bytes) => {
                        self.report.sent += 1;
                        self.report.bytes += bytes as u64;
                    }
                    Err(error) => {
                        if self.report.failed == 0 {
                            (self.note)(format!("a datagram was not sent: {error}"));
                        }
                        self.report.failed += 1;
                    }
                }
                start = *end;
            }
        }
        Ok(())
    }

    fn begin(&mut self) {
        self.report.connections += 1;
        self.schedule.get_or_insert_with(|| Schedule::new(Instant::now(), self.plan.rate));
    }

    fn count(&mut self, batch: &Batch) {
        self.report.sent += batch.ends.len() as u64;
        self.report.bytes += batch.bytes.len() as u64;
        self.report.noise_bytes += batch.noise;
    }

    /// Waits until units are due, and makes them. `None` when there are no more.
    async fn next_batch(&mut self) -> Option<Batch> {
        while !self.is_over() {
            let now = Instant::now();
            let schedule = self.schedule?;
            let due = match schedule.due(now) {
                Due::FlatOut => u64::MAX,
                Due::Below(due) => due,
                Due::Nothing => 0,
            };
            let due = due.min(self.plan.frames.unwrap_or(u64::MAX));
            let mut batch = Batch::default();
            while self.next < due && batch.bytes.len() < WRITE_BYTES {
                self.units.put_round(self.next, &mut batch);
                self.next += 1;
            }
            self.report.left_out += batch.left_out;
            if !batch.ends.is_empty() {
                return Some(batch);
            }
            match schedule.next(now) {
                Some(at) => _ = self.unless_over(sleep_until(at)).await,
                // Flat out, all units of this round were left out. Others get a turn before the next.
                None => tokio::task::yield_now().await,
            }
        }
        None
    }
}
