//! A client that stops reading is closed when its queue is full, and nobody else is harmed by it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::backend::{Answered, Backend, Job};
use crate::client::{End, Farewell, Happening, Kind, Order};
use crate::crowd::{Crowd, Told, event};
use crate::server::Server;
use crate::worker::{Parent, Workers};
use crate::{alone, environment};

const PHASE_MAX: Duration = Duration::from_secs(120);
const QUEUE_BYTES_MAX: u64 = 256 << 10;
const EVENTS: u64 = 10_000;
/// Events of one batch; about 1 KB each.
const BATCH: u64 = 100;
const TEXT_BYTES: usize = 1000;
/// What an event of the flood takes at most: text, envelope and stamps.
const EVENT_BYTES_MAX: u64 = 1300;
/// What may wait for one bystander: one small event.
const SMALL_BYTES_MAX: u64 = 300;
const BYSTANDERS: usize = 16;
/// Round trips of each bystander before the flood.
const ROUNDS: u64 = 50;
/// Between two round trips of one bystander, and two batches of the flood.
const PAUSE: Duration = Duration::from_millis(5);
const SAMPLE_PAUSE: Duration = Duration::from_millis(1);
const SLOW: u32 = 0;

#[test]
fn a_client_that_stops_reading_is_closed_and_harms_nobody() {
    let _alone = alone();
    let mut environment = environment(100);
    environment.push(("SOCKRING_QUEUE_BYTES_MAX", QUEUE_BYTES_MAX.to_string()));
    let server = Server::start(&environment);
    for kind in ["websocket", "polling"] {
        let begun = Instant::now();
        let before = server.closed_for("queue_full");
        let mut workers = Workers::start("slow", server.address(), [json!({"kind": kind})]);
        let report = workers.hear(PHASE_MAX).remove(0);
        println!("a slow client by {kind}, {:.1} s: {report}", begun.elapsed().as_secs_f64());
        assert_eq!(server.closed_for("queue_full"), before + 1, "it is closed for that reason, and it alone");
        let stats = server.get("/stats");
        assert_eq!(stats["connected"], BYSTANDERS, "{stats}");
        workers.say("leave");
        workers.hear(PHASE_MAX);
        server.assert_empties();
        workers.finish();
    }
}

/// What the backend was asked for, as a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tag {
    Flood,
    Sample,
    RoundTrip(u32),
}

impl Tag {
    fn number(self) -> u64 {
        match self {
            Tag::Flood => 0,
            Tag::Sample => 1,
            Tag::RoundTrip(client) => 100 + u64::from(client),
        }
    }

    fn of(number: u64) -> Tag {
        match number {
            0 => Tag::Flood,
            1 => Tag::Sample,
            number => Tag::RoundTrip(u32::try_from(number - 100).expect("a client's")),
        }
    }
}

/// One round trip: the emit's answer and the event come in either order.
#[derive(Default)]
struct Bystander {
    sent: u64,
    received: u64,
    came: Option<Instant>,
    was_sent: Option<Instant>,
}

struct Scene {
    backend: Backend,
    /// What is left of the flood, the first at the end.
    batches: Vec<String>,
    bystanders: Vec<Bystander>,
    delays: [Vec<Duration>; 2],
    flooded: u64,
    delivered: u64,
    queued_max: u64,
    is_flooding: bool,
    /// No more round trips are begun.
    is_ending: bool,
    slow_received: u64,
    slow_end: Option<End>,
}

pub async fn work(mut crowd: Crowd, mut parent: Parent, task: &Value) {
    let kind = if task["kind"] == "polling" { Kind::Polling } else { Kind::WebSocket };
    let mut plan = crowd.plan("slow", kind);
    plan.route.receive_bytes = Some(4096);
    assert_eq!(crowd.add(plan), SLOW);
    for number in 0..BYSTANDERS {
        crowd.add(crowd.plan(&format!("bystander-{number}"), Kind::WebSocket));
    }
    // One connection for each bystander, one for the flood and one for samples.
    let backend = crowd.backend(BYSTANDERS + 2);
    let mut scene = Scene {
        backend,
        batches: (0..EVENTS / BATCH).rev().map(|batch| batch_behind(batch * BATCH)).collect(),
        bystanders: (0..BYSTANDERS).map(|_| Bystander::default()).collect(),
        delays: [Vec::new(), Vec::new()],
        flooded: 0,
        delivered: 0,
        queued_max: 0,
        is_flooding: false,
        is_ending: false,
        slow_received: 0,
        slow_end: None,
    };
    let mut greeted = 0;
    while greeted <= BYSTANDERS {
        if let Told::Client(_, Happening::Event(_)) = crowd.next("arrival").await {
            greeted += 1;
        }
    }
    crowd.order(SLOW, Order::StopReading);
    scene.sample();
    for client in 1..=u32::try_from(BYSTANDERS).expect("a few") {
        scene.round_trip(client);
    }
    while scene.bystanders.iter().any(|bystander| bystander.received < ROUNDS) {
        scene.on_told(crowd.next("round trips").await);
    }
    scene.is_flooding = true;
    scene.flood();
    while scene.flooded < EVENTS {
        scene.on_told(crowd.next("the flood").await);
    }
    scene.is_ending = true;
    crowd.order(SLOW, Order::ReadOn);
    let is_over = |scene: &Scene| {
        scene.slow_end.is_some()
            && scene.bystanders.iter().all(|bystander| bystander.received == bystander.sent && bystander.came.is_none())
    };
    while !is_over(&scene) {
        scene.on_told(crowd.next("the end of the slow client").await);
    }
    assert!(scene.delivered < EVENTS, "the slow client took everything");
    let others = BYSTANDERS as u64 * SMALL_BYTES_MAX;
    assert!(
        scene.queued_max <= QUEUE_BYTES_MAX + EVENT_BYTES_MAX + others,
        "{} bytes were queued, and the limit is {QUEUE_BYTES_MAX}",
        scene.queued_max
    );
    parent.tell(&json!({
        "queuedFor": scene.delivered,
        "receivedLater": scene.slow_received,
        "end": format!("{:?}", scene.slow_end),
        "queuedBytesMax": scene.queued_max,
        "before": figures(&mut scene.delays[0]),
        "meanwhile": figures(&mut scene.delays[1]),
    }));
    parent.heed("leave").await;
    scene.backend = crowd.backend(0);
    for client in 1..=u32::try_from(BYSTANDERS).expect("a few") {
        crowd.order(client, Order::Leave(Farewell::Close));
    }
    let mut left = 0;
    while left < BYSTANDERS {
        if let Told::Client(_, Happening::Closed(end)) = crowd.next("farewells").await {
            assert_eq!(end, End::Left);
            left += 1;
        }
    }
    parent.tell(&json!({}));
}

