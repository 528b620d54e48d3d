//! TCP over IPv4 as far as clients without a kernel need it: one segment in one packet, with the device's header before it.

/// `struct virtio_net_hdr`, which `IFF_VNET_HDR` puts before each packet.
const DEVICE_HEADER_BYTES: usize = 10;
const IP_BYTES: usize = 20;
const TCP_BYTES: usize = 20;
const MSS_OPTION_BYTES: usize = 4;
/// The largest packet of IPv4, with the device's header.
pub const PACKET_BYTES_MAX: usize = DEVICE_HEADER_BYTES + 65_535;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`: the checksum is still to be made, so nobody checks it.
const NEEDS_CHECKSUM: u8 = 1;
const CHECKSUM_OFFSET: u16 = 16;
const TCP: u8 = 6;
/// What fits a device whose MTU is 1,500.
const MSS: u16 = 1460;

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;

/// An address of IPv4 and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub address: u32,
    pub port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'b> {
    pub from: Place,
    pub to: Place,
    pub sequence: u32,
    pub acknowledged: u32,
    pub flags: u8,
    pub window: u16,
    pub payload: &'b [u8],
}

impl<'b> Segment<'b> {
    /// What the device has handed out; `None` for anything but TCP over IPv4.
    pub fn decode(packet: &'b [u8]) -> Option<Segment<'b>> {
        let ip = packet.get(DEVICE_HEADER_BYTES..)?;
        let first = *ip.first()?;
        let ip_bytes = usize::from(first & 15) * 4;
        if first >> 4 != 4 || ip.get(9) != Some(&TCP) {
            return None;
        }
        let length = usize::from(half(ip, 2)?);
        let tcp = ip.get(ip_bytes..length)?;
        let tcp_bytes = usize::from(tcp.get(12)? >> 4) * 4;
        Some(Segment {
            from: Place { address: word(ip, 12)?, port: half(tcp, 0)? },
            to: Place { address: word(ip, 16)?, port: half(tcp, 2)? },
            sequence: word(tcp, 4)?,
            acknowledged: word(tcp, 8)?,
            flags: *tcp.get(13)?,
            window: half(tcp, 14)?,
            payload: tcp.get(tcp_bytes..)?,
        })
    }

    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// Writes the whole packet over `out`. A SYN offers its MSS and nothing else: no timestamps, no SACK, no scale.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let options = if self.has(SYN) { MSS_OPTION_BYTES } else { 0 };
        let length = IP_BYTES + TCP_BYTES + options + self.payload.len();
        let length = u16::try_from(length).expect("a segment of ours is short");
        out.clear();
        out.extend_from_slice(&[NEEDS_CHECKSUM, 0, 0, 0, 0, 0]);
        out.extend_from_slice(&(IP_BYTES as u16).to_ne_bytes());
        out.extend_from_slice(&CHECKSUM_OFFSET.to_ne_bytes());

        let [from, to] = [self.from.address.to_be_bytes(), self.to.address.to_be_bytes()];
        let mut ip = [0; IP_BYTES];
        ip[0] = 0x45;
        ip[2..4].copy_from_slice(&length.to_be_bytes());
        ip[6] = 0x40; // not to be fragmented
        ip[8] = 64;
        ip[9] = TCP;
        ip[12..16].copy_from_slice(&from);
        ip[16..20].copy_from_slice(&to);
        let sum = checksum(&ip);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        out.extend_from_slice(&ip);

        out.extend_from_slice(&self.from.port.to_be_bytes());
        out.extend_from_slice(&self.to.port.to_be_bytes());
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&self.acknowledged.to_be_bytes());
        let words = ((TCP_BYTES + options) / 4) as u8;
        out.extend_from_slice(&[words << 4, self.flags]);
        out.extend_from_slice(&self.window.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        if options > 0 {
            out.extend_from_slice(&[2, MSS_OPTION_BYTES as u8]);
            out.extend_from_slice(&MSS.to_be_bytes());
        }
        out.extend_from_slice(self.payload);
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The Internet's checksum (RFC 1071) of a header whose own checksum is zero.
fn checksum(header: &[u8; IP_BYTES]) -> u16 {
    let sum: u32 = header.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !(((folded & 0xffff) + (folded >> 16)) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: Segment<'static> = Segment {
        from: Place { address: 0x0a00_0001, port: 1024 },
        to: Place { address: 0x0aff_fffe, port: 8080 },
        sequence: 0xffff_fff0,
        acknowledged: 7,
        flags: PSH | ACK,
        window: 65_535,
        payload: b"hello",
    };

    #[test]
    fn a_segment_reads_back_as_it_was_written() {
        let mut packet = vec![1, 2, 3];
        for flags in [SYN, SYN | ACK, ACK, PSH | ACK, FIN | ACK, RST] {
            let segment = Segment { flags, ..SEGMENT };
            segment.encode(&mut packet);
            assert_eq!(Segment::decode(&packet), Some(segment));
        }
        assert_eq!(packet.len(), DEVICE_HEADER_BYTES + IP_BYTES + TCP_BYTES + 5);
    }

    #[test]
    fn padding_behind_a_packet_is_no_payload() {
        let mut packet = Vec::new();
        SEGMENT.encode(&mut packet);
        packet.extend([0; 9]);
        assert_eq!(Segment::decode(&packet), Some(SEGMENT));
    }

    #[test]
    fn what_is_cut_or_something_else_is_none() {
        let mut packet = Vec::new();
        SEGMENT.encode(&mut packet);
        for length in 0..packet.len() {
            assert_eq!(Segment::decode(&packet[..length]), None, "{length}");
        }
        for (at, byte) in [(10, 0x65), (19, 17)] {
            let mut other = packet.clone();
            other[at] = byte;
            assert_eq!(Segment::decode(&other), None);
        }
    }

    #[test]
    fn the_checksum_is_that_of_the_rfc() {
        // The example of many a textbook: 4500 0073 0000 4000 4011 [b861] c0a8 0001 c0a8 00c7.
        let header = [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7];
        assert_eq!(checksum(&header), 0xb861);
    }
}
