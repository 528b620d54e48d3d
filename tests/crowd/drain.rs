//! At a shutdown all clients are told, closed evenly over the drain time, and back on the next instance soon.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::client::{Afterwards, End, Farewell, Happening, Kind, Order};
use crate::crowd::{Crowd, Told, event, unix_ms};
use crate::server::Server;
use crate::worker::{Parent, Workers};
use crate::{alone, environment, knob, parts, wait_max};

const CLIENTS_PER_WORKER_MAX: usize = 2500;
const PHASE_MAX: Duration = Duration::from_secs(300);
/// The stock client gives up after this many in the guide's settings.
const ATTEMPTS_MAX: u64 = 5;
const SLICES: usize = 10;

#[test]
fn all_clients_leave_evenly_at_shutdown_and_come_back() {
    let _alone = alone();
    let clients: usize = knob("CROWD_CLIENTS", 400);
    let drain_s: f64 = knob("CROWD_DRAIN_S", if clients > 1000 { 10.0 } else { 2.0 });
    let mut environment = environment(clients);
    environment.push(("SOCKRING_DRAIN", drain_s.to_string()));
    let first = Server::start(&environment);
    let address = first.address();
    let tasks = parts(clients, CLIENTS_PER_WORKER_MAX).map(|(first, count)| json!({"first": first, "count": count}));
    let mut workers = Workers::start("drain", address, tasks);
    workers.hear(PHASE_MAX);
    assert_eq!(first.get("/stats")["connected"], clients);

    let (begun, begun_ms) = (Instant::now(), unix_ms());
    first.signal(Signal::TERM);
    let second = start_on(address.port(), &environment);
    let waited = begun.elapsed();
    let code = first.finish(Duration::from_secs_f64(drain_s) + wait_max());
    println!(
        "{clients} clients, drain {drain_s} s: the second instance listened after {:.3} s, the first ended after {:.3} s",
        waited.as_secs_f64(),
        begun.elapsed().as_secs_f64()
    );
    assert_eq!(code, Some(0), "the first instance ends well");

    let reports = workers.hear(PHASE_MAX);
    println!("all were back after {:.3} s", begun.elapsed().as_secs_f64());
    let lists = |name: &str| -> Vec<u64> {
        let all = reports.iter().flat_map(|report| report[name].as_array().expect(name));
        all.map(|value| value.as_u64().expect("a number")).collect()
    };
    let closes = lists("closes");
    assert_eq!(closes.len(), clients, "everybody was closed once");
    let mut slices = [0; SLICES];
    for close in &closes {
        let since = close.saturating_sub(begun_ms) as f64 / 1000.0;
        slices[((since / drain_s * SLICES as f64) as usize).min(SLICES - 1)] += 1;
    }
    println!("closes by tenths of the drain time: {slices:?}");
    let attempts = lists("attempts");
    let mut by_attempts = BTreeMap::new();
    attempts.iter().for_each(|attempts| *by_attempts.entry(*attempts).or_insert(0) += 1);
    println!("clients by attempts: {by_attempts:?}");
    let ends: Vec<_> = reports.iter().map(|report| report["ends"].to_string()).collect();
    let ends = ends.join(" ");
    println!("how they were closed: {ends}");
    assert!(!ends.contains("cut off"), "everybody is closed by the engine");
    assert!(attempts.iter().all(|attempts| *attempts < ATTEMPTS_MAX), "nobody uses up its attempts");
    let most = slices.iter().max().copied().unwrap_or(0);
    assert!(most * 5 <= clients, "a tenth of the time holds a fifth of the closes at most: {slices:?}");

    let stats = second.get("/stats");
    assert_eq!((&stats["connected"], &stats["users"]), (&json!(clients), &json!(clients)), "{stats}");
    let emit = json!({"broadcast": true, "event": "news", "data": {}});
    assert_eq!(second.post("/emit", &emit)["delivered"], clients);
    workers.hear(PHASE_MAX);
    workers.say("leave");
    workers.hear(PHASE_MAX);
    second.assert_empties();
    workers.finish();
}

/// A second instance as soon as the port is free: a supervisor that tries again and again.
fn start_on(port: u16, environment: &[(&str, String)]) -> Server {
    let begun = Instant::now();
    loop {
        match Server::try_start(port, None, environment) {
            Ok(server) => return server,
            Err(log) if log.contains("cannot listen") && begun.elapsed() < Duration::from_secs(60) => {}
            Err(log) => panic!("the second instance does not start: {log}"),
        }
        // Not to wait for anything in particular, only to leave the core to others.
        thread::sleep(Duration::from_millis(20));
    }
}

