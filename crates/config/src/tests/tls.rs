//! `[tls]`, the lists of clients, and what must be encrypted.

use std::os::unix::fs::PermissionsExt as _;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

use super::{config, errors, load};

/// The directory of the certificates in the shipped file.
pub(super) const SHIPPED_DIR: &str = "/etc/telemetry-aggregator/tls";

/// `server.pem`, `server.key` and `ca.pem` in a directory.
pub(super) struct Files(TempDir);

impl Files {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        let directory = TempDir::new().unwrap();
        for (name, text) in
            [("ca.pem", issuer.pem()), ("server.pem", certificate.pem()), ("server.key", key.serialize_pem())]
        {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        Self(directory)
    }

    pub(super) fn directory(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    /// `[tls]` with these keys.
    fn section(&self, keys: &[&str]) -> String {
        let file = |key: &&str| match *key {
            "certificate" => "server.pem",
            "key" => "server.key",
            _ => "ca.pem",
        };
        let lines: String =
            keys.iter().map(|key| format!("{key} = \"{}/{}\"\n", self.directory(), file(key))).collect();
        format!("[tls]\n{lines}")
    }

    fn whole(&self) -> String {
        self.section(&["certificate", "key", "ca"])
    }
}

#[test]
fn a_certificate_encrypts_every_listener_that_is_not_left_out() {
    let files = Files::new();
    let sides = config(&format!("http.tls = false\n{}", files.whole())).tls.files.sides;
    assert!(sides.ingest.is_some() && sides.feed.is_some() && sides.http.is_none());
    assert!(sides.listening_link.is_some() && sides.connecting_link.is_some());
    let sides = config("").tls.files.sides;
    assert!(sides.ingest.is_none() && sides.feed.is_none() && sides.http.is_none());
}

#[test]
fn a_certificate_needs_its_key_and_files_must_be_what_they_say() {
    let files = Files::new();
    let text = errors(&files.section(&["certificate"]));
    assert_eq!(text, "c.toml:2:15: tls.certificate: has no key: set tls.key");
    let text = errors(&files.section(&["key"]));
    assert_eq!(text, "c.toml:2:7: tls.key: has no certificate: set tls.certificate");
    let text = errors("[tls]\nca = \"/nowhere/ca.pem\"");
    assert!(text.starts_with("c.toml:2:6: tls.ca: cannot read /nowhere/ca.pem: "), "{text}");
    let swapped =
        format!("[tls]\ncertificate = \"{0}/server.key\"\nkey = \"{0}/server.pem\"", files.directory());
    assert!(errors(&swapped).contains("server.key: expected certificates in PEM"), "{}", errors(&swapped));
}

#[test]
fn clients_need_tls_and_an_authority() {
    let files = Files::new();
    for section in ["ingest", "feed"] {
        let client = format!("[[{section}.clients]]\nname = \"Kiruna.example\"\nsources = [1]\n");
        assert!(errors(&client).contains("set tls.certificate and tls.key"), "{}", errors(&client));
        let without = format!("{client}{}", files.section(&["certificate", "key"]));
        assert!(errors(&without).contains("set tls.ca"), "{}", errors(&without));
        let off = format!("{section}.tls = false\n{client}{}", files.whole());
        assert!(errors(&off).contains(&format!("{section}.tls: false, but clients")), "{}", errors(&off));
        let printed = config(&format!("{client}{}", files.whole())).to_toml();
        assert!(
            printed.contains(&format!("[[{section}.clients]]\nname = \"kiruna.example\"\nsources = [1]"))
        );
    }
    let stations = "[[feed.clients]]\nname = \"a\"\nstations = [\"b\"]";
    assert!(errors(stations).contains("feed.clients[0].stations: unknown key"), "{}", errors(stations));
}

#[test]
fn names_of_clients_are_exact_and_unique() {
    for (name, said) in [
        ("", "expected a name of the client's certificate"),
        ("*.example", "which is a pattern"),
        ("a b", "found \"a b\", expected a name"),
    ] {
        let text = errors(&format!("[[ingest.clients]]\nname = \"{name}\""));
        assert!(text.contains("ingest.clients[0].name") && text.contains(said), "{text}");
    }
    let twice = "[[ingest.clients]]\nname = \"a\"\n[[ingest.clients]]\nname = \"A\"";
    assert!(errors(twice).contains("ingest.clients[1]: the same name as ingest.clients[0]"));
}

#[test]
fn a_token_in_clear_text_beyond_loopback_is_a_warning_or_an_error() {
    let files = Files::new();
    let open = "http.token = \"t\"\nhttp.listen = \"0.0.0.0:7482\"\n";
    let warnings = load(open).unwrap().warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let said = "http.listen = \"0.0.0.0:7482\" can be reached from other hosts, and tokens travel there in clear text: set \
                tls.certificate and tls.key, or listen on 127.0.0.1:7482 behind a tunnel";
    assert_eq!(warnings[0], said);
    let strict = format!("require_tls = true\n{open}");
    let said = "c.toml:3:15: http.listen: 0.0.0.0:7482 can be reached from other hosts and is not encrypted, and \
                require_tls = true: set tls.certificate and tls.key, or listen on 127.0.0.1:7482";
    assert_eq!(errors(&strict), said);
    let off = format!("{strict}http.tls = false\n{}", files.whole());
    assert!(errors(&off).contains("set http.tls = true"), "{}", errors(&off));
    let encrypted = load(&format!("{strict}{}", files.whole())).unwrap();
    assert!(encrypted.warnings.is_empty(), "{:?}", encrypted.warnings);
    assert!(load("require_tls = true").unwrap().warnings.is_empty(), "loopback is not encrypted");
}

/// A client with a certificate is asked for no token.
#[test]
fn clients_with_certificates_may_connect_from_other_hosts() {
    let files = Files::new();
    let clients = "[[ingest.clients]]\nname = \"kiruna.example\"\n";
    let open = format!("ingest.listen = \"0.0.0.0:7480\"\n{clients}{}", files.whole());
    assert!(load(&open).unwrap().warnings.is_empty());
}

#[test]
fn a_link_over_tls_needs_what_it_proves_or_trusts() {
    let files = Files::new();
    let link = |transport: &str| {
        let framing = "framing = { kind = \"packet\", max = 100 }";
        format!("[[links]]\nname = \"a\"\nsource = 1\n{framing}\n{transport}\ntls = true\n")
    };
    for (transport, keys, said) in [
        (
            "listen = \"127.0.0.1:1\"",
            &["ca"][..],
            "links[0].tls: a link over TLS needs tls.certificate and tls.key",
        ),
        ("connect = \"a:1\"", &["certificate", "key"], "links[0].tls: a link over TLS needs tls.ca"),
        ("udp = \"127.0.0.1:1\"", &["certificate", "key", "ca"], "TLS needs TCP"),
    ] {
        let text = errors(&format!("{}{}", link(transport), files.section(keys)));
        assert!(text.contains(said), "{text}");
    }
    let printed = config(&format!("{}{}", link("connect = \"a:1\""), files.section(&["ca"]))).to_toml();
    assert!(printed.contains("\ntls = true\n"), "{printed}");
}

#[test]
fn tls_counts_for_the_memory_and_fits_with_the_defaults() {
    let files = Files::new();
    let plain = config("").memory_bound().total();
    let encrypted = config(&files.whole()).memory_bound();
    assert!(encrypted.fits() && encrypted.total() > plain, "{encrypted}");
    let text = encrypted.to_string();
    assert!(text.contains("TLS of connections that have not identified"), "{text}");
}
