//! Checks that the values fit together.

use std::net::{IpAddr, SocketAddr};

use super::addresses::is_loopback;
use super::draft::Draft;
use super::links::LinkTransport;
use super::memory::{BATCH_BYTES, COMMIT_BYTES};
use super::outputs::OutputTransport;
use super::units::{MIB, RoundedMib, Size};

mod links;
mod outputs;
mod tls;

pub(super) use links::check_recording;

/// Upper bound in bytes of the positions of one stream at the head of a segment.
const POSITION_BYTES_MAX: u64 = 128;

/// Adds all conflicts between values to `draft`.
pub(super) fn check(draft: &mut Draft<'_>) {
    check_windows(draft);
    check_memory(draft);
    check_reserve(draft);
    check_segments(draft);
    check_export(draft);
    tls::check_clients(draft);
    check_exposure(draft);
    tls::check_encryption(draft);
    check_listeners(draft);
    links::check_links(draft);
    tls::check_links(draft);
    outputs::check_outputs(draft);
}

/// The windows of a stream must hold one message. Otherwise the stream could never send it.
fn check_windows(draft: &mut Draft<'_>) {
    let ingest = draft.config.ingest.clone();
    let message = ingest.max_message;
    for (key, window) in [
        ("ingest.routine_window", ingest.routine_window),
        ("ingest.emergency_window", ingest.emergency_window),
    ] {
        if window < message {
            let (window, message) = (Size(window), Size(message));
            let what = format!(
                "{window} is smaller than one maximal message: expected at least \
                 ingest.max_message, which is {message}"
            );
            draft.conflict(&[key, "ingest.max_message"], what);
        }
    }
}

fn check_memory(draft: &mut Draft<'_>) {
    let bound = draft.config.memory_bound();
    if bound.fits() {
        return;
    }
    let connection = draft.config.connection_bytes();
    let connections = draft.config.ingest.max_connections.get() as u64;
    let rest = bound.total().saturating_sub(connection.saturating_mul(connections));
    let ways_out = match bound.limit.saturating_sub(rest) / connection.max(1) {
        0 => String::new(),
        fitting => format!(" lower ingest.max_connections to {fitting},"),
    };
    let what = format!(
        "the limits come to {total}, more than ingest.memory_limit = \"{limit}\": raise that to \
         \"{mib} MiB\",{ways_out} or lower ingest.routine_window, ingest.emergency_window, \
         ingest.max_message, pipeline.broadcast_capacity or feed.max_subscribers\n{bound}",
        total = RoundedMib(bound.total()),
        limit = Size(bound.limit),
        mib = bound.total().div_ceil(MIB),
    );
    let keys = [
        "ingest.memory_limit",
        "ingest.max_connections",
        "ingest.routine_window",
        "ingest.emergency_window",
        "ingest.max_message",
        "pipeline.broadcast_capacity",
        "feed.max_subscribers",
        "ingest.max_streams",
        "pipeline.processor_capacity",
        "tls.certificate",
        "links",
        "outputs",
    ];
    draft.conflict(&keys, what.replace('\n', "\n    "));
}

/// The reserve must hold the frames that are past the gate when it closes, and must fit into a segment.
fn check_reserve(draft: &mut Draft<'_>) {
    let archive = draft.config.archive.clone();
    let needed = draft.config.archive_config().reserve_bytes_min();
    let reserve = Size(archive.reserve);
    if archive.reserve < needed {
        let what = format!(
            "{reserve} is too small for the frames on their way when the disk becomes full: expected at least {needed} \
             for ingest.max_message = {message} and ingest.max_streams = {streams}",
            needed = Size(needed.next_multiple_of(MIB)),
            message = Size(draft.config.ingest.max_message),
            streams = draft.config.ingest.max_streams,
        );
        draft.conflict(&["archive.reserve", "ingest.max_message", "ingest.max_streams"], what);
    }
    if archive.reserve > archive.segment_size {
        let what = format!(
            "{reserve} is larger than a segment: expected at most archive.segment_size, which is {}",
            Size(archive.segment_size)
        );
        draft.conflict(&["archive.reserve", "archive.segment_size"], what);
    }
}

/// A segment must hold the positions of all streams and a commit. Retention must hold more than the open segment and
/// the reserve.
fn check_segments(draft: &mut Draft<'_>) {
    let archive = draft.config.archive.clone();
    let ingest = &draft.config.ingest;
    let positions = draft.config.archive_config().max_streams as u64 * POSITION_BYTES_MAX;
    let commit = COMMIT_BYTES + BATCH_BYTES + ingest.max_message;
    let needed = positions.saturating_mul(2).saturating_add(commit);
    let segment = Size(archive.segment_size);
    if archive.segment_size < needed {
        let what = format!(
            "{segment} is too small for the positions of ingest.max_streams = {streams} streams and a \
             commit of frames: expected at least {needed}",
            streams = ingest.max_streams,
            needed = Size(needed.next_multiple_of(MIB)),
        );
        let keys = ["archive.segment_size", "ingest.max_streams", "ingest.max_message"];
        draft.conflict(&keys, what);
    }
    let Some(retention) = archive.retention_size else {
        return;
    };
    let needed = draft.config.archive_config().retention_bytes_min();
    if retention < needed {
        let what = format!(
            "{} is less than two segments and the reserve: expected at least {}, twice archive.segment_size plus \
             archive.reserve",
            Size(retention),
            Size(needed)
        );
        let keys = ["archive.retention_size", "archive.segment_size", "archive.reserve"];
        draft.conflict(&keys, what);
    }
}

