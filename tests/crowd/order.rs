//! Every emit reaches both connections of its user, in order, from the moment that their CONNECTs are answered.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::backend::{Answered, Backend, Job};
use crate::client::{End, Farewell, Happening, Kind, Order};
use crate::crowd::{Crowd, Told, event};
use crate::server::Server;
use crate::worker::{Parent, Workers};
use crate::{alone, environment, knob, parts, shards};

/// Users whose clients one process holds.
const USERS_PER_WORKER_MAX: usize = 2500;
/// Connections of the backend, in each process.
const BACKENDS: usize = 4;
/// What the first answer to a worker's parent may take: all arrive.
const ARRIVAL_MAX: Duration = Duration::from_secs(600);

#[test]
fn every_emit_reaches_both_connections_of_its_user_in_order() {
    let _alone = alone();
    let users: usize = knob("CROWD_USERS", 300);
    let clients = users * 2;
    let mut environment = environment(clients);
    if users <= 1000 {
        // So that heartbeats meet upgrades; with many clients they would only be load.
        environment.push(("SOCKRING_PING_INTERVAL_MS", "1500".to_owned()));
    }
    let server = Server::start(&environment);
    let begun = Instant::now();
    let tasks = parts(users, USERS_PER_WORKER_MAX).map(|(first, count)| json!({"first": first, "count": count}));
    let mut workers = Workers::start("order", server.address(), tasks);
    let reports = workers.hear(ARRIVAL_MAX);
    let sum = |name: &str| reports.iter().map(|report| report[name].as_u64().expect(name)).sum::<u64>();
    println!(
        "{users} users with two connections on {} shards: {} upgraded, {} emits, {} events in {:.1} s",
        shards(),
        sum("upgraded"),
        sum("emits"),
        sum("events"),
        begun.elapsed().as_secs_f64()
    );
    let stats = server.get("/stats");
    assert_eq!((&stats["connected"], &stats["users"]), (&json!(clients), &json!(users)), "{stats}");
    assert_eq!(stats["rooms"], users, "a room for each user: {stats}");
    assert_eq!(stats["transports"]["polling"].as_u64(), Some(sum("polling")), "{stats}");
    let rows = stats["shards"].as_array().expect("a list of shards");
    let of_rows = |name: &str| rows.iter().map(|row| row[name].as_u64().expect(name)).sum::<u64>();
    assert_eq!(
        (of_rows("clients"), of_rows("sockets"), of_rows("users")),
        (sum("clients"), sum("clients"), users as u64)
    );
    assert_eq!(of_rows("queuedBytes"), 0, "{stats}");
    for user in (0..users).step_by((users / 100).max(1)) {
        let status = server.get(&format!("/user/{}/status", name_of(user)));
        assert_eq!((&status["connected"], &status["sockets"]), (&json!(true), &json!(2)), "{status}");
    }
    let begun = Instant::now();
    workers.say("leave");
    workers.hear(ARRIVAL_MAX);
    server.assert_empties();
    println!("all left and every gauge is 0 after {:.1} s", begun.elapsed().as_secs_f64());
    let status = server.get(&format!("/user/{}/status", name_of(0)));
    assert_eq!((&status["connected"], &status["sockets"]), (&json!(false), &json!(0)), "{status}");
    workers.finish();
}

fn name_of(user: usize) -> String {
    format!("user-{user}")
}

/// The even users start with polling; of these each eighth has one client that never upgrades.
fn kind_of(user: usize, connection: usize) -> Kind {
    match (user % 2, user % 8, connection) {
        (1, ..) => Kind::WebSocket,
        (_, 4, 1) => Kind::Polling,
        _ => Kind::Upgrading,
    }
}

fn farewell_of(client: usize) -> Farewell {
    [Farewell::Close, Farewell::Disconnect, Farewell::Drop, Farewell::Reset][client / 2 % 4]
}

/// One user: both its connections and all emits to it are this process's.
#[derive(Default)]
struct User {
    connected: u64,
    /// The number of the last event that was given to the backend.
    sent: u64,
}

/// What a client has to get next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// Its CONNECT is not answered.
    Nothing,
    /// Connected; the first may be any up to this number.
    AtMost(u64),
    Exactly(u64),
}

struct Member {
    user: usize,
    kind: Kind,
    sid: String,
    due: Due,
    is_greeted: bool,
    /// Answers to its own emit, and their events.
    own_words: u32,
    /// Events that the other connection of its user emitted.
    other_words: u32,
    has_left: bool,
}

/// How many sockets may have an emit queued.
type Bounds = (u64, u64);

struct Scene {
    first: usize,
    users: Vec<User>,
    members: Vec<Member>,
    backend: Backend,
    /// What is asked and not answered, with bounds for each emit of it.
    asked: HashMap<u64, Vec<Bounds>>,
    jobs: u64,
    emits: u64,
    events: u64,
    upgraded: u64,
    words_answered: usize,
    left: usize,
    is_leaving: bool,
}