#[derive(Default)]
struct Member {
    connects: u32,
    is_told: bool,
    news: u32,
    closed_ms: u64,
    attempts: u64,
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
    members: Vec<Member>,
    upgrades_due: usize,
    /// Connected again.
    back: usize,
    ends: BTreeMap<String, u32>,
    news: usize,
    left: usize,
    is_leaving: bool,
}

pub async fn work(mut crowd: Crowd, mut parent: Parent, task: &Value) {
    let number = |name: &str| usize::try_from(task[name].as_u64().expect("a number")).expect("a small number");
    let (first, count) = (number("first"), number("count"));
    let mut scene = Scene {
        members: (0..count).map(|_| Member::default()).collect(),
        upgrades_due: 0,
        back: 0,
        ends: BTreeMap::new(),
        news: 0,
        left: 0,
        is_leaving: false,
    };
    for user in 0..count {
        let mut plan = crowd.plan(&format!("user-{}", first + user), kind_of(user));
        plan.afterwards = Afterwards::ComesBack;
        scene.upgrades_due += usize::from(plan.kind == Kind::Upgrading);
        crowd.add(plan);
    }
    while scene.members.iter().any(|member| member.connects == 0) || scene.upgrades_due > 0 {
        scene.on_told(crowd.next("arrival").await);
    }
    parent.tell(&json!({}));
    scene.upgrades_due = (0..count).filter(|user| kind_of(*user) == Kind::Upgrading).count();
    while scene.back < count || scene.upgrades_due > 0 {
        scene.on_told(crowd.next("the way back").await);
    }
    let told = scene.members.iter().filter(|member| member.is_told).count();
    assert_eq!(told, count, "server:shutdown reaches everybody");
    parent.tell(&json!({
        "closes": scene.members.iter().map(|member| member.closed_ms).collect::<Vec<_>>(),
        "attempts": scene.members.iter().map(|member| member.attempts).collect::<Vec<_>>(),
        "ends": scene.ends,
    }));
    while scene.news < count {
        scene.on_told(crowd.next("news of the second instance").await);
    }
    parent.tell(&json!({}));
    parent.heed("leave").await;
    scene.is_leaving = true;
    (0..count).for_each(|id| crowd.order(id.try_into().expect("few clients"), Order::Leave(Farewell::Close)));
    while scene.left < count {
        scene.on_told(crowd.next("farewells").await);
    }
    parent.tell(&json!({}));
}

impl Scene {
    fn on_told(&mut self, told: Told) {
        let Told::Client(id, happening) = told else { return };
        let member = &mut self.members[id as usize];
        match happening {
            Happening::Connected { attempts, .. } => {
                member.connects += 1;
                assert!(member.connects <= 2, "client {id} was closed again by the second instance");
                member.attempts = attempts.into();
                self.back += usize::from(member.connects == 2);
            }
            Happening::Upgraded => self.upgrades_due -= 1,
            Happening::Closed(End::Left) if self.is_leaving => self.left += 1,
            Happening::Closed(end) => {
                assert!(member.is_told, "client {id} was closed without a word: {end:?}");
                assert_eq!(member.closed_ms, 0, "client {id} was closed twice: {end:?}");
                member.closed_ms = unix_ms();
                let word = if matches!(end, End::CloseFrame(_) | End::ClosePacket) { "closed" } else { "cut off" };
                *self.ends.entry(format!("a {:?} is {word}: {end:?}", kind_of(id as usize))).or_default() += 1;
            }
            Happening::Event(text) => match event(&text) {
                (name, _) if name == "connected" => {}
                (name, data) if name == "server:shutdown" => {
                    assert!(data["reconnectInMs"].is_u64(), "{data}");
                    assert!(!member.is_told && member.connects == 1, "client {id} is told twice");
                    member.is_told = true;
                }
                (name, _) if name == "news" && member.connects == 2 => {
                    member.news += 1;
                    assert_eq!(member.news, 1, "client {id} gets it twice");
                    self.news += 1;
                }
                other => panic!("client {id} gets {other:?}"),
            },
            other => panic!("client {id}: {other:?}"),
        }
    }
}
