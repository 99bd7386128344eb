//! The socket of a link that receives datagrams.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// How the socket is to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct UdpOptions {
    /// The local address.
    pub(super) address: SocketAddr,
    /// The multicast group to join.
    pub(super) multicast: Option<IpAddr>,
    /// The interface for the group, by its address. `None` lets the kernel choose.
    pub(super) interface: Option<Ipv4Addr>,
    /// The receive buffer to ask the kernel for, in bytes.
    pub(super) receive_buffer: u64,
}

/// The longest payload of a UDP datagram, in bytes.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// A datagram that was received into the buffer of the caller.
#[derive(Clone, Copy, Debug)]
pub(super) struct Datagram {
    /// Bytes of its payload.
    pub(super) bytes: usize,
    /// Where it comes from; `None` if the kernel names no address of IP.
    pub(super) sender: Option<SocketAddr>,
}

/// Receives datagrams and counts those that the kernel drops.
#[derive(Debug)]
pub(super) struct UdpReceiver {
    /// The socket.
    socket: UdpSocket,
    /// The datagram that was received last.
    buffer: Box<[u8]>,
    /// Room for what the kernel says about a datagram: the count of dropped ones.
    control: Vec<u8>,
    /// Datagrams that the kernel has dropped since the socket was created.
    dropped: u32,
}

impl UdpReceiver {
    /// Binds the socket and joins the multicast group.
    pub(super) fn bind(udp: &UdpOptions) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(udp.address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if udp.multicast.is_some() {
            // Several receivers of a group may run on one host.
            socket.set_reuse_address(true)?;
        }
        socket.set_recv_buffer_size(usize::try_from(udp.receive_buffer).unwrap_or(usize::MAX))?;
        socket.bind(&udp.address.into())?;
        join(&socket, udp)?;
        // The kernel then adds the number of dropped datagrams to each datagram.
        setsockopt(&socket, sockopt::RxqOvfl, &1)?;
        Ok(Self {
            socket: UdpSocket::from_std(socket.into())?,
            buffer: vec![0; DATAGRAM_BYTES_MAX].into(),
            control: nix::cmsg_space!(u32),
            dropped: 0,
        })
    }

    /// The address that the socket is bound to.
    pub(super) fn local_address(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()
    }

    /// The receive buffer that the kernel granted, in bytes. The kernel counts its own overhead in it.
    pub(super) fn receive_buffer(&self) -> u64 {
        socket2::SockRef::from(&self.socket).recv_buffer_size().map_or(0, |bytes| bytes as u64)
    }

    /// Waits until a datagram has come.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    /// Takes the next datagram; `None` if there is none.
    pub(super) fn receive(&mut self) -> io::Result<Option<Datagram>> {
        let Self { socket, buffer, control, dropped } = self;
        let received = socket.try_io(Interest::READABLE, || {
            let mut slices = [IoSliceMut::new(buffer)];
            let flags = MsgFlags::MSG_DONTWAIT;
            let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(control), flags)?;
            for part in message.cmsgs()? {
                if let ControlMessageOwned::RxqOvfl(count) = part {
                    *dropped = count;
                }
            }
            Ok(Datagram { bytes: message.bytes, sender: message.address.as_ref().and_then(address_of) })
        });
        match received {
            Ok(datagram) => Ok(Some(datagram)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The bytes of `datagram`, the last that was received.
    pub(super) fn content(&self, datagram: &Datagram) -> &[u8] {
        &self.buffer[..datagram.bytes]
    }

    /// How many datagrams the kernel has dropped since the socket was created. The kernel reports a drop with the next
    /// datagram.
    pub(super) const fn dropped(&self) -> u32 {
        self.dropped
    }
}

fn join(socket: &Socket, udp: &UdpOptions) -> io::Result<()> {
    match udp.multicast {
        Some(IpAddr::V4(group)) => {
            socket.join_multicast_v4(&group, &udp.interface.unwrap_or(Ipv4Addr::UNSPECIFIED))
        }
        // Interface 0: the kernel chooses by its routes.
        Some(IpAddr::V6(group)) => socket.join_multicast_v6(&group, 0),
        None => Ok(()),
    }
}

fn address_of(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::from((v4.ip(), v4.port())));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::from((v6.ip(), v6.port()))))
}
