//! What clients send: segments on the device, cut as each of them does.

use crate::client::Client;
use crate::fault::Fault;
use crate::packet::{ACK, PSH, Place, Segment};
use crate::tun::Tun;

/// Clients are 10.0.0.1 and up.
pub const FIRST_ADDRESS: u32 = 0x0a00_0001;
const PORT: u16 = 1024;

/// The device, and where the server is.
pub struct Wire {
    pub tun: Tun,
    pub server: Place,
    packet: Vec<u8>,
    pub sent: u64,
    pub refused: u64,
}

impl Wire {
    pub fn new(tun: Tun, server: Place) -> Wire {
        Wire { tun, server, packet: Vec::new(), sent: 0, refused: 0 }
    }

    pub fn send(&mut self, index: u32, client: &Client, flags: u8, sequence: u32, payload: &[u8]) {
        let acknowledged = if flags & ACK == 0 { 0 } else { client.received };
        let from = Place { address: FIRST_ADDRESS + index, port: PORT };
        let window = client.window.bytes();
        Segment { from, to: self.server, sequence, acknowledged, flags, window, payload }.encode(&mut self.packet);
        match self.tun.send(&self.packet) {
            Ok(()) => self.sent += 1,
            Err(_) => self.refused += 1,
        }
    }

    /// Says `payload`, in the way of this client.
    pub fn say(&mut self, index: u32, client: &Client, fault: Option<Fault>, sequence: u32, payload: &[u8]) {
        let at = |from: usize| sequence.wrapping_add(u32::try_from(from).expect("a segment of ours is short"));
        match fault {
            Some(Fault::Shuffled) if payload.len() > 3 => {
                let (third, length) = (payload.len() / 3, payload.len());
                for (from, to) in
                    [(2 * third - 1, length), (third - 1, length - 1), (2 * third, length), (0, 2 * third)]
                {
                    self.send(index, client, PSH | ACK, at(from), &payload[from..to]);
                    self.send(index, client, PSH | ACK, at(from), &payload[from..to]);
                }
            }
            Some(Fault::Bytewise) => {
                for (from, byte) in payload.iter().enumerate() {
                    self.send(index, client, PSH | ACK, at(from), std::slice::from_ref(byte));
                }
            }
            _ => self.send(index, client, PSH | ACK, sequence, payload),
        }
    }
}
