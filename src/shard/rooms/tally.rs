//! `Tally`: an answer that is put together from several counts, of this shard and of others.

use sockring_protocol::adapter::SocketDescription;

use crate::shard::mail::{EmitOutcome, Keeping, Reply, Ticket, Verdict};
use sockring_protocol::portable;

/// An answer whose counts are not all there.
pub(crate) struct Tally {
    ticket: Ticket,
    counts: Vec<u64>,
    kind: TallyKind,
    outstanding: u32,
}

portable!(struct Tally { ticket, counts, kind, outstanding });

#[derive(Debug)]
enum TallyKind {
    Emit,
    /// What each of them is.
    Remembered(Vec<(Verdict, Option<Keeping>)>),
    Change,
    /// Of so many some have joined, and the others were refused.
    Join {
        of: u64,
    },
    /// Those so far, what they take, and what they may.
    Describe {
        descriptions: Vec<SocketDescription>,
        bytes: usize,
        bytes_max: usize,
    },
    /// They would take more.
    TooMuch,
}

portable!(enum TallyKind {
    0 Emit,
    1 Remembered(verdicts),
    2 Change,
    3 Join { of },
    4 Describe { descriptions, bytes, bytes_max },
    5 TooMuch,
});

impl Tally {
    /// Of how many sockets each of so many broadcasts reaches.
    pub(crate) fn of_emits(ticket: Ticket, broadcasts: usize) -> Tally {
        let outstanding = u32::try_from(broadcasts).unwrap_or(u32::MAX);
        Tally { ticket, counts: vec![0; broadcasts], kind: TallyKind::Emit, outstanding }
    }

    /// The same of broadcasts of which these are told apart.
    pub(crate) fn of_remembered(ticket: Ticket, verdicts: Vec<(Verdict, Option<Keeping>)>) -> Tally {
        let outstanding = u32::try_from(verdicts.len()).unwrap_or(u32::MAX);
        Tally { ticket, counts: vec![0; verdicts.len()], kind: TallyKind::Remembered(verdicts), outstanding }
    }

    /// Of how many sockets a change is done to.
    pub(crate) fn of_change(ticket: Ticket) -> Tally {
        Tally::of_one(ticket, TallyKind::Change)
    }

    /// Of how many of so many sockets join rooms, and how many are refused.
    pub(crate) fn of_joins(ticket: Ticket, of: usize) -> Tally {
        Tally::of_one(ticket, TallyKind::Join { of: of as u64 })
    }

    /// Of sockets that are described, in so many bytes at the most.
    pub(crate) fn of_descriptions(ticket: Ticket, bytes_max: usize) -> Tally {
        Tally::of_one(ticket, TallyKind::Describe { descriptions: Vec::new(), bytes: 0, bytes_max })
    }

    fn of_one(ticket: Ticket, kind: TallyKind) -> Tally {
        Tally { ticket, counts: vec![0], kind, outstanding: 1 }
    }

    /// One count more is awaited.
    pub(crate) fn expect(&mut self) {
        self.outstanding += 1;
    }

    /// Adds a count that was awaited; says whether it was the last.
    pub(crate) fn count(&mut self, index: usize, count: u64) -> bool {
        if let Some(total) = self.counts.get_mut(index) {
            *total += count;
        }
        self.outstanding -= 1;
        self.outstanding == 0
    }

    /// Whether there is room for another description.
    pub(crate) fn wants_description(&self) -> bool {
        matches!(self.kind, TallyKind::Describe { .. })
    }

    /// Adds a description; says whether there was room for it.
    pub(crate) fn describe(&mut self, description: SocketDescription) -> bool {
        let TallyKind::Describe { descriptions, bytes, bytes_max } = &mut self.kind else { return false };
        *bytes += description.bytes();
        if *bytes > *bytes_max {
            self.kind = TallyKind::TooMuch;
            return false;
        }
        descriptions.push(description);
        true
    }

    /// How many sockets are asked to join.
    pub(crate) fn joining(&self) -> Option<u64> {
        match self.kind {
            TallyKind::Join { of } => Some(of),
            _ => None,
        }
    }

    pub(crate) fn into_reply(self) -> (Ticket, Reply) {
        let reply = match self.kind {
            TallyKind::Emit => Reply::Delivered(self.counts),
            TallyKind::Remembered(verdicts) => {
                let outcomes = self.counts.into_iter().zip(verdicts);
                let outcome = |(delivered, (verdict, keeping))| EmitOutcome { delivered, verdict, keeping };
                Reply::Remembered(outcomes.map(outcome).collect())
            }
            TallyKind::Change => Reply::Changed(self.counts.iter().sum()),
            TallyKind::Join { of } => {
                let sockets = self.counts.iter().sum();
                Reply::Joined { sockets, refused: of - sockets }
            }
            TallyKind::Describe { descriptions, .. } => Reply::Described(descriptions),
            TallyKind::TooMuch => Reply::TooMuch,
        };
        (self.ticket, reply)
    }
}
