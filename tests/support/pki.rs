//! Certificates for tests: an authority that signs what a test needs.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

/// An authority, with a directory for its files.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: TempDir,
}

/// A certificate and its key, as files.
#[derive(Clone, Debug)]
pub struct Identity {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    /// A new authority called `name`.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, directory }
    }

    /// The file with the certificate of the authority.
    pub fn ca(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// A certificate for these subject alternative names, in files called `file`.
    pub fn identity(&self, file: &str, names: &[&str]) -> Identity {
        self.identity_until(file, names, 3000)
    }

    /// Like [`Self::identity`]. It expires at the beginning of the `year`.
    pub fn identity_until(&self, file: &str, names: &[&str], year: i32) -> Identity {
        self.sign(file, names, |params| params.not_after = rcgen::date_time_ymd(year, 1, 1))
    }

    /// Like [`Self::identity`], with other changes.
    pub fn sign(&self, file: &str, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        let path = |extension: &str| self.directory.path().join(format!("{file}.{extension}"));
        let identity = Identity { certificate: path("pem"), key: path("key") };
        replace(&identity.certificate, &signed.pem());
        replace(&identity.key, &key.serialize_pem());
        identity
    }
}

impl Identity {
    /// The options of a client that shows this certificate.
    pub fn options(&self) -> [String; 4] {
        let text = |path: &Path| path.display().to_string();
        ["--certificate".into(), text(&self.certificate), "--key".into(), text(&self.key)]
    }
}

/// Writes a file that only its owner reads.
fn replace(path: &Path, text: &str) {
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    std::io::Write::write_all(&mut file.unwrap(), text.as_bytes()).unwrap();
}

/// Whether the tests of this binary speak TLS on the connections of sources.
pub fn is_over_tls() -> bool {
    env!("CARGO_CRATE_NAME") == "protocol_over_tls"
}

/// The authority and the certificate of the daemons in [`is_over_tls`].
pub fn shared() -> &'static (Authority, Identity) {
    static SHARED: OnceLock<(Authority, Identity)> = OnceLock::new();
    SHARED.get_or_init(|| {
        let authority = Authority::new("tests");
        let identity = authority.identity("server", &["localhost", "127.0.0.1"]);
        (authority, identity)
    })
}

/// The configuration of a daemon that shows `identity` to sources.
pub fn section(identity: &Identity) -> String {
    let Identity { certificate, key } = identity;
    format!("[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n")
}
