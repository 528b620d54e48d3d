//! `Proxy`: what stands between an instance and Redis: it passes everything on, and says what it is told to.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::redis_server::RedisServer;

/// One on a port of its own. Its threads end with the connections.
pub struct Proxy {
    pub port: u16,
    clients: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    pub fn before(redis: &RedisServer) -> Proxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let clients = Arc::new(Mutex::new(Vec::new()));
        let (known, redis_port) = (Arc::clone(&clients), redis.port);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, redis_port)) else { continue };
                let clone = |stream: &TcpStream| stream.try_clone().expect("a descriptor");
                known.lock().expect("no panic").push(clone(&client));
                let (to_client, from_server) = (clone(&client), clone(&server));
                thread::spawn(move || pass_on(client, server));
                thread::spawn(move || pass_on(from_server, to_client));
            }
        });
        Proxy { port, clients }
    }

    /// Sends this to everybody who is connected now, as if Redis had sent it.
    pub fn say(&self, bytes: &[u8]) {
        for mut client in self.clients.lock().expect("no panic").drain(..) {
            // It may have gone.
            let _ = client.write_all(bytes);
        }
    }
}

fn pass_on(mut from: TcpStream, mut to: TcpStream) {
    let mut bytes = [0; 16 << 10];
    while let Ok(count) = from.read(&mut bytes) {
        if count == 0 || to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
