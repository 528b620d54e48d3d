//! `Acceptor`: when a worker accepts, and how it ends doing so. No kernel in here.

use std::time::{Duration, Instant};

use crate::ring::{Armed, Hit};

/// How long accepting pauses when there is no descriptor, and at the longest when there is no room.
const PAUSE: Duration = Duration::from_millis(100);

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arming {
    Nothing,
    Arm,
    Cancel,
    /// Accepting is over: those that have connected already are taken, then the listener is closed.
    Drain,
}

/// Whether another connection would find a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vacancy {
    Some,
    None,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Want {
    Accept,
    /// Until this time.
    Pause(Instant),
    /// Until there is room; others may make some, so at this time it is looked for.
    WaitForRoom(Instant),
    Stop,
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cancellation {
    None,
    UnderWay,
    /// It has found the accept, which has still to say that it has ended.
    Found,
}

/// The accept of one listener: at most one is armed, and it has ended when its own last completion says so.
#[derive(Debug)]
pub(super) struct Acceptor {
    want: Want,
    is_armed: bool,
    cancellation: Cancellation,
}

impl Acceptor {
    pub(super) fn new() -> Acceptor {
        Acceptor { want: Want::Accept, is_armed: false, cancellation: Cancellation::None }
    }

    /// For good.
    pub(super) fn stop(&mut self) {
        if self.want != Want::Nothing {
            self.want = Want::Stop;
        }
    }

    /// Something is short.
    pub(super) fn pause(&mut self, now: Instant) {
        if self.want == Want::Accept {
            self.want = Want::Pause(now + PAUSE);
        }
    }

    pub(super) fn is_accepting(&self) -> bool {
        self.want == Want::Accept
    }

    /// When accepting goes on.
    pub(super) fn resumes_at(&self) -> Option<Instant> {
        match self.want {
            Want::Pause(until) | Want::WaitForRoom(until) => Some(until),
            _ => None,
        }
    }

    /// Sees to whether accepting goes on.
    pub(super) fn resume_if_due(&mut self, now: Instant, vacancy: Vacancy) {
        match (self.want, vacancy) {
            (Want::Accept, Vacancy::None) => self.want = Want::WaitForRoom(now + PAUSE),
            (Want::WaitForRoom(until), Vacancy::None) if until <= now => self.want = Want::WaitForRoom(now + PAUSE),
            (Want::WaitForRoom(_), Vacancy::Some) => self.want = Want::Accept,
            (Want::Pause(until), Vacancy::Some) if until <= now => self.want = Want::Accept,
            (Want::Pause(until), Vacancy::None) if until <= now => self.want = Want::WaitForRoom(now + PAUSE),
            _ => {}
        }
    }

    /// The accept has brought something.
    pub(super) fn on_accepted(&mut self, armed: Armed) {
        self.is_armed = armed == Armed::Still;
        if !self.is_armed && self.cancellation == Cancellation::Found {
            self.cancellation = Cancellation::None;
        }
    }

    /// A cancellation has run. The accept that it missed, because it was about to be armed again, is looked for once more.
    pub(super) fn on_cancelled(&mut self, hit: Hit) {
        self.cancellation = match hit {
            Hit::Found if self.is_armed => Cancellation::Found,
            _ => Cancellation::None,
        };
    }

    pub(super) fn next(&mut self) -> Arming {
        match (self.want, self.is_armed, self.cancellation) {
            (Want::Accept, false, Cancellation::None) => {
                self.is_armed = true;
                Arming::Arm
            }
            (Want::Pause(_) | Want::WaitForRoom(_) | Want::Stop, true, Cancellation::None) => {
                self.cancellation = Cancellation::UnderWay;
                Arming::Cancel
            }
            (Want::Stop, false, Cancellation::None) => {
                self.want = Want::Nothing;
                Arming::Drain
            }
            _ => Arming::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn armed() -> Acceptor {
        let mut acceptor = Acceptor::new();
        assert_eq!((acceptor.next(), acceptor.next()), (Arming::Arm, Arming::Nothing));
        acceptor
    }

    #[test]
    fn a_cancellation_that_missed_is_sent_again_while_the_accept_is_armed() {
        let mut acceptor = armed();
        acceptor.stop();
        assert_eq!((acceptor.next(), acceptor.next()), (Arming::Cancel, Arming::Nothing));
        acceptor.on_cancelled(Hit::Missed);
        // The listener would stay open for as long as the accept is armed.
        assert_eq!(acceptor.next(), Arming::Cancel);
        acceptor.on_cancelled(Hit::Found);
        assert_eq!(acceptor.next(), Arming::Nothing);
        acceptor.on_accepted(Armed::Ended);
        assert_eq!((acceptor.next(), acceptor.next()), (Arming::Drain, Arming::Nothing));
    }

    #[test]
    fn an_accept_that_ended_by_itself_is_not_looked_for() {
        for order in [[0, 1], [1, 0]] {
            let mut acceptor = armed();
            acceptor.stop();
            assert_eq!(acceptor.next(), Arming::Cancel);
            for which in order {
                assert_eq!(acceptor.next(), Arming::Nothing);
                match which {
                    0 => acceptor.on_accepted(Armed::Ended),
                    _ => acceptor.on_cancelled(if acceptor.is_armed { Hit::Found } else { Hit::Missed }),
                }
            }
            assert_eq!(acceptor.next(), Arming::Drain);
        }
    }

    #[test]
    fn two_accepts_are_never_armed() {
        let (mut acceptor, now) = (armed(), Instant::now());
        acceptor.resume_if_due(now, Vacancy::None);
        assert_eq!(acceptor.next(), Arming::Cancel);
        // Accepting goes on before the cancellation has run.
        acceptor.resume_if_due(now, Vacancy::Some);
        assert_eq!(acceptor.next(), Arming::Nothing);
        acceptor.on_cancelled(Hit::Found);
        assert_eq!(acceptor.next(), Arming::Nothing);
        acceptor.on_accepted(Armed::Ended);
        assert_eq!(acceptor.next(), Arming::Arm);
        // It was missed, and is armed as it is wanted to be.
        acceptor.resume_if_due(now, Vacancy::None);
        assert_eq!(acceptor.next(), Arming::Cancel);
        acceptor.resume_if_due(now, Vacancy::Some);
        acceptor.on_cancelled(Hit::Missed);
        assert_eq!(acceptor.next(), Arming::Nothing);
    }

    #[test]
    fn a_shortage_is_waited_for_and_room_ends_the_wait_at_once() {
        let (mut acceptor, now) = (armed(), Instant::now());
        acceptor.pause(now);
        acceptor.resume_if_due(now + PAUSE / 2, Vacancy::Some);
        assert_eq!((acceptor.is_accepting(), acceptor.resumes_at()), (false, Some(now + PAUSE)));
        acceptor.resume_if_due(now + PAUSE, Vacancy::None);
        assert_eq!((acceptor.is_accepting(), acceptor.resumes_at()), (false, Some(now + PAUSE * 2)));
        acceptor.resume_if_due(now + PAUSE, Vacancy::Some);
        assert!(acceptor.is_accepting());
    }
}
