//! A certificate for a daemon, and a client that trusts it.

use ::tls::{Authorities, Client};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

/// The files of a daemon that encrypts the connections of sources.
pub struct Certificate {
    dir: TempDir,
}

impl Certificate {
    /// A certificate with a key of 256 bits (ECDSA, P-256).
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in
            [("ca.pem", issuer.pem()), ("own.pem", certificate.pem()), ("own.key", key.serialize_pem())]
        {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        Self { dir }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// The variables of a daemon with this certificate.
    pub fn overrides(&self) -> [(&'static str, String); 2] {
        [("TLS__CERTIFICATE", self.path("own.pem")), ("TLS__KEY", self.path("own.key"))]
    }

    /// A client that trusts the daemon.
    pub fn client(&self) -> Client {
        Client::new(&Authorities::load(&self.dir.path().join("ca.pem")).unwrap(), None).unwrap()
    }
}
