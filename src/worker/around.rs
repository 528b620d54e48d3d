//! The look around: a worker turns until nothing is left to read, for those who may have said their word on any connection.

use crate::app::Application;
use crate::ring::Kernel;

use super::outside::Outside;
use super::turn::{COMPLETIONS_PER_TURN, Worker};

/// A connection is accepted, its request read in so many pieces, and handed to the shard that it is for, within so many turns.
const TURNS_AROUND_MAX: u32 = 64;

impl<A: Application, K: Kernel, O: Outside<Socket = K::Socket>> Worker<A, K, O> {
    /// Ends the look around when there is nothing left to do, or when all that there was when it began has had its turns.
    pub(super) fn look_around(&mut self, done: usize) {
        let Some(turns) = &mut self.around else { return };
        // A turn that left completions or letters over was not a whole one.
        *turns += u32::from(done < COMPLETIONS_PER_TURN && !self.outside.has_letters());
        let has_mail = self.outside.has_letters() || self.outside.has_mail();
        if *turns >= TURNS_AROUND_MAX || done == 0 && !has_mail && !self.kernel.has_work() {
            self.around = None;
            self.shard.on_looked_around();
        }
    }
}
