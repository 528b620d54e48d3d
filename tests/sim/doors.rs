//! Who is let in: connections by address, and those that idle when there are too many.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use sockring::capacity::{Capacity, CapacityLimits};
use sockring::proxies::TrustedProxies;
use sockring::shard::{
    ConnectionKey, Destination, Effect, Elsewhere, EngineSettings, Limit, Now, Parcel, Shard, ShardNumber, ShardParts,
};
use sockring_protocol::Millis;

use super::desk::Desk;
use super::random::Random;
use super::record::Record;
use super::wire;

const LIMITS: CapacityLimits = CapacityLimits { connections_max: 64, clients_max: 8, ..CapacityLimits::UNLIMITED };

struct Doors {
    shard: Shard<Desk>,
    now: u64,
    /// Given to the API.
    given: Vec<Parcel>,
    closed: Vec<ConnectionKey>,
}

impl Doors {
    fn new(limits: CapacityLimits) -> Doors {
        let settings = EngineSettings {
            elsewhere: Elsewhere::HandOver,
            proxies: TrustedProxies::parse(["198.51.100.1"]).expect("an address"),
            ..EngineSettings::default()
        };
        let record = Rc::new(RefCell::new(Record::new(settings.rooms_per_socket_max, 1)));
        let parts = ShardParts {
            settings: Arc::new(settings),
            capacity: Arc::new(Capacity::new(limits)),
            place: ShardNumber { number: 0, of: 1 },
            app: Desk::new(record),
            entropy: Box::new(Random::new(1)),
        };
        let now = Now { at: Millis(1_000), unix_ms: 0 };
        Doors { shard: Shard::new(parts, now), now: 1_000, given: Vec::new(), closed: Vec::new() }
    }

    fn accept(&mut self, address: &str) -> Option<ConnectionKey> {
        let key = self.shard.on_accept(address.parse::<IpAddr>().ok());
        self.turn();
        key
    }

    fn say(&mut self, key: ConnectionKey, mut bytes: Vec<u8>) {
        self.shard.on_bytes(key, &mut bytes);
        self.turn();
    }

    fn pass(&mut self, ms: u64) {
        self.now += ms;
        self.shard.on_time(Now { at: Millis(self.now), unix_ms: 0 });
        self.shard.on_tick();
        self.turn();
    }

    /// Plays the worker: what is sent is taken, what is closed is gone at once.
    fn turn(&mut self) {
        loop {
            let mut effects = Vec::new();
            self.shard.flush(&mut effects);
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                match effect {
                    Effect::Send(key, _) => self.shard.on_sent(key, Ok(())),
                    Effect::Close(key) => {
                        self.closed.push(key);
                        self.shard.on_closed(key);
                    }
                    Effect::HandOver(key, Destination::Api, parcel) => {
                        self.given.push(*parcel);
                        self.shard.on_closed(key);
                    }
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn an_address_has_so_many_connections_until_they_serve_a_session() {
    let mut doors = Doors::new(CapacityLimits { connections_per_address_max: 2, ..LIMITS });
    let first = doors.accept("203.0.113.1").expect("the first");
    let second = doors.accept("203.0.113.1").expect("the second");
    assert!(doors.accept("203.0.113.1").is_none());
    assert!(doors.accept("203.0.113.2").is_some(), "one address does not use up another's");
    // This machine, private networks and the proxies that are named are many people's.
    for address in ["127.0.0.1", "::1", "10.1.2.3", "198.51.100.1", "unknown"] {
        assert!((0..5).all(|_| doors.accept(address).is_some()), "{address}");
    }
    // A session takes its connection off the count, for good.
    doors.say(first, wire::handshake());
    let third = doors.accept("203.0.113.1").expect("of two that count one is gone");
    assert!(doors.accept("203.0.113.1").is_none());
    // Where it is does not matter.
    doors.say(second, wire::elsewhere());
    assert!(doors.accept("203.0.113.1").is_none(), "at the API it counts");
    let parcel = doors.given.pop().expect("one for the API");
    let back = doors.shard.on_arrival("203.0.113.1".parse().ok(), parcel).expect("it comes back");
    doors.turn();
    assert!(doors.accept("203.0.113.1").is_none(), "and when it is back");
    drop(doors.given.pop().expect("its request was for the API, so it is there again"));
    assert!(doors.accept("203.0.113.1").is_some(), "its end counts");
    let _ = (third, back);
    assert_eq!(doors.shard.counters().hits(Limit::ConnectionsPerAddressMax), 4);
}

#[test]
fn the_one_that_has_idled_longest_makes_room() {
    let limits = CapacityLimits { connections_max: 3, guests_max: 2, ..LIMITS };
    let mut doors = Doors::new(limits);
    let keys: Vec<_> = (0..3)
        .map(|_| {
            doors.pass(100);
            doors.accept("203.0.113.1").expect("room")
        })
        .collect();
    // The first has just asked for something, so the second has idled longest, and the third is a session's.
    doors.pass(500);
    doors.say(keys[2], wire::handshake());
    doors.say(keys[0], b"GET /socket.io/?EIO=3&transport=polling HTTP/1.1\r\nHost: sim\r\n\r\n".to_vec());
    doors.pass(300);
    assert!(doors.accept("203.0.113.1").is_some() && doors.closed.is_empty(), "nobody has idled for long: a guest");
    doors.pass(300);
    let member = doors.accept("203.0.113.1").expect("the place of the second");
    assert_eq!(doors.closed, [keys[1]]);
    // It is a member at once: its handshake is served, whenever it comes.
    let opened = doors.shard.counters().opened;
    doors.say(member, wire::handshake());
    assert_eq!(doors.shard.counters().opened, opened + 1);
}
