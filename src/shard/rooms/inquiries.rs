//! `Inquiries`: what sockets have said to broadcasts of which a backend wants to know it, until it has come for it.
//!
//! A broadcast may come to a shard in several parts, each of which has its own receivers (`Acks`); what they say is put
//! together here. Who has asked comes for it when the broadcast is queued everywhere, and waits for what has still to be said.

use std::collections::BTreeSet;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use sockring_protocol::{Millis, json};

use crate::shard::mail::{InquiryKey, Reply, Ticket};
use crate::shard::relay::{carried, maps};
use sockring_protocol::portable;

/// How long after its time it may be asked what was said.
const FETCHED_WITHIN_MS: u64 = 5_000;

/// What is kept of what sockets say, for each inquiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ResponseBounds {
    pub(crate) count_max: usize,
    pub(crate) bytes_max: usize,
}

portable!(struct ResponseBounds { count_max, bytes_max });

/// What was said so far.
struct Said {
    /// Parts that are not over.
    open: usize,
    sockets: u64,
    responses: Vec<Box<[u8]>>,
    bytes: usize,
    /// Who waits for the rest.
    asker: Option<Ticket>,
    until: Millis,
}

portable!(struct Said { open, sockets, responses, bytes, asker, until });

/// The inquiries of a shard.
#[derive(Default)]
pub(crate) struct Inquiries {
    all: HashMap<InquiryKey, Said, RandomState>,
    ends: BTreeSet<(Millis, InquiryKey)>,
    /// Answers to those who waited.
    concluded: Vec<(Ticket, Reply)>,
}

// What is concluded leaves with its turn.
carried!(Inquiries { all by maps, ends } stays { concluded });

impl Inquiries {
    /// Another part begins, whose time is over then.
    pub(crate) fn begin(&mut self, key: InquiryKey, ends_at: Millis) {
        let until = ends_at + FETCHED_WITHIN_MS;
        let said = self.all.entry(key).or_insert_with(|| {
            self.ends.insert((until, key));
            Said { open: 0, sockets: 0, responses: Vec::new(), bytes: 0, asker: None, until }
        });
        said.open += 1;
    }

    /// A socket has said it, with these arguments: whether there was room for the first of them, or none was wanted.
    pub(crate) fn say(&mut self, key: InquiryKey, args: &[u8], bounds: ResponseBounds) -> bool {
        let Some(said) = self.all.get_mut(&key) else { return true };
        said.sockets += 1;
        if said.responses.len() >= bounds.count_max {
            return true;
        }
        let args = std::str::from_utf8(args).unwrap_or("[]");
        let response = json::Elements::of(args).next().unwrap_or("null").as_bytes();
        if said.bytes + response.len() > bounds.bytes_max {
            return false;
        }
        said.bytes += response.len();
        said.responses.push(response.into());
        true
    }

    /// A part is over.
    pub(crate) fn end_part(&mut self, key: InquiryKey) {
        let Some(said) = self.all.get_mut(&key) else { return };
        said.open = said.open.saturating_sub(1);
        if said.open == 0
            && let Some(ticket) = said.asker
        {
            self.conclude(key, ticket);
        }
    }

    /// Who has asked comes for what was said, and waits for the rest of it.
    pub(crate) fn fetch(&mut self, key: InquiryKey, ticket: Ticket) {
        match self.all.get_mut(&key) {
            Some(said) if said.open > 0 => said.asker = Some(ticket),
            _ => self.conclude(key, ticket),
        }
    }

    fn conclude(&mut self, key: InquiryKey, ticket: Ticket) {
        let (sockets, responses) = match self.all.remove(&key) {
            None => (0, Vec::new()),
            Some(said) => {
                self.ends.remove(&(said.until, key));
                (said.sockets, said.responses)
            }
        };
        self.concluded.push((ticket, Reply::Concluded { sockets, responses }));
    }

    #[inline]
    pub(crate) fn has_concluded(&self) -> bool {
        !self.concluded.is_empty()
    }

    pub(crate) fn take_concluded(&mut self) -> Vec<(Ticket, Reply)> {
        std::mem::take(&mut self.concluded)
    }

    /// What nobody has come for goes.
    pub(crate) fn expire(&mut self, now: Millis) {
        while let Some((_, key)) = self.ends.first().copied().filter(|(at, _)| *at <= now) {
            self.ends.pop_first();
            self.all.remove(&key);
        }
    }

    pub(crate) fn deadline(&self) -> Option<Millis> {
        self.ends.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: InquiryKey = InquiryKey(1);
    const ALL: ResponseBounds = ResponseBounds { count_max: 9, bytes_max: 100 };

    fn concluded(inquiries: &mut Inquiries) -> Vec<(u64, u64, Vec<String>)> {
        let text = |responses: Vec<Box<[u8]>>| responses.into_iter().map(|one| String::from_utf8(one.into()).unwrap());
        let all = inquiries.take_concluded().into_iter().map(|(ticket, reply)| match reply {
            Reply::Concluded { sockets, responses } => (ticket.0, sockets, text(responses).collect()),
            other => panic!("{other:?}"),
        });
        all.collect()
    }

    #[test]
    fn who_asks_waits_until_all_parts_are_over() {
        let mut inquiries = Inquiries::default();
        inquiries.begin(KEY, Millis(100));
        inquiries.begin(KEY, Millis(100));
        assert!(inquiries.say(KEY, b"[{\"a\":[1,2]},3]", ALL) && inquiries.say(KEY, b"[]", ALL));
        inquiries.end_part(KEY);
        inquiries.fetch(KEY, Ticket(7));
        assert!(!inquiries.has_concluded(), "one part is not over");
        assert!(inquiries.say(KEY, b"[\"late\"]", ALL));
        inquiries.end_part(KEY);
        let said = ["{\"a\":[1,2]}", "null", "\"late\""].map(str::to_owned).to_vec();
        assert_eq!(concluded(&mut inquiries), [(7, 3, said)]);
        assert!(inquiries.all.is_empty() && inquiries.ends.is_empty());
        // Of what reached nobody here nothing is known.
        inquiries.fetch(KEY, Ticket(8));
        assert_eq!(concluded(&mut inquiries), [(8, 0, Vec::new())]);
    }

    #[test]
    fn responses_are_bounded_and_what_nobody_comes_for_goes() {
        let mut inquiries = Inquiries::default();
        inquiries.begin(KEY, Millis(100));
        let bounds = ResponseBounds { count_max: 2, bytes_max: 5 };
        let said = [b"[123]".as_slice(), b"[456]", b"[78]", b"[9]"].map(|args| inquiries.say(KEY, args, bounds));
        assert_eq!(said, [true, false, true, true], "the fourth was not wanted");
        inquiries.end_part(KEY);
        assert_eq!(inquiries.deadline(), Some(Millis(100 + FETCHED_WITHIN_MS)));
        inquiries.fetch(KEY, Ticket(1));
        assert_eq!(concluded(&mut inquiries), [(1, 4, vec!["123".to_owned(), "78".to_owned()])]);
        inquiries.begin(KEY, Millis(200));
        inquiries.end_part(KEY);
        inquiries.expire(Millis(200 + FETCHED_WITHIN_MS));
        assert!(inquiries.all.is_empty() && inquiries.deadline().is_none());
        inquiries.end_part(KEY);
        assert!(!inquiries.has_concluded());
    }
}
