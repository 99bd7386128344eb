//! Why there is no encrypted connection.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

/// Why a TLS connection failed. The text says what to do.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TlsError {
    /// The first byte is not the beginning of a TLS record.
    #[error("this port speaks TLS, and the client does not: connect with TLS 1.3 (our clients: --ca FILE)")]
    NotTls,
    /// The peer ended the connection before the handshake was complete.
    #[error("the peer closed the connection during the TLS handshake")]
    Closed,
    /// A message of the handshake is longer than any that is needed.
    #[error(
        "a message of the TLS handshake is longer than 20 KiB: a chain of certificates that long is not taken"
    )]
    TooLong,
    /// The handshake failed, or a record is wrong.
    #[error("{}", explain(.0))]
    Failed(Error),
}

impl TlsError {
    /// The TLS error in `error`, if there is one.
    #[must_use]
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// Whether the server does not speak TLS.
    #[must_use]
    pub const fn is_plain_server(&self) -> bool {
        matches!(self, Self::Failed(Error::InvalidMessage(_)))
    }
}

impl From<Error> for TlsError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        let kind = match error {
            TlsError::Closed => io::ErrorKind::UnexpectedEof,
            TlsError::NotTls | TlsError::TooLong | TlsError::Failed(_) => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

/// What `error` means for an operator.
fn explain(error: &Error) -> String {
    let text = match error {
        Error::NoCertificatesPresented => {
            "the client has no certificate, and one is needed here (our clients: --certificate and --key)"
        }
        Error::InvalidCertificate(error) => return explain_certificate(error),
        Error::AlertReceived(alert) => return explain_alert(*alert),
        Error::PeerIncompatible(
            PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::ServerDoesNotSupportTls12Or13,
        ) => "the peer does not offer TLS 1.3, the only version that is allowed",
        Error::InvalidMessage(_) => "the peer does not speak TLS on this port",
        _ => return format!("TLS failed: {error}"),
    };
    text.to_owned()
}

fn explain_certificate(error: &CertificateError) -> String {
    match error {
        // The second for an authority of the same name with another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the peer's certificate is not signed by an authority that is trusted here (tls.ca; our clients: --ca)".to_owned()
        }
        CertificateError::NotValidForNameContext { expected, presented } => format!(
            "the peer's certificate is not for {}: it is for {}",
            expected.to_str(),
            if presented.is_empty() { "no name".to_owned() } else { presented.join(", ") }
        ),
        error => format!("the peer's certificate is refused: {error}"),
    }
}

fn explain_alert(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::UnknownCA | AlertDescription::DecryptError => {
            "the peer does not trust the authority that has signed our certificate (alert unknown_ca or decrypt_error)"
                .to_owned()
        }
        AlertDescription::CertificateRequired => {
            "the peer needs a certificate, and we sent none (alert certificate_required; our clients: --certificate and \
             --key)"
                .to_owned()
        }
        AlertDescription::BadCertificate => {
            "the peer refuses our certificate, or its name is not the one that was asked for (alert bad_certificate)"
                .to_owned()
        }
        AlertDescription::CertificateExpired => {
            "the peer says that our certificate has expired (alert certificate_expired)".to_owned()
        }
        AlertDescription::ProtocolVersion => {
            "the peer does not accept TLS 1.3, the only version that is allowed (alert protocol_version)".to_owned()
        }
        alert => format!("the peer refuses the connection (alert {alert:?})"),
    }
}
