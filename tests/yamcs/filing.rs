//! Under which time Yamcs files a packet, which packets it takes for doubles, and what it reads at all.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;

use crate::server::{Jars, Packet, Yamcs, assert_same, copy, example};
use crate::software::{address_of, deliver, feed_link, frames, listening, packet};
use crate::support::{Daemon, Hello, Port, wait_until};

/// Arguments that make a link of Yamcs read the time as the example does.
const CUC: &str = "seqCountOffset: 0, timestampOffset: 6, \
                   timeEncoding: { type: CUC, implicitPField: 46, epoch: J2000 }";
const UNIX: &str = "seqCountOffset: 0, timestampOffset: 6";
const ARRIVAL: &str = "seqCountOffset: 0, timestampOffset: -1";
const LARGEST: &str = "packetInputStreamArgs: { maxPacketLength: 65542 }";

/// A link of Yamcs that reads packets from `address` with these `arguments` of the preprocessor and these other `keys`.
fn packets_link(name: &str, address: SocketAddr, arguments: &str, keys: &str) -> String {
    let (host, port) = (address.ip(), address.port());
    format!(
        "  - {{ name: {name}, class: org.yamcs.tctm.TcpTmDataLink, stream: tm_realtime, host: {host}, port: {port}, \
         packetInputStreamClassName: org.yamcs.tctm.CcsdsPacketInputStream, \
         packetPreprocessorClassName: org.yamcs.tctm.GenericPacketPreprocessor, \
         packetPreprocessorArgs: {{ {arguments} }}, {keys} }}\n"
    )
}

/// A link of Yamcs that receives the TM frames of [`frames`] at `port`.
fn frames_link(port: u16) -> String {
    format!(
        "  - {{ name: tm, class: org.yamcs.tctm.ccsds.UdpTmFrameLink, port: {port}, frameType: TM, spacecraftId: 42, \
         frameLength: 108, errorDetection: CRC16, virtualChannels: [{{ vcId: 1, service: PACKET, ocfPresent: false, \
         maxPacketLength: 65542, stream: tm_realtime, \
         packetPreprocessorClassName: org.yamcs.tctm.GenericPacketPreprocessor, \
         packetPreprocessorArgs: {{ {ARRIVAL} }} }}] }}\n"
    )
}

/// Writes the files of a Yamcs at `http` with these instances and their links.
fn write_files(directory: &Path, http: SocketAddr, instances: &[(&str, String)]) {
    copy(&example().join("mdb"), &directory.join("mdb"), &BTreeMap::new());
    let etc = directory.join("etc");
    std::fs::create_dir(&etc).unwrap();
    let names: Vec<_> = instances.iter().map(|(name, _)| *name).collect();
    let server = format!(
        "services: [{{ class: org.yamcs.http.HttpServer, args: {{ address: {}, port: {} }} }}]\ninstances: [{}]\n",
        http.ip(),
        http.port(),
        names.join(", ")
    );
    std::fs::write(etc.join("yamcs.yaml"), server).unwrap();
    for (name, links) in instances {
        let instance = format!(
            "services: [{{ class: org.yamcs.archive.XtceTmRecorder }}]\nstreamConfig: {{ tm: [tm_realtime], event: [events_realtime] }}\n\
             mdb: [{{ type: xtce, args: {{ file: mdb/ccsds.xml }} }}]\ndataLinks:\n{links}"
        );
        std::fs::write(etc.join(format!("yamcs.{name}.yaml")), instance).unwrap();
    }
}

/// A packet whose time is `seconds` after J2000 and reads as other 8 bytes, too.
fn timed(apid: u16, seconds: u32, content: &[u8]) -> Vec<u8> {
    packet(apid, 0, &[&seconds.to_be_bytes()[..], &[0; 4], content].concat())
}

/// The only packet with this APID.
#[track_caller]
fn only(packets: &[Packet], apid: u8) -> &Packet {
    let mut found = packets.iter().filter(|packet| packet.bytes[1] == apid);
    let packet = found.next().expect("a packet with this APID");
    assert_eq!(found.count(), 0, "APID {apid} is archived more than once");
    packet
}

