//! Certificates and keys from files.

use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::{CertificateError, RootCertStore};

use super::provider::provider;

/// Largest file with certificates or a key, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why a file with certificates or a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The file does not hold what it should.
    #[error("{}: {what}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what is expected.
        what: String,
    },
}

impl FileError {
    fn content(path: &Path, what: impl Into<String>) -> Self {
        Self::Content { path: path.to_owned(), what: what.into() }
    }

    /// The error of the system, if the file could not be read.
    #[must_use]
    pub const fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Read { error, .. } => Some(error),
            Self::Content { .. } => None,
        }
    }
}

/// A certificate with its chain, and its key. `Debug` leaves the key out. Cheap to clone.
#[derive(Clone)]
pub struct Identity(Arc<Parts>);

/// The content of an [`Identity`].
struct Parts {
    /// The certificate, then its chain.
    chain: Vec<CertificateDer<'static>>,
    /// The key of the certificate.
    key: PrivateKeyDer<'static>,
    /// When the first certificate of the chain expires, as time since 1970.
    expires: Duration,
}

impl Identity {
    /// Reads the certificate with its chain from `certificate`, the own certificate first, and the key from `key`. Both
    /// files are PEM. Blocks on the file system.
    ///
    /// # Errors
    /// [`FileError`] when a file cannot be read, or does not hold what it should.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, FileError> {
        let chain = certificates(certificate)?;
        let expires = chain.iter().map(expires).min().flatten();
        let expires =
            expires.ok_or_else(|| FileError::content(certificate, "a certificate in it is damaged"))?;
        let private = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|_| {
            FileError::content(key, "expected a private key in PEM (BEGIN PRIVATE KEY), without a password")
        })?;
        let identity = Self(Arc::new(Parts { chain, key: private, expires }));
        identity.check_key().map_err(|what| FileError::content(key, what))?;
        Ok(identity)
    }

    /// Whether the key fits the certificate.
    fn check_key(&self) -> Result<(), String> {
        let (chain, key) = self.parts();
        rustls::sign::CertifiedKey::from_der(chain, key, &provider()).map(drop).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => "the key does not belong to the certificate".to_owned(),
            error => format!("the key cannot be used: {error}"),
        })
    }

    pub(crate) fn parts(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (self.0.chain.clone(), self.0.key.clone_key())
    }

    /// When the certificate, or one of its chain, expires, as time since 1970.
    #[must_use]
    pub fn expires(&self) -> Duration {
        self.0.expires
    }
}

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.0.chain == other.0.chain && self.0.key == other.0.key
    }
}

impl Eq for Identity {}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("expires", &self.0.expires).finish_non_exhaustive()
    }
}

/// The authorities whose signatures are trusted. Cheap to clone.
#[derive(Clone)]
pub struct Authorities {
    /// The authorities in the form that the library needs.
    pub(crate) roots: Arc<RootCertStore>,
    /// The same authorities, to compare them and to find when they expire.
    certificates: Arc<Vec<CertificateDer<'static>>>,
}

impl Authorities {
    /// Reads the certificates of the authorities from `path`, which is PEM. Blocks on the file system.
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be read, or does not hold certificates of authorities.
    pub fn load(path: &Path) -> Result<Self, FileError> {
        let certificates = certificates(path)?;
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            roots.add(certificate.clone()).map_err(|error| {
                FileError::content(path, format!("a certificate in it is no authority: {error}"))
            })?;
        }
        Ok(Self { roots: Arc::new(roots), certificates: Arc::new(certificates) })
    }

    /// When the first of the authorities expires, as time since 1970.
    #[must_use]
    pub fn expires(&self) -> Option<Duration> {
        self.certificates.iter().filter_map(expires).min()
    }
}

impl PartialEq for Authorities {
    fn eq(&self, other: &Self) -> bool {
        self.certificates == other.certificates
    }
}

impl Eq for Authorities {}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorities").field("count", &self.certificates.len()).finish_non_exhaustive()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    let failed = |error| FileError::Read { path: path.to_owned(), error };
    let file = support::plain_file::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(FileError::content(path, format!("has more than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let bytes = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(FileError::content(path, "expected certificates in PEM (BEGIN CERTIFICATE)")),
    }
}

/// When `certificate` expires, as time since 1970. `None` for a damaged one.
///
/// The library gives the end of the validity only in the error for a certificate that has expired. So the certificate
/// is verified as of the latest possible time. That needs no authority.
fn expires(certificate: &CertificateDer<'_>) -> Option<Duration> {
    let end_of_time = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));
    let algorithms = provider().signature_verification_algorithms.all;
    let end_entity = webpki::EndEntityCert::try_from(certificate).ok()?;
    let usage = webpki::KeyUsage::server_auth();
    match end_entity.verify_for_usage(algorithms, &[], &[], end_of_time, usage, None, None) {
        Err(webpki::Error::CertExpired { not_after, .. }) => Some(Duration::from_secs(not_after.as_secs())),
        _ => None,
    }
}

/// The DNS names and URIs for which `certificate` was made, in small letters. Names of its subject do not count.
pub(crate) fn names(certificate: &CertificateDer<'_>) -> Result<Vec<String>, rustls::Error> {
    let damaged = |_| rustls::Error::InvalidCertificate(CertificateError::BadEncoding);
    let end_entity = webpki::EndEntityCert::try_from(certificate).map_err(damaged)?;
    let names = end_entity.valid_dns_names().chain(end_entity.valid_uri_names());
    Ok(names.map(str::to_ascii_lowercase).collect())
}
