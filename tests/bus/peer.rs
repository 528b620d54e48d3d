//! `Peer`: what a Node server with the classic adapter would say and hear, byte for byte, by hand.

use std::collections::VecDeque;

use redis::{Connection, Value as Reply, cmd};
use serde_json::Value;

use crate::redis_server::RedisServer;

/// One that counts as a server: it listens for requests.
pub struct Peer {
    publisher: Connection,
    subscriber: Connection,
    heard: VecDeque<(String, Vec<u8>)>,
}

impl Peer {
    /// Listens on these channels.
    pub fn listening(redis: &RedisServer, channels: &[&str]) -> Peer {
        let mut subscriber = redis.connect();
        for channel in channels {
            subscriber
                .send_packed_command(&cmd("SUBSCRIBE").arg(channel).get_packed_command())
                .expect("Redis is there");
            subscriber.recv_response().expect("a confirmation");
        }
        Peer { publisher: redis.connect(), subscriber, heard: VecDeque::new() }
    }

    /// Publishes; says how many connections got it.
    #[track_caller]
    pub fn publish(&mut self, channel: &str, body: impl AsRef<[u8]>) -> u64 {
        cmd("PUBLISH").arg(channel).arg(body.as_ref()).query(&mut self.publisher).expect("Redis takes it")
    }

    /// Publishes all of it at once.
    #[track_caller]
    pub fn publish_all(&mut self, messages: impl Iterator<Item = (String, Vec<u8>)>) {
        let mut pipe = redis::pipe();
        for (channel, body) in messages {
            pipe.cmd("PUBLISH").arg(channel).arg(body).ignore();
        }
        pipe.query::<()>(&mut self.publisher).expect("Redis takes it");
    }

    /// The next message: its channel and its body.
    #[track_caller]
    pub fn hear(&mut self) -> (String, Vec<u8>) {
        if let Some(heard) = self.heard.pop_front() {
            return heard;
        }
        let Ok(Reply::Array(parts)) = self.subscriber.recv_response() else { panic!("nothing was heard") };
        let mut parts = parts.into_iter().skip(1).map(|part| match part {
            Reply::BulkString(bytes) => bytes,
            part => panic!("{part:?} is no part of a message"),
        });
        let channel = String::from_utf8(parts.next().expect("a channel")).expect("UTF-8");
        (channel, parts.next().expect("a body"))
    }

    /// The next message, which is JSON.
    #[track_caller]
    pub fn hear_json(&mut self) -> (String, Value) {
        let (channel, body) = self.hear();
        let value = serde_json::from_slice(&body);
        (channel, value.unwrap_or_else(|error| panic!("{error} in {:?}", String::from_utf8_lossy(&body))))
    }
}

/// A broadcast as `@socket.io/redis-emitter` packs it: an event with one text, to one room or all.
pub fn broadcast(namespace: &str, room: Option<&str>, event: &str, text: &str) -> Vec<u8> {
    let string = |text: &str, out: &mut Vec<u8>| {
        let length = u8::try_from(text.len()).expect("a short text");
        out.extend([0xd9, length]);
        out.extend(text.as_bytes());
    };
    let mut out = vec![0x93];
    string("emitter", &mut out);
    out.push(0x83);
    string("type", &mut out);
    out.push(0x02);
    string("data", &mut out);
    out.push(0x92);
    string(event, &mut out);
    string(text, &mut out);
    string("nsp", &mut out);
    string(namespace, &mut out);
    out.push(0x83);
    string("rooms", &mut out);
    match room {
        None => out.push(0x90),
        Some(room) => {
            out.push(0x91);
            string(room, &mut out);
        }
    }
    string("flags", &mut out);
    out.push(0x80);
    string("except", &mut out);
    out.push(0x90);
    out
}
