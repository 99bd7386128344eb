//! Equipment behind an input link. It sends numbered space packets, each once, and gets no acknowledgement.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::content::mixed;
use crate::scene::pass;

/// Source ids of the links of a scene. No source of the fleet has them.
pub const LINKS: [u32; 2] = [900, 901];
/// Time between two packets.
const PACE: Duration = Duration::from_millis(15);
/// Longest time to connect, and longest time in which the link takes nothing.
const WAIT_MAX: Duration = Duration::from_secs(1);

pub fn is_link(source: u32) -> bool {
    LINKS.contains(&source)
}

/// The table of the configuration for a link that listens on `address`.
pub fn table(source: u32, address: SocketAddr) -> String {
    format!(
        "[[links]]\nname = \"link-{source}\"\nlisten = \"{address}\"\nstation = \"KIRUNA\"\n\
         framing = {{ kind = \"packet\", max = 2000 }}\nsource = {source}\n"
    )
}

/// The space packet number `number` of a link.
fn packet(source: u32, number: u64) -> Vec<u8> {
    let mut content = number.to_be_bytes().to_vec();
    let filler = mixed(number ^ u64::from(source) << 40);
    content.resize(8 + (filler % 200) as usize, filler as u8);
    let mut packet = (0x0800_u16 | 7).to_be_bytes().to_vec();
    packet.extend_from_slice(&(0xC000 | (number as u16 & 0x3FFF)).to_be_bytes());
    packet.extend_from_slice(&(content.len() as u16 - 1).to_be_bytes());
    packet.extend_from_slice(&content);
    packet
}

/// The number of a packet that the equipment of `source` has sent.
pub fn number_of(source: u32, unit: &[u8]) -> Option<u64> {
    let number = u64::from_be_bytes(*unit.get(6..)?.first_chunk()?);
    (packet(source, number) == unit).then_some(number)
}

/// Equipment on a thread of its own. It reconnects by itself.
pub struct Equipment {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Equipment {
    pub fn start(source: u32, address: SocketAddr) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = std::thread::spawn({
            let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
            move || {
                while !stop.load(Relaxed) {
                    pass(PACE);
                    if let Ok(socket) = TcpStream::connect_timeout(&address, WAIT_MAX) {
                        drop(send(source, socket, &stop, &sent));
                    }
                }
            }
        });
        Self { stop, sent, thread: Some(thread) }
    }

    /// Ends the equipment. Returns the number of packets that it has sent.
    pub fn stop(&mut self) -> u64 {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the equipment panicked");
        }
        self.sent.load(Relaxed)
    }
}

impl Drop for Equipment {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

fn send(source: u32, mut socket: TcpStream, stop: &AtomicBool, sent: &AtomicU64) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    socket.set_write_timeout(Some(WAIT_MAX))?;
    while !stop.load(Relaxed) {
        // Counted before the write: a packet that is written in part never comes a second time.
        let number = sent.fetch_add(1, Relaxed);
        socket.write_all(&packet(source, number))?;
        pass(PACE);
    }
    Ok(())
}
