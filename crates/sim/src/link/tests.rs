//! The simulated equipment against sockets of the test, which read with the daemon's framings.

use super::*;
use framing::{
    Cadu, Continuity, Decode, Deframer, Fecf, Format, Framing, Kiss, Length, Nctrs, ScidBits, Unit, packet,
};

const HANGS: Duration = Duration::from_secs(20);

fn plan(format: LinkFormat, address: &str) -> LinkPlan {
    LinkPlan {
        format,
        aos: false,
        peer: LinkPeer::Connect(address.to_owned()),
        tls: None,
        satellites: 3,
        frames: Some(200),
        duration: None,
        rate: 0.0,
        unit_bytes: 100,
        emergency_ratio: 0.1,
        loss_ratio: 0.0,
        noise_bytes: 0,
        seed: 9,
        linger: HANGS,
    }
}

fn framing_of(format: LinkFormat) -> Framing {
    match format {
        LinkFormat::Cadu => Framing::Cadu(Cadu { length: 136, strip: 32, ..Cadu::default() }),
        LinkFormat::Packet => Framing::Packet { max: packet::PACKET_BYTES_MAX },
        LinkFormat::Kiss => Framing::Kiss(Kiss::default()),
        LinkFormat::Length => Framing::Length(Length::default()),
        LinkFormat::Nctrs => Framing::Nctrs(Nctrs::default()),
        LinkFormat::UdpPacket | LinkFormat::UdpFrame => Framing::Datagram { max: 65_507 },
    }
}

fn decode_of(plan: &LinkPlan) -> Decode {
    let format = match (plan.format, plan.aos) {
        (LinkFormat::Packet | LinkFormat::UdpPacket, _) => {
            return Decode { format: Format::Packet, ..Decode::default() };
        }
        (_, true) => Format::Aos(ScidBits::Eight),
        (_, false) => Format::Tm,
    };
    Decode { format, fecf: Fecf::Crc16, ..Decode::default() }
}

/// Runs `plan` without a stop.
async fn send(plan: &LinkPlan) -> LinkReport {
    let (_stop_tx, stop) = watch::channel(false);
    timeout(HANGS, run(plan, stop, |_| ())).await.unwrap().unwrap()
}

/// Runs `plan` against a listener. Returns the report and the units that arrived.
async fn against_listener(plan: impl FnOnce(&str) -> LinkPlan) -> (LinkReport, Vec<Unit>, LinkPlan) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plan = plan(&listener.local_addr().unwrap().to_string());
    let read = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        socket.read_to_end(&mut bytes).await.unwrap();
        bytes
    };
    let (report, bytes) = tokio::join!(send(&plan), read);
    assert_eq!(bytes.len() as u64, report.bytes);
    let mut deframer = Deframer::new(&framing_of(plan.format));
    deframer.push(&bytes);
    let mut units: Vec<_> = std::iter::from_fn(|| deframer.next_unit().unwrap()).collect();
    units.extend(std::iter::from_fn(|| deframer.finish()));
    (report, units, plan)
}

/// Units that are missing, as the counts tell. Each unit must be one of the satellites of the plan.
fn missing(plan: &LinkPlan, units: &[Unit]) -> u64 {
    let decode = decode_of(plan);
    let mut channels = std::collections::BTreeMap::new();
    for unit in units {
        assert_eq!(unit.data.len(), plan.unit_bytes);
        let header = decode.header(&unit.data).unwrap();
        assert!(header.spacecraft.unwrap_or(header.channel) < plan.satellites, "{header:?}");
        let key = (header.spacecraft, header.channel);
        channels.entry(key).or_insert_with(|| Continuity::new(None)).take(header.count.unwrap());
    }
    assert!(channels.values().all(|channel| channel.restarts == 0));
    channels.values().map(|channel| channel.missing).sum()
}

#[tokio::test]
async fn every_format_over_tcp_is_read_by_its_framing() {
    for format in
        [LinkFormat::Cadu, LinkFormat::Packet, LinkFormat::Kiss, LinkFormat::Length, LinkFormat::Nctrs]
    {
        let (report, units, plan) = against_listener(|address| plan(format, address)).await;
        assert!(report.is_complete(), "{format:?}: {report}");
        assert_eq!((report.sent, report.left_out, units.len()), (600, 0, 600), "{format:?}");
        assert_eq!(missing(&plan, &units), 0, "{format:?}");
        let has_time = matches!(format, LinkFormat::Kiss | LinkFormat::Nctrs);
        assert!(units.iter().all(|unit| unit.ert_ns.is_some() == has_time), "{format:?}");
    }
}

#[tokio::test]
async fn aos_frames_with_losses_and_noise_are_found_and_what_is_left_out_is_missing() {
    let (report, units, plan) = against_listener(|address| LinkPlan {
        aos: true,
        loss_ratio: 0.1,
        noise_bytes: 50,
        ..plan(LinkFormat::Cadu, address)
    })
    .await;
    assert!(report.is_complete() && report.left_out > 30, "{report}");
    assert_eq!((report.sent + report.left_out, units.len() as u64), (600, report.sent));
    assert_eq!(report.noise_bytes, report.sent / 16 * 50);
    assert_eq!(units.iter().filter(|unit| unit.discontinuity).count() as u64, (report.sent - 1) / 16);
    // Of each channel, what is left out before its first and behind its last unit is not missing.
    let missing = missing(&plan, &units);
    assert!(missing > 0 && missing <= report.left_out, "{missing} of {}", report.left_out);
}

