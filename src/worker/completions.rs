//! Completions: what the kernel has done, up to the shard, and what has to be started because of it.

use crate::app::Application;
use crate::capacity::{AcceptError, Door};
use crate::ring::{Behind, Completion, Kernel, ReceiveError};
use crate::shard::{Broken, ConnectionKey};

use super::operations::Received;
use super::outside::Outside;
use super::turn::{COMPLETIONS_PER_TURN, Worker};

/// What came from a connection in the HTTP stage.
enum FromHttp {
    Bytes(Vec<u8>),
    End,
    Broken(Broken),
}

impl<A: Application, K: Kernel, O: Outside<Socket = K::Socket>> Worker<A, K, O> {
    pub(super) fn completions_up(&mut self) -> usize {
        // Receives that found no buffer go again first: their bytes have waited longest.
        for token in std::mem::take(&mut self.starved) {
            if let Some(entry) = self.table.find(token) {
                let (key, start) = (entry.key, entry.operations.on_buffers());
                self.start(key, start);
            }
        }
        let mut requests = Vec::new();
        let mut count = self.reap(&mut requests);
        // A settled connection says first that it is readable, and is received from then; an HTTP request is there at
        // once. So that a frame wins over a request sent after it, what is readable is received before requests count.
        if !requests.is_empty() && self.received_later > 0 {
            self.kernel.enter(0, None);
            count += self.reap(&mut requests);
        }
        self.received_later = 0;
        for (key, request) in requests {
            match request {
                FromHttp::Bytes(mut bytes) => self.shard.on_bytes(key, &mut bytes),
                FromHttp::End => self.shard.on_hangup(key),
                FromHttp::Broken(broken) => self.shard.on_broken(key, broken),
            }
        }
        for key in self.looked.drain(..) {
            self.shard.on_looked(key);
        }
        count
    }

    /// Handles the completions that are there. What came from connections in the HTTP stage is kept for later.
    fn reap(&mut self, requests: &mut Vec<(ConnectionKey, FromHttp)>) -> usize {
        // Completions borrow the kernel, and starting operations needs it: what is to be started is collected.
        let mut starts = std::mem::take(&mut self.starts);
        let mut accepted: Vec<K::Socket> = Vec::new();
        let Worker { kernel, shard, table, departures, outside, capacity, acceptor, starved, looked, arrived, .. } =
            self;
        let count = kernel.complete(COMPLETIONS_PER_TURN, |completion| match completion {
            Completion::Accepted(result, armed) => {
                *arrived += 1;
                acceptor.on_accepted(armed);
                match result {
                    Ok(socket) => accepted.push(socket),
                    Err(error) => match capacity.accept_errors.count(Door::Clients, &error) {
                        // As it was asked to; or nobody is there any more.
                        None | Some(AcceptError::ConnectionAborted) => {}
                        Some(_) => acceptor.pause(outside.instant()),
                    },
                }
            }
            Completion::AcceptCancelled(hit) => acceptor.on_cancelled(hit),
            Completion::Readable(token, armed, peer) => {
                *arrived += 1;
                if let Some(entry) = table.find(token) {
                    let start = entry.operations.on_readable(armed, peer);
                    entry.note(start, &mut starts);
                }
            }
            Completion::Received(token, bytes, behind) => {
                let received = match (bytes.is_empty(), behind) {
                    (true, _) => Received::Ended,
                    (false, Behind::More) => Received::More,
                    (false, Behind::Unknown) => Received::Some,
                };
                let Some(entry) = table.find(token) else { return };
                let was_open = entry.operations.is_open();
                let start = entry.operations.on_received(received);
                entry.note(start, &mut starts);
                match entry.operations.is_watched() {
                    _ if !was_open => {
                        if let Some(departure) = departures.get_mut(&entry.key) {
                            departure.parcel.append(bytes);
                        }
                    }
                    true if bytes.is_empty() => shard.on_hangup(entry.key),
                    true => shard.on_bytes(entry.key, bytes),
                    false if bytes.is_empty() => requests.push((entry.key, FromHttp::End)),
                    false => {
                        *arrived += 1;
                        requests.push((entry.key, FromHttp::Bytes(bytes.to_vec())));
                    }
                }
            }
            Completion::ReceiveFailed(token, error) => {
                let received = match error {
                    ReceiveError::WouldBlock => Received::Empty,
                    ReceiveError::OutOfBuffers => Received::Starved,
                    ReceiveError::Cancelled | ReceiveError::Broken(_) => Received::Ended,
                };
                let Some(entry) = table.find(token) else { return };
                let was_open = entry.operations.is_open();
                let start = entry.operations.on_received(received);
                entry.note(start, &mut starts);
                match received {
                    Received::Starved => starved.push(token),
                    Received::Ended if was_open => {
                        let end = match error {
                            ReceiveError::Broken(errno) => FromHttp::Broken(broken_by(errno)),
                            _ => FromHttp::End,
                        };
                        requests.push((entry.key, end));
                    }
                    _ => {}
                }
            }
            Completion::Looked(token, found) => {
                let Some(entry) = table.find(token) else { return };
                let (start, is_done) = entry.operations.on_looked(found);
                entry.note(start, &mut starts);
                if is_done {
                    looked.push(entry.key);
                }
            }
            Completion::Sent(token, result) => {
                let Some(entry) = table.find(token) else { return };
                let was_open = entry.operations.is_open();
                let start = entry.operations.on_sent();
                entry.note(start, &mut starts);
                if was_open {
                    shard.on_sent(entry.key, result.map_err(|error| broken_by(error.raw_os_error().unwrap_or(0))));
                }
            }
            Completion::ShutDown(token) => {
                if let Some(entry) = table.find(token) {
                    let start = entry.operations.on_shut_down();
                    entry.note(start, &mut starts);
                }
            }
            Completion::Cancelled(token, hit) => {
                if let Some(entry) = table.find(token) {
                    let start = entry.operations.on_cancelled(hit);
                    entry.note(start, &mut starts);
                }
            }
            Completion::Closed(token) => {
                if let Some(key) = table.find(token).map(|entry| entry.key) {
                    table.remove(key);
                    shard.on_closed(key);
                }
            }
        });
        for (key, start) in starts.drain(..) {
            self.received_later += usize::from(start.receive);
            self.start(key, start);
            self.settle_if_due(key);
        }
        self.starts = starts;
        // Let in when what came from others has been seen: who idles goes for them.
        self.waiting.extend(accepted);
        count
    }
}

/// What an errno of a receive or a send says.
fn broken_by(errno: i32) -> Broken {
    match errno {
        libc::ECONNRESET => Broken::Reset,
        libc::EPIPE => Broken::Pipe,
        libc::ETIMEDOUT => Broken::TimedOut,
        libc::ECONNABORTED => Broken::Aborted,
        libc::EHOSTUNREACH => Broken::HostUnreachable,
        libc::ENETUNREACH => Broken::NetworkUnreachable,
        libc::ENETDOWN => Broken::NetworkDown,
        libc::ENOMEM => Broken::Memory,
        libc::EPERM => Broken::Permission,
        other => Broken::Other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_errno_that_has_a_label_is_known() {
        let known: Vec<Broken> = (1..134).map(broken_by).filter(|broken| !matches!(broken, Broken::Other(_))).collect();
        assert_eq!(known.len(), Broken::ALL.len() - 1);
        assert!(Broken::ALL.iter().all(|broken| *broken == Broken::Other(0) || known.contains(broken)));
    }
}
