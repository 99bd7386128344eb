//! The cryptography of TLS.

use rustls::crypto::{CryptoProvider, ring};

/// The algorithms of `ring`, which takes 26 s of CPU to build. `aws-lc-rs` takes 71 s.
pub(crate) fn provider() -> CryptoProvider {
    ring::default_provider()
}
