//! One process holds more connections than it may open descriptors: WebSockets cost none once they are settled.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{End, Farewell, Happening, Kind, Order};
use crate::crowd::{Crowd, Told, event};
use crate::server::Server;
use crate::worker::{Parent, Workers};
use crate::{alone, environment, knob, parts, shards};

/// Below the limit of the process that holds them.
const CLIENTS_PER_WORKER_MAX: usize = 10_000;
const PHASE_MAX: Duration = Duration::from_secs(900);
/// The limit while the number of connections is an ordinary one; 0 is the machine's own.
const DESCRIPTORS: u64 = 400;
/// Connections above which the machine's limit is meant.
const ORDINARY_MAX: usize = 5000;
/// Users that get an event of their own.
const SAMPLE: usize = 500;

#[test]
fn one_process_holds_more_connections_than_descriptors() {
    let _alone = alone();
    let clients: usize = knob("CROWD_CONNECTIONS", 2000);
    let usual = if clients > ORDINARY_MAX { 0 } else { DESCRIPTORS };
    let descriptors = Some(knob("CROWD_DESCRIPTORS", usual)).filter(|limit| *limit > 0);
    let server = Server::start_with_descriptors(descriptors, &environment(clients));
    let limit = server.descriptors_max();
    assert!(limit < clients, "{clients} connections are fewer than the limit of {limit} descriptors");
    let begun = Instant::now();
    let tasks = parts(clients, CLIENTS_PER_WORKER_MAX).map(|(first, count)| json!({"first": first, "count": count}));
    let mut workers = Workers::start("many", server.address(), tasks);
    workers.hear(PHASE_MAX);
    println!(
        "{clients} connections on {} shards with a limit of {limit} descriptors, {} open, {} MB resident, after {:.1} s",
        shards(),
        server.descriptors(),
        server.resident_mb(),
        begun.elapsed().as_secs_f64()
    );
    let is_all_there = || {
        let stats = server.get("/stats");
        assert_eq!((&stats["connected"], &stats["users"]), (&json!(clients), &json!(clients)), "{stats}");
    };
    is_all_there();
    let begun = Instant::now();
    let emit = json!({"broadcast": true, "event": "all", "data": {}});
    assert_eq!(server.post("/emit", &emit)["delivered"], clients);
    let sample: BTreeSet<usize> = (0..clients).step_by((clients / SAMPLE).max(1)).collect();
    for user in &sample {
        let emit = json!({"user": name_of(*user), "event": "one", "data": {"user": name_of(*user)}});
        assert_eq!(server.post("/emit", &emit)["delivered"], 1, "{emit}");
    }
    // Behind all others: who has it has had the others.
    let emit = json!({"broadcast": true, "event": "last", "data": {}});
    assert_eq!(server.post("/emit", &emit)["delivered"], clients);
    let reports = workers.hear(PHASE_MAX);
    let ones: u64 = reports.iter().map(|report| report["ones"].as_u64().expect("a count")).sum();
    assert_eq!(ones, sample.len() as u64, "each user of the sample gets its event");
    println!("two broadcasts and {ones} emits arrived after {:.1} s", begun.elapsed().as_secs_f64());
    is_all_there();
    workers.say("leave");
    workers.hear(PHASE_MAX);
    server.assert_empties();
    workers.finish();
}

fn name_of(user: usize) -> String {
    format!("user-{user}")
}

/// What a client has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Member {
    is_greeted: bool,
    all: u8,
    one: u8,
    last: u8,
}

pub async fn work(mut crowd: Crowd, mut parent: Parent, task: &Value) {
    let number = |name: &str| usize::try_from(task[name].as_u64().expect("a number")).expect("a small number");
    let (first, count) = (number("first"), number("count"));
    let mut members = vec![Member::default(); count];
    for user in 0..count {
        crowd.add(crowd.plan(&name_of(first + user), Kind::WebSocket));
    }
    let mut greeted = 0;
    while greeted < count {
        greeted += usize::from(
            on_told(&mut members, first, crowd.next(&format!("{greeted} of {count} have arrived")).await)
                == "connected",
        );
    }
    parent.tell(&json!({}));
    let mut lasts = 0;
    while lasts < count {
        lasts += usize::from(on_told(&mut members, first, crowd.next("events").await) == "last");
    }
    assert!(members.iter().all(|member| (member.all, member.last) == (1, 1)), "each broadcast exactly once");
    let ones: u32 = members.iter().map(|member| u32::from(member.one)).sum();
    parent.tell(&json!({"ones": ones}));
    parent.heed("leave").await;
    (0..count).for_each(|id| crowd.order(id.try_into().expect("few clients"), Order::Leave(Farewell::Close)));
    let mut left = 0;
    while left < count {
        match crowd.next("farewells").await {
            Told::Client(_, Happening::Closed(End::Left)) => left += 1,
            other => panic!("{other:?}"),
        }
    }
    parent.tell(&json!({}));
}

/// The name of the event that came, empty for what is none.
fn on_told(members: &mut [Member], first: usize, told: Told) -> String {
    let Told::Client(id, happening) = told else { return String::new() };
    let text = match happening {
        Happening::Connected { .. } => return String::new(),
        Happening::Event(text) => text,
        other => panic!("client {id}: {other:?}"),
    };
    let (name, data) = event(&text);
    let member = &mut members[id as usize];
    match name.as_str() {
        "connected" => member.is_greeted = true,
        "all" => member.all += 1,
        "last" => member.last += 1,
        "one" => {
            assert_eq!(data["user"], name_of(first + id as usize), "another user's event");
            member.one += 1;
        }
        other => panic!("client {id} gets {other}"),
    }
    assert!(member.is_greeted && member.all <= 1 && member.one <= 1 && member.last <= 1, "client {id}: {member:?}");
    assert!(member.last == 0 || member.all == 1, "client {id} gets the last first");
    name
}