#[test]
fn yamcs_files_a_packet_by_time_and_header_and_reads_the_largest_packets_and_tm_frames() {
    let Some(jars) = Jars::find() else { return };
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let daemon = Daemon::start(
        &(format!(
            "[ingest]\nmax_message = \"128 KiB\"\n[[links]]\nname = \"modem\"\nlisten = \"127.0.0.1:0\"\n\
             station = \"KIRUNA\"\nframing = {{ kind = \"fixed\", length = 108 }}\n\
             decode = {{ kind = \"tm\", fecf = \"crc16\" }}\nspacecraft = [42]\nsource = \"scid\"\n\
             [[outputs]]\nname = \"frames\"\nudp = \"{datagrams}\"\nselect = {{ sources = [42] }}\n"
        ) + &listening("all", "start = \"earliest\"\nselect = { sources = [1] }")
            + &listening("largest", "start = \"earliest\"\nselect = { sources = [2] }")),
    );
    let (all, largest) = (address_of(&daemon, "all"), address_of(&daemon, "largest"));
    let (directory, port) = (tempfile::tempdir().unwrap(), Port::hold());
    let default_limit = packets_link("default-limit", largest, ARRIVAL, "enabledAtStartup: true");
    let instances = [
        ("cuc", packets_link("live", all, CUC, LARGEST)),
        ("unix", packets_link("live", all, UNIX, LARGEST)),
        ("arrival", packets_link("live", all, ARRIVAL, LARGEST)),
        ("frames", frames_link(datagrams.port()) + &default_limit),
    ];
    write_files(directory.path(), port.address(), &instances);
    let yamcs = Yamcs::start(&jars, directory.path(), port.address());

    let first = timed(1, 10_038, b"first");
    let unix = packet(2, 0, &1_600_000_000_123_u64.to_be_bytes());
    let short = packet(3, 0, b"short");
    let longest = timed(4, 10_039, &vec![0xA5; 65_528]);
    assert_eq!(longest.len(), 65_542);
    // The other two differ from one with the same header and time in what is behind. Even the time of arrival would be the
    // same if one followed the other within a millisecond.
    let (other, opposite) = (timed(1, 10_038, b"other"), packet(3, 0, b"trohs"));
    let rounds = [vec![&first, &unix, &longest, &short], vec![&first, &opposite], vec![&other]];
    let mut sent = Vec::new();
    for round in rounds {
        sent.extend(round.iter().copied().cloned());
        deliver(&daemon, &Hello::new(1), round.into_iter().cloned());
        for instance in ["arrival", "cuc", "unix"] {
            wait_until("each reader gets every packet", || match yamcs.received(instance, "live") {
                received if received == sent.len() as u64 => Ok(()),
                received => Err(format!("{received} of {} packets in {instance}", sent.len())),
            });
        }
    }
    assert_same(yamcs.wait_archived("arrival", sent.len()), sent);
    // A wrong encoding gives other times, and a packet that is too short for a time has the year 1.
    let times_as_cuc = ["2000-01-01T14:46:13.81", "2000-01-01T12:05:08", "0001-01-01T00:00:00"];
    let times_as_unix = ["3336-", "2020-09-13T12:26:40.123Z", "0001-01-01T00:00:00"];
    for (instance, times) in [("cuc", times_as_cuc), ("unix", times_as_unix)] {
        let archived = yamcs.wait_archived(instance, 4);
        assert_eq!(
            only(&archived, 1).bytes,
            first,
            "the first of the packets with one time and header stays"
        );
        assert_eq!(only(&archived, 3).bytes, short);
        assert!(only(&archived, 4).bytes == longest, "the largest packet differs");
        for (apid, time) in [1, 2, 3].into_iter().zip(times) {
            let found = only(&archived, apid);
            assert!(found.time.starts_with(time), "not at {time} in {instance}: {found:?}");
        }
    }

    deliver(&daemon, &Hello::new(2), [longest]);
    yamcs.wait_lines("packetLength (65542) > maxPacketLength(1500)", 1);

    let carried: Vec<_> =
        (0..60).map(|count| packet(5, count, &vec![count as u8; 1 + usize::from(count) * 7])).collect();
    let (mut units, ranges) = frames(1, &carried);
    let lost = 7;
    units.remove(lost);
    feed_link(&daemon, &units.concat());
    let whole =
        carried.iter().zip(&ranges).filter(|(_, range)| !range.contains(&lost)).map(|(packet, _)| packet);
    let whole: Vec<_> = whole.collect();
    assert!(whole.len() < carried.len());
    let archived = yamcs.wait_archived("frames", whole.len());
    assert!(archived.iter().map(|packet| &packet.bytes).eq(whole), "the packets differ");
}