/// The directories of the exports and of the archive must not overlap. Otherwise the export would treat segments as its
/// own files, and retention would delete exports.
fn check_export(draft: &mut Draft<'_>) {
    let archive = draft.config.archive_dir();
    if let Some(export) = draft.config.archive.export.clone()
        && export::overlap(&export, &archive)
    {
        let what = format!(
            "{:?} overlaps the archive in {archive:?}: expected a directory beside it, such as {:?}",
            export,
            draft.config.data_dir.join("export"),
        );
        draft.conflict(&["archive.export", "data_dir"], what);
    }
    let export = draft.config.export.clone();
    if export.store.is_some() && draft.config.archive.export.is_none() {
        let what = "uploads exports, and nothing is exported: set archive.export to the directory where exports wait for \
                    their upload";
        draft.conflict(&["export.store", "archive.export"], what);
    }
    if export.store.is_none() && export.local_retention.is_some() {
        let what = "removes exports after their upload, and nothing is uploaded: set export.store, or remove this key";
        draft.conflict(&["export.local_retention", "export.store"], what);
    }
}

/// Without tokens, every client that reaches a listener may use it. Such a listener must be on loopback.
fn check_exposure(draft: &mut Draft<'_>) {
    let config = draft.config.clone();
    let (ingest, feed) = (&config.ingest, &config.feed);
    for (section, listen, is_open) in [
        ("ingest", ingest.listen, ingest.tokens.is_empty() && ingest.clients.is_empty()),
        ("feed", feed.listen, feed.tokens.is_empty() && feed.clients.is_empty()),
    ] {
        if is_open && !is_loopback(listen) {
            let what = format!(
                "{listen} can be reached from other hosts and no token is asked for: add \
                 [[{section}.tokens]] with a token_file, or listen on 127.0.0.1:{port}",
                port = listen.port()
            );
            // A token that cannot be read still counts as a token: `conflict` ignores a list with problems.
            let [listen, tokens, clients] =
                ["listen", "tokens", "clients"].map(|name| format!("{section}.{name}"));
            draft.conflict(&[&listen, &tokens, &clients], what);
        }
    }
    let http = &config.http;
    if !is_loopback(http.listen) && http.token.is_none() && http.token_file.is_none() {
        draft.warnings.push(format!(
            "http.listen = \"{}\" can be reached from other hosts and no token is asked for: set \
             http.token_file, or listen on 127.0.0.1:{}",
            http.listen,
            http.listen.port()
        ));
    }
}

/// Two listeners cannot share a port, unless their addresses or their protocols differ.
fn check_listeners(draft: &mut Draft<'_>) {
    let config = &draft.config;
    let mut tcp = vec![
        ("http.listen".to_owned(), config.http.listen),
        ("feed.listen".to_owned(), config.feed.listen),
        ("ingest.listen".to_owned(), config.ingest.listen),
    ];
    let mut udp = Vec::new();
    for (key, link) in draft.link_keys.iter().zip(&config.links) {
        match link.transport {
            LinkTransport::Connect { .. } => {}
            LinkTransport::Listen { at, .. } => tcp.push((format!("{key}.listen"), at)),
            LinkTransport::Udp { at, .. } => udp.push((format!("{key}.udp"), at)),
        }
    }
    for (key, output) in draft.output_keys.iter().zip(&config.outputs) {
        if let OutputTransport::Listen { at, .. } = output.transport {
            tcp.push((format!("{key}.listen"), at));
        }
    }
    for listeners in [tcp, udp] {
        for (index, (key, address)) in listeners.iter().enumerate() {
            for (other_key, other) in &listeners[index + 1..] {
                if collide(*address, *other) {
                    let what = format!(
                        "{key} = {address} and {other_key} = {other} collide: give each a port of its own"
                    );
                    draft.conflict(&[key, other_key], what);
                }
            }
        }
    }
}

fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let same_port = a.port() == b.port() && a.port() != 0;
    same_port && (covers(a.ip(), b.ip()) || covers(b.ip(), a.ip()))
}

/// Whether a listener on `a` accepts connections to `b`. A listener on `::` accepts IPv4 too.
fn covers(a: IpAddr, b: IpAddr) -> bool {
    let (a, b) = (a.to_canonical(), b.to_canonical());
    a == b || (a.is_unspecified() && (a.is_ipv6() || b.is_ipv4()))
}