pub async fn work(mut crowd: Crowd, mut parent: Parent, task: &Value) {
    let number = |name: &str| usize::try_from(task[name].as_u64().expect("a number")).expect("a small number");
    let (first, count) = (number("first"), number("count"));
    let mut scene = Scene::new(first, count, crowd.backend(BACKENDS));
    // First all first connections, then all second ones: while these arrive, the first are emitted to.
    for connection in 0..2 {
        for user in 0..count {
            let id = scene.members.len();
            let name = name_of(first + user);
            let kind = kind_of(first + user, connection);
            let words = json!({"user": name, "event": "words", "data": {"by": id, "user": name}});
            let mut plan = crowd.plan(&name, kind);
            plan.first_words = Some(words.to_string());
            crowd.add(plan);
            scene.members.push(Member::new(user, kind));
        }
    }
    let clients = scene.members.len();
    let upgrading = scene.members.iter().filter(|member| member.kind == Kind::Upgrading).count() as u64;
    while !(scene.users.iter().all(|user| user.connected == 2)
        && scene.upgraded == upgrading
        && scene.words_answered == clients
        && scene.asked.is_empty())
    {
        let told = crowd.next("arrival").await;
        scene.on_told(told);
    }
    scene.emit_to_all();
    while !(scene.asked.is_empty() && scene.is_all_there()) {
        let told = crowd.next("the last events").await;
        scene.on_told(told);
    }
    parent.tell(&json!({
        "clients": clients,
        "upgraded": scene.upgraded,
        "polling": scene.members.iter().filter(|member| member.kind == Kind::Polling).count(),
        "emits": scene.emits,
        "events": scene.events,
    }));
    parent.heed("leave").await;
    scene.is_leaving = true;
    // Ends the backend's connections.
    scene.backend = crowd.backend(0);
    for id in 0..u32::try_from(clients).expect("few clients") {
        crowd.order(id, Order::Leave(farewell_of(id as usize)));
    }
    while scene.left < clients {
        let told = crowd.next(&scene.who_stays()).await;
        scene.on_told(told);
    }
    parent.tell(&json!({}));
}

impl Scene {
    fn new(first: usize, count: usize, backend: Backend) -> Scene {
        Scene {
            first,
            users: (0..count).map(|_| User::default()).collect(),
            members: Vec::new(),
            backend,
            asked: HashMap::new(),
            jobs: 0,
            emits: 0,
            events: 0,
            upgraded: 0,
            words_answered: 0,
            left: 0,
            is_leaving: false,
        }
    }

    fn on_told(&mut self, told: Told) {
        match told {
            Told::Client(id, happening) => self.on_happening(id as usize, happening),
            Told::Words(id, answered) => {
                let user = &self.users[self.members[id as usize].user];
                let bounds = 1..=2;
                assert!(bounds.contains(&answered.delivered()), "{}: {} connected", answered.body, user.connected);
                self.words_answered += 1;
            }
            Told::Answer(tag, answered) => self.on_answer(tag, &answered),
        }
    }

    fn on_happening(&mut self, id: usize, happening: Happening) {
        match happening {
            Happening::Connected { sid, .. } => {
                let member = &mut self.members[id];
                assert_eq!(member.due, Due::Nothing, "client {id} is connected twice");
                let user = &mut self.users[member.user];
                user.connected += 1;
                member.sid = sid;
                member.due = Due::AtMost(user.sent + 1);
                let user = member.user;
                self.emit_at_arrival(id, user);
            }
            Happening::Upgraded => self.upgraded += 1,
            Happening::Event(text) => self.on_event(id, &text),
            Happening::Closed(End::Left) if self.is_leaving => {
                self.left += 1;
                self.members[id].has_left = true;
            }
            other => panic!("client {id}, a {:?}: {other:?}", self.members[id].kind),
        }
    }

    fn on_event(&mut self, id: usize, text: &str) {
        let (name, data) = event(text);
        self.events += 1;
        let user_name = name_of(self.first + self.members[id].user);
        let member = &mut self.members[id];
        assert!(member.is_greeted || name == "connected", "client {id} gets {name} before it is greeted");
        match name.as_str() {
            "connected" => {
                assert!(!member.is_greeted, "client {id} is greeted twice");
                member.is_greeted = true;
                assert_eq!((&data["userId"], &data["socketId"]), (&json!(user_name), &json!(member.sid)));
            }
            "words" => {
                assert_eq!(data["user"], user_name, "client {id} gets another user's event: {data}");
                let own = data["by"] == id;
                let count = if own { &mut member.own_words } else { &mut member.other_words };
                *count += 1;
                assert_eq!(*count, 1, "client {id} gets this twice: {data}");
            }
            "news" => {
                let number = data["to"].get(&user_name).and_then(Value::as_u64);
                let number = number.unwrap_or_else(|| panic!("client {id} of {user_name} gets {data}"));
                match member.due {
                    Due::AtMost(bound) if number <= bound => {}
                    Due::Exactly(due) if number == due => {}
                    due => panic!("client {id} of {user_name}, a {:?}, gets {number}, due: {due:?}", member.kind),
                }
                member.due = Due::Exactly(number + 1);
            }
            other => panic!("client {id} gets {other}: {data}"),
        }
    }