#[tokio::test]
async fn a_link_that_connects_is_listened_for_and_gets_the_rest_after_a_lost_connection() {
    let (address_tx, address) = tokio::sync::oneshot::channel();
    let mut address_tx = Some(address_tx);
    let (stop_tx, stop) = watch::channel(false);
    let plan = LinkPlan {
        peer: LinkPeer::Listen("127.0.0.1:0".to_owned()),
        frames: None,
        ..plan(LinkFormat::Nctrs, "")
    };
    let running = run(&plan, stop, |line| {
        if let Some(address) = line.strip_prefix("listening on ") {
            address_tx.take().unwrap().send(address.to_owned()).unwrap();
        }
    });
    let reading = async {
        let address = address.await.unwrap();
        for _ in 0..2 {
            let mut socket = TcpStream::connect(&address).await.unwrap();
            let mut unit = [0; 120];
            socket.read_exact(&mut unit).await.unwrap();
            assert_eq!(unit[..4], 120_u32.to_be_bytes());
            socket.set_zero_linger().unwrap();
        }
        let mut socket = TcpStream::connect(&address).await.unwrap();
        socket.read_u8().await.unwrap();
        stop_tx.send_replace(true);
        tokio::io::copy(&mut socket, &mut tokio::io::sink()).await.unwrap();
    };
    let (report, ()) = timeout(HANGS, async { tokio::join!(running, reading) }).await.unwrap();
    let report = report.unwrap();
    assert_eq!(report.connections, 3, "{report}");
    assert!(report.failed > 0 && !report.is_complete(), "{report}");
}

#[tokio::test]
async fn a_datagram_is_a_unit() {
    for format in [LinkFormat::UdpFrame, LinkFormat::UdpPacket] {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        // So few datagrams fit the receive buffer.
        let address = socket.local_addr().unwrap().to_string();
        let plan = LinkPlan { frames: Some(20), loss_ratio: 0.1, ..plan(format, &address) };
        let report = send(&plan).await;
        assert!(report.is_complete() && report.left_out > 0, "{report}");
        let mut datagram = [0; 1_000];
        let mut units = Vec::new();
        for _ in 0..report.sent {
            let length = timeout(HANGS, socket.recv(&mut datagram)).await.unwrap().unwrap();
            units.push(Unit { data: datagram[..length].to_vec().into(), ..Unit::default() });
        }
        assert!(missing(&plan, &units) <= report.left_out);
    }
}

#[tokio::test]
async fn an_equipment_that_finds_no_link_says_so() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap().to_string();
    drop(held);
    let plan = LinkPlan { duration: Some(Duration::from_millis(1)), ..plan(LinkFormat::Cadu, &address) };
    let report = send(&plan).await;
    assert_eq!((report.sent, report.error.as_deref()), (0, Some("never connected")));
}

#[test]
fn plans_that_cannot_be_are_refused() {
    let good = plan(LinkFormat::Cadu, "");
    assert_eq!(good.check(), Ok(()));
    let listen = LinkPeer::Listen("127.0.0.1:0".to_owned());
    for (bad, error) in [
        (LinkPlan { peer: listen, ..plan(LinkFormat::UdpFrame, "") }, LinkError::ListenUdp),
        (LinkPlan { noise_bytes: 1, ..plan(LinkFormat::Kiss, "") }, LinkError::Noise),
        (LinkPlan { aos: true, ..plan(LinkFormat::Packet, "") }, LinkError::Aos),
        (LinkPlan { satellites: 1_025, ..good.clone() }, LinkError::Satellites { found: 1_025, max: 1_024 }),
        (LinkPlan { unit_bytes: 14, ..good.clone() }, LinkError::UnitBytes { found: 14, min: 15 }),
        (
            LinkPlan { unit_bytes: 6, ..plan(LinkFormat::Packet, "") },
            LinkError::UnitBytes { found: 6, min: 7 },
        ),
    ] {
        assert_eq!(bad.check(), Err(error));
    }
}

/// Each shortest unit can be made.
#[test]
fn the_shortest_units_are_whole() {
    for (format, aos) in
        [(LinkFormat::Cadu, false), (LinkFormat::UdpFrame, true), (LinkFormat::Packet, false)]
    {
        let mut plan = LinkPlan { aos, ..plan(format, "") };
        plan.unit_bytes = plan.unit_bytes_min();
        let mut batch = Batch::default();
        Units::new(&plan).put_round(0, &mut batch);
        assert_eq!(batch.ends.len(), 3, "{format:?}");
    }
}

#[test]
fn the_configuration_is_that_of_a_link() {
    assert_eq!(
        plan(LinkFormat::Cadu, "").configuration(),
        "framing = { kind = \"cadu\", length = 136, strip = 32 }\ndecode = { kind = \"tm\", fecf = \"crc16\" }\n\
         source = \"scid\"\nemergency = [{ vcid = [3] }]"
    );
    assert_eq!(
        plan(LinkFormat::UdpPacket, "").configuration(),
        "framing = { kind = \"datagram\" }\ndecode = { kind = \"packet\" }\nsource = \"apid\"\n\
         emergency = [{ offset = 6, mask = 128, value = 128 }]"
    );
}
