//! A server that does not run for a while has clients whose answers it has not read: it closes none of them.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use crate::client::{Farewell, Happening, Kind, Order};
use crate::crowd::{Crowd, Told, event};
use crate::server::Server;
use crate::worker::{Parent, Workers};
use crate::{alone, environment, knob, parts, wait_max};

const CLIENTS_PER_WORKER_MAX: usize = 2500;
const PHASE_MAX: Duration = Duration::from_secs(300);
/// How long clients take to answer a ping.
const ANSWERS_AFTER_MS: [u64; 3] = [300, 50, 0];
/// One in so many clients comes just before the pause, and is in the middle of its upgrade then.
const LATE_ONE_IN: usize = 10;
/// What is a moment to a server that has all its time again.
const NORMAL_MS_MAX: u128 = 250;

#[test]
fn a_server_that_paused_closes_nobody() {
    let _alone = alone();
    let clients: usize = knob("CROWD_PAUSED", 2000);
    let pause = Duration::from_secs_f64(knob("CROWD_PAUSE_S", 3.0));
    let (on_ms, off_ms): (u64, u64) = (knob("CROWD_ON_MS", 0), knob("CROWD_OFF_MS", 80));
    let ping_ms: u64 = knob("CROWD_PING_MS", 1000);
    let mut environment = environment(clients);
    environment.push(("SOCKRING_PING_INTERVAL_MS", ping_ms.to_string()));
    environment.push(("SOCKRING_PING_TIMEOUT_MS", ping_ms.to_string()));
    let server = Server::start(&environment);
    let tasks = parts(clients, CLIENTS_PER_WORKER_MAX).map(|(first, count)| json!({"first": first, "count": count}));
    let mut workers = Workers::start("pause", server.address(), tasks);
    workers.hear(PHASE_MAX);
    workers.say("late");
    workers.hear(PHASE_MAX);
    let emits = match on_ms {
        0 => stop_for(&server, pause),
        _ => throttle_for(&server, pause, Duration::from_millis(on_ms), Duration::from_millis(off_ms)),
    };
    let begun = Instant::now();
    // Who was to be closed is by now.
    thread::sleep(Duration::from_millis(ping_ms * 2));
    let closed = server.count("sockring_sessions_closed_total");
    println!("{clients} clients, a pause of {pause:?} with {emits} emits in it: {closed} closed");
    assert_eq!(closed, 0, "all had answered, or could not");
    let pardoned = server.count("sockring_pardoned_total");
    println!("{} late turns, {pardoned} pardoned", server.count("sockring_late_turns_total"));
    while server.get("/stats")["connected"] != clients {
        assert!(begun.elapsed() < wait_max(), "those who came late have arrived: {}", server.get("/stats"));
        // Not to wait for anything in particular, only to leave the core to others.
        thread::sleep(Duration::from_millis(20));
    }
    let emit = json!({"broadcast": true, "event": "news", "data": {}});
    assert_eq!(server.post("/emit", &emit)["delivered"], clients);
    let reports = workers.hear(PHASE_MAX);
    assert!(reports.iter().all(|report| report == &json!({})), "nobody was closed: {reports:?}");
    let asked = Instant::now();
    server.post("/emit", &json!({"user": "user-0", "event": "more", "data": {}}));
    println!("an emit after {:?} took {:?}", begun.elapsed(), asked.elapsed());
    if on_ms > 0 {
        assert!(asked.elapsed().as_millis() < NORMAL_MS_MAX, "back to normal: {:?}", asked.elapsed());
    }
    workers.say("leave");
    workers.hear(PHASE_MAX);
    server.assert_empties();
    workers.finish();
}

/// The process does not run at all.
fn stop_for(server: &Server, pause: Duration) -> u64 {
    server.signal(Signal::STOP);
    thread::sleep(pause);
    server.signal(Signal::CONT);
    0
}

/// The process runs for a part of the time only, as under a quota, and somebody emits all the time.
fn throttle_for(server: &Server, pause: Duration, on: Duration, off: Duration) -> u64 {
    let (begun, process) = (Instant::now(), server.process());
    let stopping = thread::spawn(move || {
        let signal = |signal| kill_process(process, signal).expect("the server runs");
        while begun.elapsed() < pause {
            signal(Signal::STOP);
            thread::sleep(off);
            signal(Signal::CONT);
            thread::sleep(on);
        }
    });
    let emit = json!({"broadcast": true, "event": "load", "data": {"text": "x".repeat(200)}});
    let mut emits = 0;
    while !stopping.is_finished() {
        server.post("/emit", &emit);
        emits += 1;
        thread::sleep(on + off);
    }
    stopping.join().expect("the server runs");
    emits
}

/// Each fifth polls, each fifth upgrades.
fn kind_of(number: usize) -> Kind {
    match number % 5 {
        0 => Kind::Polling,
        1 => Kind::Upgrading,
        _ => Kind::WebSocket,
    }
}

struct Scene {
    connected: usize,
    upgrades_due: usize,
    news: usize,
    ends: BTreeMap<String, u32>,
    left: usize,
    is_leaving: bool,
}

pub async fn work(mut crowd: Crowd, mut parent: Parent, task: &Value) {
    let number = |name: &str| usize::try_from(task[name].as_u64().expect("a number")).expect("a small number");
    let (first, count) = (number("first"), number("count"));
    let mut scene = Scene { connected: 0, upgrades_due: 0, news: 0, ends: BTreeMap::new(), left: 0, is_leaving: false };
    let late = count / LATE_ONE_IN;
    let add = |crowd: &mut Crowd, scene: &mut Scene, number: usize, kind: Kind| {
        let mut plan = crowd.plan(&format!("user-{}", first + number), kind);
        plan.answers_after = Duration::from_millis(ANSWERS_AFTER_MS[number % ANSWERS_AFTER_MS.len()]);
        scene.upgrades_due += usize::from(kind == Kind::Upgrading);
        crowd.add(plan);
    };
    (late..count).for_each(|number| add(&mut crowd, &mut scene, number, kind_of(number)));
    while scene.connected < count - late || scene.upgrades_due > 0 {
        scene.on_told(crowd.next("arrival").await);
    }
    parent.tell(&json!({}));
    parent.heed("late").await;
    (0..late).for_each(|number| add(&mut crowd, &mut scene, number, Kind::Upgrading));
    // Some of them have arrived, and others are at all stages of it.
    while scene.connected < count - late / 2 {
        scene.on_told(crowd.next("the first of those who are late").await);
    }
    parent.tell(&json!({}));
    while scene.news + scene.closed() < count {
        scene.on_told(crowd.next("the end of the pause").await);
    }
    parent.tell(&json!(scene.ends));
    parent.heed("leave").await;
    scene.is_leaving = true;
    (0..count).for_each(|id| crowd.order(id.try_into().expect("few clients"), Order::Leave(Farewell::Close)));
    while scene.left < count {
        scene.on_told(crowd.next("farewells").await);
    }
    parent.tell(&json!({}));
}

impl Scene {
    fn closed(&self) -> usize {
        self.ends.values().map(|count| *count as usize).sum()
    }

    fn on_told(&mut self, told: Told) {
        let Told::Client(id, happening) = told else { return };
        match happening {
            Happening::Connected { .. } => self.connected += 1,
            Happening::Upgraded => self.upgrades_due -= 1,
            Happening::Closed(_) if self.is_leaving => self.left += 1,
            Happening::Closed(end) => *self.ends.entry(format!("{end:?}")).or_default() += 1,
            Happening::Event(text) => self.news += usize::from(event(&text).0 == "news"),
            other => panic!("client {id}: {other:?}"),
        }
    }
}