    /// What is sent because this client's CONNECT was answered.
    fn emit_at_arrival(&mut self, id: usize, user: usize) {
        let one = self.emit_body(&[user]);
        self.ask("/emit", user, one.0.to_string(), vec![one.1]);
        // To somebody who may be connected, connecting or away; of the same connection of the backend.
        let other = |distance: usize| {
            let step = self.backend.count();
            let count = self.users.len();
            // The first of this connection, and on from there.
            let (lane, seats) = (user % step, (count - user % step).div_ceil(step));
            lane + (user / step + distance) % seats * step
        };
        let others = [other(id % 7 + 1), other(id % 11 + 8), other(19)];
        let two = self.emit_body(&[others[0]]);
        self.ask("/emit", user, two.0.to_string(), vec![two.1]);
        if id.is_multiple_of(8) {
            let mut batch = vec![self.emit_body(&[user]), self.emit_body(&[others[1]])];
            let mut both = vec![user, others[2]];
            both.dedup();
            batch.push(self.emit_body(&both));
            batch.push(self.emit_body(&[user]));
            let (bodies, bounds): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
            self.ask("/emit/batch", user, Value::from(bodies).to_string(), bounds);
        }
    }

    /// One more to each user, now that all have both connections: alone or in batches.
    fn emit_to_all(&mut self) {
        let step = self.backend.count();
        for lane in 0..step {
            let users: Vec<usize> = (lane..self.users.len()).step_by(step).collect();
            for (number, some) in users.chunks(50).enumerate() {
                let emits: Vec<_> = some.iter().map(|user| self.emit_body(&[*user])).collect();
                let (bodies, bounds): (Vec<_>, Vec<_>) = emits.into_iter().unzip();
                assert!(bounds.iter().all(|bounds| *bounds == (2, 2)), "all are connected");
                if number % 2 == 0 {
                    for (body, bounds) in bodies.into_iter().zip(bounds) {
                        self.ask("/emit", lane, body.to_string(), vec![bounds]);
                    }
                } else {
                    self.ask("/emit/batch", lane, Value::from(bodies).to_string(), bounds);
                }
            }
        }
    }

    /// The next numbered event to these users, and how many sockets may have it queued.
    fn emit_body(&mut self, users: &[usize]) -> (Value, Bounds) {
        let mut numbers = serde_json::Map::new();
        let mut connected = 0;
        for user in users {
            let name = name_of(self.first + user);
            let user = &mut self.users[*user];
            user.sent += 1;
            connected += user.connected;
            numbers.insert(name, user.sent.into());
        }
        self.emits += 1;
        let names: Vec<_> = numbers.keys().cloned().collect();
        let data = json!({"to": numbers});
        let body = match names.as_slice() {
            [name] => json!({"user": name, "event": "news", "data": data}),
            _ => json!({"users": names, "event": "news", "data": data}),
        };
        (body, (connected, 2 * users.len() as u64))
    }

    /// By the one connection of the backend that is responsible for this user.
    fn ask(&mut self, route: &'static str, user: usize, body: String, bounds: Vec<Bounds>) {
        self.jobs += 1;
        self.asked.insert(self.jobs, bounds);
        let job = Job { tag: self.jobs, route, body, pause: Duration::ZERO };
        self.backend.ask(user % self.backend.count(), job);
    }

    fn on_answer(&mut self, tag: u64, answered: &Answered) {
        let bounds = self.asked.remove(&tag).expect("a question that was asked");
        let results = match answered.data() {
            Value::Array(results) => results.clone(),
            result => vec![result.clone()],
        };
        assert_eq!(results.len(), bounds.len(), "{}", answered.body);
        for (result, (low, high)) in results.iter().zip(bounds) {
            let delivered = result["delivered"].as_u64().unwrap_or_else(|| panic!("no count: {result}"));
            assert!((low..=high).contains(&delivered), "delivered to {delivered} and not to {low} to {high}");
        }
    }

    /// Who has not left yet, for the case that nothing happens any more.
    fn who_stays(&self) -> String {
        let missing = self.members.len() - self.left;
        if missing > 20 {
            return format!("{missing} have still to leave");
        }
        let staying = self.members.iter().enumerate().filter(|(_, member)| !member.has_left);
        let staying: Vec<_> = staying.map(|(id, member)| (id, member.kind, farewell_of(id))).collect();
        format!("{staying:?} have still to leave")
    }

    /// Everybody has the last event of its user, and what it said itself.
    fn is_all_there(&self) -> bool {
        self.members.iter().all(|member| {
            member.due == Due::Exactly(self.users[member.user].sent + 1) && member.is_greeted && member.own_words == 1
        })
    }
}

impl Member {
    fn new(user: usize, kind: Kind) -> Member {
        let sid = String::new();
        Member { user, kind, sid, due: Due::Nothing, is_greeted: false, own_words: 0, other_words: 0, has_left: false }
    }
}