/// The next emits to the slow client; made before, so that making them delays nobody.
fn batch_behind(last: u64) -> String {
    let text = "x".repeat(TEXT_BYTES);
    let emit = |number| format!(r#"{{"user":"slow","event":"flood","data":{{"n":{number},"text":"{text}"}}}}"#);
    let emits: Vec<String> = (last + 1..=last + BATCH).map(emit).collect();
    format!("[{}]", emits.join(","))
}

/// Count, median, 99th percentile and maximum in milliseconds.
fn figures(delays: &mut [Duration]) -> Value {
    delays.sort();
    let at = |part: f64| delays.get((delays.len() as f64 * part) as usize).or(delays.last());
    let ms = |delay: Option<&Duration>| delay.map(|delay| (delay.as_secs_f64() * 1e5).round() / 100.0);
    json!({"roundTrips": delays.len(), "p50Ms": ms(at(0.5)), "p99Ms": ms(at(0.99)), "maxMs": ms(delays.last())})
}

impl Scene {
    fn ask(&self, tag: Tag, connection: usize, route: &'static str, body: String, pause: Duration) {
        self.backend.ask(connection, Job { tag: tag.number(), route, body, pause });
    }

    fn sample(&self) {
        self.ask(Tag::Sample, BYSTANDERS + 1, "/stats", String::new(), SAMPLE_PAUSE);
    }

    fn flood(&mut self) {
        let batch = self.batches.pop().expect("as many as are sent");
        self.ask(Tag::Flood, BYSTANDERS, "/emit/batch", batch, PAUSE);
    }

    fn round_trip(&mut self, client: u32) {
        let number = client as usize - 1;
        self.bystanders[number].sent += 1;
        let data = json!({"n": self.bystanders[number].sent, "user": number});
        let body = json!({"user": format!("bystander-{number}"), "event": "tick", "data": data});
        self.ask(Tag::RoundTrip(client), number, "/emit", body.to_string(), PAUSE);
    }

    fn on_told(&mut self, told: Told) {
        match told {
            Told::Answer(tag, answered) => self.on_answer(Tag::of(tag), &answered),
            Told::Client(SLOW, Happening::Closed(end)) => {
                assert_ne!(end, End::Left);
                self.slow_end = Some(end);
            }
            Told::Client(SLOW, Happening::Event(text)) => {
                let (name, data) = event(&text);
                self.slow_received += 1;
                let due = (name.as_str(), &data["n"]) == ("flood", &json!(self.slow_received));
                assert!(due, "what it gets at last is in order: {name} {}", data["n"]);
            }
            Told::Client(client, Happening::Event(text)) => {
                let number = client as usize - 1;
                let bystander = &mut self.bystanders[number];
                bystander.received += 1;
                let (name, data) = event(&text);
                assert_eq!(name, "tick");
                assert_eq!((&data["n"], &data["user"]), (&json!(bystander.received), &json!(number)), "in order");
                bystander.came = Some(Instant::now());
                self.end_round_trip(client);
            }
            other => panic!("{other:?}"),
        }
    }

    fn on_answer(&mut self, tag: Tag, answered: &Answered) {
        match tag {
            Tag::Flood => {
                let results = answered.data().as_array().expect("a result for each");
                self.delivered +=
                    results.iter().map(|result| result["delivered"].as_u64().expect("a count")).sum::<u64>();
                self.flooded += BATCH;
                if self.flooded < EVENTS {
                    self.flood();
                }
            }
            Tag::Sample => {
                let shards = answered.data()["shards"].as_array().expect("a list of shards");
                let queued = shards.iter().map(|shard| shard["queuedBytes"].as_u64().expect("a count")).sum();
                self.queued_max = self.queued_max.max(queued);
                if !self.is_ending {
                    self.sample();
                }
            }
            Tag::RoundTrip(client) => {
                assert_eq!(answered.delivered(), 1);
                self.bystanders[client as usize - 1].was_sent = Some(answered.sent);
                self.end_round_trip(client);
            }
        }
    }

    /// The next one, when this one's answer and event are both here.
    fn end_round_trip(&mut self, client: u32) {
        let bystander = &mut self.bystanders[client as usize - 1];
        let (Some(came), Some(sent)) = (bystander.came, bystander.was_sent) else { return };
        (bystander.came, bystander.was_sent) = (None, None);
        // What the slow client reads at last keeps this thread busy, not the server.
        if !self.is_ending {
            self.delays[usize::from(self.is_flooding)].push(came.duration_since(sent));
            self.round_trip(client);
        }
    }
}
