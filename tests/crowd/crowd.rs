//! `Crowd`: the clients of one process, and what they and the backend tell.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use sockring::auth::signatures;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::backend::{Answered, Backend};
use crate::client::{Afterwards, Client, Happening, Kind, Order, Plan};
use crate::server::SECRET;
use crate::stream::Route;
use crate::wait_max;

/// Clients of one process that connect at the same time.
const ARRIVALS_MAX: usize = 128;
/// Clients that share a source address: far fewer than it has ports.
const PER_ADDRESS: u32 = 2000;

/// What the clients and the backend tell, in the order in which it happens.
#[derive(Debug)]
pub enum Told {
    Client(u32, Happening),
    /// The answer to a client's own `/emit`.
    Words(u32, Answered),
    /// The answer to a job, by its tag.
    Answer(u64, Answered),
}

pub struct Crowd {
    server: SocketAddr,
    /// Of this process, for addresses of its own.
    number: u8,
    clients: Vec<UnboundedSender<Order>>,
    gate: Arc<Semaphore>,
    tell: UnboundedSender<Told>,
    told: UnboundedReceiver<Told>,
}

impl Crowd {
    pub fn new(server: SocketAddr, number: u8) -> Crowd {
        let (tell, told) = unbounded_channel();
        Crowd { server, number, clients: Vec::new(), gate: Arc::new(Semaphore::new(ARRIVALS_MAX)), tell, told }
    }

    pub fn backend(&self, connections: usize) -> Backend {
        Backend::connect(Route::to(self.server), connections, &self.tell)
    }

    /// A plan for a client of this user that stays away when it was closed.
    pub fn plan(&self, user: &str, kind: Kind) -> Plan {
        let number = u32::try_from(self.clients.len()).expect("fewer clients");
        let last = u8::try_from(1 + number / PER_ADDRESS).expect("fewer clients");
        let route = Route { source: Ipv4Addr::new(127, 1, self.number, last), ..Route::to(self.server) };
        Plan {
            kind,
            token: token_for(user),
            route,
            afterwards: Afterwards::StaysAway,
            first_words: None,
            answers_after: Duration::ZERO,
        }
    }

    /// Adds a client, which connects as soon as it is its turn.
    pub fn add(&mut self, plan: Plan) -> u32 {
        let id = u32::try_from(self.clients.len()).expect("fewer clients");
        let (order, orders) = unbounded_channel();
        self.clients.push(order);
        let (gate, told) = (Arc::clone(&self.gate), self.tell.clone());
        tokio::task::spawn_local(async move {
            let permit = gate.acquire_owned().await.ok();
            Client { id, plan, orders, told, permit }.live().await;
        });
        id
    }

    pub fn order(&self, client: u32, order: Order) {
        // A client that is gone cannot be told; who waits for it will see that it is.
        let _ = self.clients[client as usize].send(order);
    }

    /// What comes next; fails when nothing comes for long.
    pub async fn next(&mut self, what_for: &str) -> Told {
        match tokio::time::timeout(wait_max(), self.told.recv()).await {
            Ok(Some(told)) => told,
            _ => panic!("{what_for}: nothing happened for {:?}", wait_max()),
        }
    }
}

/// An event's name and its first argument.
#[track_caller]
pub fn event(text: &str) -> (String, Value) {
    let mut args: Vec<Value> = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let name = args[0].as_str().unwrap_or_else(|| panic!("no name: {text}")).to_owned();
    (name, args.drain(1..).next().unwrap_or(Value::Null))
}

/// A token of the server's secret for an hour, as a backend would make it.
pub fn token_for(user: &str) -> String {
    let claims = json!({"_id": user, "exp": unix_ms() / 1000 + 3600});
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    signatures::install();
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).expect("claims can be signed")
}

pub fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).expect("before the year 584556019")
}
