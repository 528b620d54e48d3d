//! The look around: a worker turns until nothing is left to read, for those who may have said their word on any connection.

use crate::app::Application;

use super::turn::{COMPLETIONS_PER_TURN, Worker};

/// A connection is accepted, its request read in so many pieces, and handed to the shard that it is for, within so many turns.
const TURNS_AROUND_MAX: u32 = 64;

impl<A: Application> Worker<A> {
    /// Ends the look around when there is nothing left to do, or when all that there was when it began has had its turns.
    pub(super) fn look_around(&mut self, done: usize) {
        let Some(turns) = &mut self.around else { return };
        // A turn that left completions or letters over was not a whole one.
        *turns += u32::from(done < COMPLETIONS_PER_TURN && self.letters.is_empty());
        let has_mail = !self.letters.is_empty() || !self.outside.mailbox.is_empty();
        if *turns >= TURNS_AROUND_MAX || done == 0 && !has_mail && !self.ring.has_work() {
            self.around = None;
            self.shard.on_looked_around();
        }
    }
}
