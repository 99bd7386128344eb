//! Checks what is encrypted, and who may prove a name by a certificate.

use crate::addresses::is_loopback;
use crate::draft::Draft;
use crate::links::LinkTransport;

/// Certificates of clients can only be asked for over TLS, and only an authority makes them worth something.
pub(super) fn check_clients(draft: &mut Draft<'_>) {
    let config = draft.config.clone();
    for (section, is_on, is_empty) in [
        ("ingest", config.ingest.tls, config.ingest.clients.is_empty()),
        ("feed", config.feed.tls, config.feed.clients.is_empty()),
    ] {
        if is_empty {
            continue;
        }
        let clients = format!("{section}.clients");
        let missing = match (&config.tls.certificate, &config.tls.ca) {
            (None, _) => "tls.certificate and tls.key",
            (_, None) => "tls.ca, the authorities that sign the certificates of clients",
            _ if is_on => continue,
            _ => {
                let what = format!(
                    "false, but clients show certificates only over TLS: set it to true, or remove [[{clients}]]"
                );
                draft.conflict(&[&format!("{section}.tls"), &clients], what);
                continue;
            }
        };
        let what = format!("clients show certificates only over TLS: set {missing}");
        draft.conflict(&[&clients, "tls.certificate", "tls.ca"], what);
    }
}

/// A link over TLS needs the daemon's certificate to listen, and authorities to connect.
pub(super) fn check_links(draft: &mut Draft<'_>) {
    let (links, tls) = (draft.config.links.clone(), draft.config.tls.clone());
    for (key, link) in draft.link_keys.clone().iter().zip(links.iter()) {
        let what = match link.transport {
            _ if !link.tls => continue,
            LinkTransport::Listen { .. } if tls.certificate.is_none() => {
                "tls.certificate and tls.key, which it shows"
            }
            LinkTransport::Connect { .. } if tls.ca.is_none() => "tls.ca, the authorities that it trusts",
            _ => continue,
        };
        draft.conflict_in_table(format!("{key}.tls"), format!("a link over TLS needs {what}"));
    }
}

/// A listener beyond loopback should be encrypted; with `require_tls` it must be. A token in clear text is a warning.
pub(super) fn check_encryption(draft: &mut Draft<'_>) {
    let config = draft.config.clone();
    let (ingest, feed, http) = (&config.ingest, &config.feed, &config.http);
    let has_http_token = http.token.is_some() || http.token_file.is_some();
    for (section, listen, is_on, has_tokens) in [
        ("ingest", ingest.listen, ingest.tls, !ingest.tokens.is_empty()),
        ("feed", feed.listen, feed.tls, !feed.tokens.is_empty()),
        ("http", http.listen, http.tls, has_http_token),
    ] {
        if (is_on && config.tls.certificate.is_some()) || is_loopback(listen) {
            continue;
        }
        let (key, port) = (format!("{section}.listen"), listen.port());
        let way_out = if is_on {
            "set tls.certificate and tls.key".to_owned()
        } else {
            format!("set {section}.tls = true")
        };
        if config.require_tls {
            let what = format!(
                "{listen} can be reached from other hosts and is not encrypted, and require_tls = true: {way_out}, or \
                 listen on 127.0.0.1:{port}"
            );
            draft.conflict(&[&key, &format!("{section}.tls"), "tls.certificate", "require_tls"], what);
        } else if has_tokens {
            draft.warnings.push(format!(
                "{key} = \"{listen}\" can be reached from other hosts, and tokens travel there in clear text: {way_out}, or \
                 listen on 127.0.0.1:{port} behind a tunnel"
            ));
        }
    }
}
