//! `Backend`: keep-alive connections to the API, each with one request after the other, as a product's worker sends them.

use std::io;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::crowd::Told;
use crate::http::{Http, request};
use crate::stream::Route;

pub const API: &str = "/api/v1/websocket";

/// One request, answered by [`Told::Answer`] with its tag.
pub struct Job {
    pub tag: u64,
    /// Below [`API`], as `/emit`.
    pub route: &'static str,
    /// Empty: a GET.
    pub body: String,
    /// How long it waits first.
    pub pause: Duration,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answered {
    pub status: u16,
    /// The whole envelope.
    pub body: Value,
    pub sent: Instant,
}

impl Answered {
    /// What is in the envelope.
    #[track_caller]
    pub fn data(&self) -> &Value {
        assert_eq!(self.status, 200, "{}", self.body);
        &self.body["data"]
    }

    #[track_caller]
    pub fn delivered(&self) -> u64 {
        self.data()["delivered"].as_u64().unwrap_or_else(|| panic!("no count: {}", self.body))
    }
}

pub struct Backend {
    connections: Vec<UnboundedSender<Job>>,
}

impl Backend {
    pub fn connect(route: Route, count: usize, told: &UnboundedSender<Told>) -> Backend {
        let connect = |_| {
            let (job, mut jobs) = unbounded_channel::<Job>();
            let told = told.clone();
            tokio::task::spawn_local(async move {
                let mut http = Http::new(route);
                while let Some(job) = jobs.recv().await {
                    if !job.pause.is_zero() {
                        tokio::time::sleep(job.pause).await;
                    }
                    let target = format!("{API}{}", job.route);
                    let answered = match job.body.as_str() {
                        "" => get(&mut http, &target).await,
                        body => post(&mut http, &target, body).await,
                    };
                    let _ = told.send(Told::Answer(job.tag, answered));
                }
            });
            job
        };
        Backend { connections: (0..count).map(connect).collect() }
    }

    pub fn count(&self) -> usize {
        self.connections.len()
    }

    /// Puts a request at the end of a connection's queue.
    pub fn ask(&self, connection: usize, job: Job) {
        self.connections[connection].send(job).expect("the connection's task lives");
    }
}

pub async fn get(http: &mut Http, target: &str) -> Answered {
    answered(http, &request("GET", target, &[], "")).await
}

pub async fn post(http: &mut Http, target: &str, body: &str) -> Answered {
    answered(http, &request("POST", target, &["Content-Type: application/json"], body)).await
}

async fn answered(http: &mut Http, request: &str) -> Answered {
    let sent = Instant::now();
    match http.ask(request).await {
        Ok(answer) => Answered { status: answer.status, body: answer.json(), sent },
        Err(error) => Answered { status: 0, body: Value::String(broken(&error)), sent },
    }
}

fn broken(error: &io::Error) -> String {
    format!("the API's connection broke: {error}")
}
