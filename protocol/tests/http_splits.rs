//! Requests mean the same however their bytes are cut, the malformed ones included.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::expect_used)]

use sockring_protocol::http::{BodyDecoder, BodyState, Head, HeadLimits, RequestError};

const BODY_BYTES_MAX: usize = 64;
const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 512 };

const STREAMS: &[&[u8]] = &[
    b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: a\r\n\r\n",
    // Two requests on one connection.
    b"POST /socket.io/?EIO=4&sid=a%41 HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n4hello\
      GET /b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"\r\n\r\nPOST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
      3;x=y\r\n4he\r\n3 \r\nllo\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x80",
    b"OPTIONS http://a.example/x?y HTTP/1.1\r\nHost: b\r\nExpect: 100-continue\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 65\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n01234567890123456789012345678901\r\n21\r\n",
    b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    b"\x16\x03\x01\x02\x00",
];

/// What a connection says, in words; a request that is not complete says how far it came.
fn run<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let mut connection = Connection::default();
    for piece in pieces {
        connection.bytes.extend_from_slice(piece);
        if let Err(error) = connection.advance() {
            connection.said.push(format!("{error}"));
            return connection.said;
        }
    }
    let begun =
        format!("{:?} with {:?}, {} bytes left", connection.body.is_some(), connection.payload, connection.bytes.len());
    connection.said.push(begun);
    connection.said
}

#[derive(Default)]
struct Connection {
    bytes: Vec<u8>,
    scanned: usize,
    body: Option<BodyDecoder>,
    payload: Vec<u8>,
    said: Vec<String>,
}

impl Connection {
    fn advance(&mut self) -> Result<(), RequestError> {
        loop {
            if let Some(body) = &mut self.body {
                let (consumed, state) = body.decode(&self.bytes, &mut self.payload)?;
                self.bytes.drain(..consumed);
                if state == BodyState::More {
                    assert!(self.bytes.is_empty(), "all is taken while more is needed");
                    return Ok(());
                }
                self.said.push(format!("body {:?}", std::mem::take(&mut self.payload)));
                self.body = None;
            }
            let Some((head, length)) = Head::decode(&self.bytes, &mut self.scanned, &LIMITS)? else { return Ok(()) };
            assert_eq!(self.scanned, 0);
            let flags = (head.keep_alive, head.framing, head.upgrade, head.expects_continue);
            let pairs: Vec<_> = head.query.pairs().collect();
            self.said.push(format!("{:?} {:?} {pairs:?} {:?} {flags:?}", head.method, head.path, head.host()));
            self.body = Some(BodyDecoder::new(head.framing, BODY_BYTES_MAX)?);
            self.bytes.drain(..length);
        }
    }
}

#[test]
fn every_single_cut_means_the_same() {
    for stream in STREAMS {
        let expected = run(std::iter::once(*stream));
        assert_eq!(run(stream.chunks(1)), expected, "{} byte by byte", stream.escape_ascii());
        for cut in 0..=stream.len() {
            let (first, second) = stream.split_at(cut);
            assert_eq!(run([first, second].into_iter()), expected, "{} cut at {cut}", stream.escape_ascii());
        }
    }
}

#[test]
fn random_changes_and_cuts_mean_the_same() {
    for seed in seeds(10_000) {
        let mut random = Random(seed);
        let mut stream = STREAMS[random.below(STREAMS.len())].to_vec();
        for _ in 0..random.below(4) {
            random.change(&mut stream);
        }
        let expected = run(std::iter::once(stream.as_slice()));
        let command = format!("SEED={seed} cargo test -p sockring-protocol --test http_splits random");
        assert_eq!(run(stream.chunks(1)), expected, "byte by byte: {command}");
        assert_eq!(run(random.cut(&stream).into_iter()), expected, "{command}");
    }
}

#[test]
fn a_body_is_never_read_past_its_end() {
    let stream = STREAMS[1];
    let said = run(std::iter::once(stream));
    assert_eq!(said.len(), 5);
    assert!(said[2].starts_with("Get \"/b\""), "{}", said[2]);
}

/// `SEED` alone if it is set, else the first `count`.
fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let only = std::env::var("SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    only.into_iter().chain((0..count).take_while(move |_| only.is_none()))
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        const BYTES: &[u8] = b"\r\n\r\n :;,/%0159afGx\t\0\xff";
        let at = self.below(bytes.len());
        match self.below(4) {
            0 => bytes[at] = BYTES[self.below(BYTES.len())],
            1 => bytes.insert(at, BYTES[self.below(BYTES.len())]),
            2 if bytes.len() > 1 => drop(bytes.remove(at)),
            _ => bytes.truncate(at + 1),
        }
    }

    fn cut<'a>(&mut self, bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let mut rest = bytes;
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(self.below(rest.len().min(20) + 1));
            pieces.push(piece);
            rest = after;
        }
        pieces
    }
}
