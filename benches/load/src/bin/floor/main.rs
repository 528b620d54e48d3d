//! `floor`: servers that do one thing and nothing else, to have a limit beside what is measured.
#![deny(unsafe_code)]

#[allow(unsafe_code)]
mod bare;
mod epoll;
mod handshake;
mod uring;

use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use socket2::{Domain, Socket, Type};

use bare::Armed;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// io_uring: on each POST, queues sends of the same bytes to all. For `load fanout`.
    Send,
    /// io_uring: sends each frame back, unmasked. For `load echo --protocol websocket`.
    EchoUring,
    /// The same with epoll.
    EchoEpoll,
    /// epoll: holds connections. For `load idle`.
    IdleEpoll,
    /// io_uring: sends pings, and nothing else. For `load idle`.
    Heartbeat,
}

/// The bare limits of the kernel, as servers.
#[derive(Debug, Parser)]
struct Flags {
    what: What,
    /// 0: any free port, printed at start.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// That there is room for.
    #[arg(long, default_value_t = 1000)]
    connections: u32,
    /// send: bytes of the string in the message.
    #[arg(long, default_value_t = 200)]
    payload: usize,
    /// heartbeat: seconds between two pings of a connection.
    #[arg(long, default_value_t = 25.0)]
    interval: f64,
    /// heartbeat: threads with a ring each, whose tables are as large as the limit of open files allows.
    #[arg(long, default_value_t = 1)]
    rings: u32,
    /// heartbeat: what waits for the answers.
    #[arg(long, value_enum, default_value_t = Armed::Receive)]
    armed: Armed,
    /// Core to run on.
    #[arg(long)]
    core: Option<usize>,
    /// Ends by itself after so many seconds.
    #[arg(long, default_value_t = 600.0)]
    seconds: f64,
}

fn main() -> ExitCode {
    match serve(&Flags::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(flags: &Flags) -> Result<(), Box<dyn std::error::Error>> {
    if let Some(core) = flags.core {
        sockring_load::clock::pin(core)?;
    }
    end_after(Duration::from_secs_f64(flags.seconds));
    let listener = listen(flags.port)?;
    let port = listener.local_addr()?.port();
    println!("listening on http://127.0.0.1:{port}");
    let listener = OwnedFd::from(listener);
    match flags.what {
        What::Send => {
            let message = format!("42[\"e\",\"{}\"]", "x".repeat(flags.payload));
            uring::send(&listener, flags.connections, sockring_load::frames::plain_text(message.as_bytes()))
        }
        What::Heartbeat => {
            let (armed, interval) = (flags.armed, Duration::from_secs_f64(flags.interval));
            // The kernel spreads connections between the rings about evenly.
            let each = if flags.rings > 1 { flags.connections / flags.rings * 11 / 10 } else { flags.connections };
            for _ in 1..flags.rings {
                let listener = OwnedFd::from(listen(port)?);
                std::thread::spawn(move || {
                    if let Err(error) = uring::heartbeat(&listener, each, armed, interval) {
                        eprintln!("floor: {error}");
                        std::process::exit(1);
                    }
                });
            }
            uring::heartbeat(&listener, each, armed, interval)
        }
        What::EchoUring => uring::echo(&listener, flags.connections),
        What::EchoEpoll | What::IdleEpoll => epoll::serve(&listener),
    }
}

/// A floor that is forgotten must not run on.
fn end_after(duration: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(duration);
        std::process::exit(0);
    });
}

const BACKLOG: i32 = 4096;

fn listen(port: u16) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.cloexec(), None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
