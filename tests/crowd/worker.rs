//! Processes that hold the clients: this test binary again, told its part by its environment, talked to line by line.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::LocalSet;

use crate::crowd::Crowd;
use crate::wait_max;
use crate::{drain, many, order, pause, slow};

const TASK: &str = "CROWD_TASK";
/// What a line for the parent begins with; the rest is the test runner's.
const MARK: &str = "@ ";

/// The workers of one test.
pub struct Workers {
    workers: Vec<Worker>,
}

struct Worker {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Workers {
    /// One process for each task, with its clients on this server.
    pub fn start(part: &str, server: SocketAddr, tasks: impl IntoIterator<Item = Value>) -> Workers {
        let start = |(number, task)| {
            let task = json!({"part": part, "server": server.to_string(), "number": number, "task": task});
            Worker::start(&task)
        };
        Workers { workers: tasks.into_iter().enumerate().map(start).collect() }
    }

    /// What each worker says next.
    #[track_caller]
    pub fn hear(&mut self, time: Duration) -> Vec<Value> {
        self.workers.iter_mut().map(|worker| worker.hear(time)).collect()
    }

    pub fn say(&mut self, word: &str) {
        for worker in &mut self.workers {
            writeln!(worker.stdin, "{word}").expect("the worker listens");
        }
    }

    /// Waits until all have ended well.
    #[track_caller]
    pub fn finish(mut self) {
        for worker in &mut self.workers {
            let status = worker.child.wait().expect("a child of ours");
            assert!(status.success(), "a worker failed: {status}");
        }
    }
}

impl Worker {
    fn start(task: &Value) -> Worker {
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        command.args(["--exact", "worker::does_what_its_parent_says", "--ignored", "--nocapture"]);
        command.env(TASK, task.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("this binary starts");
        let (line, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        thread::spawn(move || {
            for text in stdout.lines().map_while(Result::ok) {
                if let Some(text) = text.strip_prefix(MARK) {
                    // Nobody listens any more when the test has failed.
                    let _ = line.send(text.to_owned());
                }
            }
        });
        Worker { stdin: child.stdin.take().expect("stdin is piped"), child, lines }
    }

    #[track_caller]
    fn hear(&mut self, time: Duration) -> Value {
        match self.lines.recv_timeout(time) {
            Ok(text) => serde_json::from_str(&text).expect("JSON"),
            Err(error) => panic!("no word from a worker ({error}); see above for its own"),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The process that started this one.
pub struct Parent {
    lines: UnboundedReceiver<String>,
}

impl Parent {
    pub fn tell(&self, value: &Value) {
        println!("\n{MARK}{value}");
    }

    /// Waits for this word.
    pub async fn heed(&mut self, word: &str) {
        let line = self.lines.recv().await;
        assert_eq!(line.as_deref(), Some(word), "the parent went away");
    }
}

#[test]
#[ignore = "the other tests start it"]
fn does_what_its_parent_says() {
    // Run by hand it has nothing to do.
    let Ok(task) = std::env::var(TASK) else { return };
    let task: Value = serde_json::from_str(&task).expect("JSON");
    let (line, lines) = unbounded_channel();
    thread::spawn(move || {
        for text in std::io::stdin().lines().map_while(Result::ok) {
            let _ = line.send(text);
        }
        // Time to end by itself, if it is about to; then without its parent it has no business.
        thread::sleep(wait_max());
        std::process::exit(1);
    });
    let server = task["server"].as_str().and_then(|server| server.parse().ok()).expect("an address");
    let number = task["number"].as_u64().and_then(|number| number.try_into().ok()).expect("a number");
    let (parent, part, task) = (Parent { lines }, task["part"].as_str().unwrap_or_default(), &task["task"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let crowd = Crowd::new(server, number);
        match part {
            "many" => many::work(crowd, parent, task).await,
            "slow" => slow::work(crowd, parent, task).await,
            "pause" => pause::work(crowd, parent, task).await,
            "order" => order::work(crowd, parent, task).await,
            "drain" => drain::work(crowd, parent, task).await,
            other => panic!("no such part: {other}"),
        }
    });
}
