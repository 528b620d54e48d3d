//! The binary as a command that ends by itself.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::WAIT_MAX;

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// The binary with an environment of its own, so that what the developer's shell has set changes nothing.
pub fn sockring(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sockring"));
    command.args(arguments).env_clear().envs(environment.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The same under a limit, as `-n 200`.
pub fn limited(limit: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", &format!("ulimit {limit}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_sockring")])
        .args(arguments);
    command.env_clear().envs(environment.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// `serve`, with this socket as a service manager would hand it over.
pub fn with_socket(socket: OwnedFd, environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new("/bin/sh");
    let script = "export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$0\" serve 3<&0 < /dev/null";
    command.args(["-c", script, env!("CARGO_BIN_EXE_sockring")]);
    command.env_clear().envs(environment.iter().copied());
    command.stdin(socket).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end.
pub fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
    finish(sockring(arguments, environment).spawn().expect("the binary starts"))
}

/// Waits for a child's end and collects what it says, which may be more than its pipes hold.
pub fn finish(mut child: Child) -> Ended {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let said = [thread::spawn(|| all_of(stdout)), thread::spawn(|| all_of(stderr))];
    let ended_by_itself = has_ended_within(&child, WAIT_MAX);
    if !ended_by_itself {
        child.kill().expect("a child of ours can be killed");
    }
    let status = child.wait().expect("a child of ours can be awaited");
    let [stdout, stderr] = said.map(|stream| stream.join().expect("its output is read"));
    let ended = Ended { code: status.code(), stdout, stderr };
    assert!(ended_by_itself, "did not end within {WAIT_MAX:?}: {ended:?}");
    ended
}

/// Waits for the end of a process for at most this long.
pub fn has_ended_within(child: &Child, time: Duration) -> bool {
    let pid = Pid::from_child(child);
    let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty()) else { return true };
    let time = Timespec::try_from(time).expect("a short time");
    let mut polled = [PollFd::new(&descriptor, PollFlags::IN)];
    poll(&mut polled, Some(&time)).expect("a process can be polled") > 0
}

fn all_of(stream: Option<impl Read>) -> String {
    let mut text = String::new();
    if let Some(mut stream) = stream {
        stream.read_to_string(&mut text).expect("the output is UTF-8");
    }
    text
}
