//! Addresses: where the daemon listens, hosts to connect to, and networks that may connect.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Where the daemon listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listening {
    /// For sources.
    pub ingest: SocketAddr,
    /// For subscribers.
    pub feed: SocketAddr,
    /// For operators.
    pub http: SocketAddr,
}

/// Whether only programs of this host reach `address`.
pub(super) fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// A host and a port to connect to. A name is resolved at each attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(Box<str>);

impl Endpoint {
    /// Longest name of a host in bytes (RFC 1035, section 2.3.4).
    const NAME_BYTES_MAX: usize = 253;

    /// Reads an IP address and a port, or the name of a host and a port.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let port = match text.parse::<SocketAddr>() {
            Ok(address) => address.port(),
            Err(_) => {
                let (name, port) = text.rsplit_once(':')?;
                let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
                // A name of digits and points is most likely an address with a mistake in it.
                let is_name = name.starts_with(|c: char| c.is_ascii_alphanumeric())
                    && name.len() <= Self::NAME_BYTES_MAX
                    && name.chars().all(is_allowed)
                    && name.contains(|c: char| c.is_ascii_alphabetic());
                is_name.then_some(port)?.parse().ok()?
            }
        };
        (port != 0).then(|| Self(text.into()))
    }

    /// `host:port`, as the resolver takes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A network in CIDR notation, such as `10.0.8.0/24` or `2001:db8::/32`. An address alone is a network of one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is not a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NetworkError {
    /// It is not written as one.
    Form,
    /// The address has bits behind the prefix. Holds the network that contains it.
    HostBits(Network),
}

impl Network {
    /// Reads `address/prefix` or an address alone.
    pub(super) fn parse(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Form)?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().ok().filter(|prefix| *prefix <= bits).ok_or(NetworkError::Form)?,
            None => bits,
        };
        let network = Self { address: masked(address, prefix), prefix };
        if network.address == address { Ok(network) } else { Err(NetworkError::HostBits(network)) }
    }

    /// Whether `address` is in this network. An IPv4 address may come mapped into IPv6.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = if self.address.is_ipv4() { address.to_canonical() } else { address };
        address.is_ipv4() == self.address.is_ipv4() && masked(address, self.prefix) == self.address
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// `address` with zeros behind the first `prefix` bits.
fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_addresses_or_names_with_a_port() {
        for text in ["10.0.8.5:7000", "[::1]:7000", "modem.kiruna.example:7000", "nctrs_1:2502", "3com-a:1"] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), text);
        }
        let long = format!("a{}:1", "b".repeat(253));
        for text in [
            "",
            "modem",
            ":7000",
            "modem:",
            "modem:0",
            "10.0.8.5:0",
            "modem:65536",
            "a b:1",
            "-a:1",
            "10.0.8:1",
            &long,
        ] {
            assert_eq!(Endpoint::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_network_contains_its_hosts() {
        for (network, inside, outside) in [
            ("10.0.8.0/24", "10.0.8.255", "10.0.9.0"),
            ("10.0.8.5", "10.0.8.5", "10.0.8.4"),
            ("10.0.8.0/24", "::ffff:10.0.8.1", "::10.0.8.1"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("::/0", "ffff::1", "10.0.8.1"),
            ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1"),
            ("::1/128", "::1", "::2"),
        ] {
            let network = Network::parse(network).unwrap();
            assert!(network.contains(inside.parse().unwrap()), "{network} {inside}");
            assert!(!network.contains(outside.parse().unwrap()), "{network} {outside}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in
            ["", "10.0.8", "10.0.8.0/33", "::/129", "10.0.8.0/", "10.0.8.0/-1", "10.0.8.0/24/1", "kiruna"]
        {
            assert_eq!(Network::parse(text), Err(NetworkError::Form), "{text}");
        }
        for (text, meant) in [("10.0.8.5/24", "10.0.8.0/24"), ("2001:db8::1/64", "2001:db8::/64")] {
            let Err(NetworkError::HostBits(network)) = Network::parse(text) else { panic!("{text}") };
            assert_eq!(network.to_string(), meant);
        }
    }
}
