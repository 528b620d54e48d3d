//! Every (state, input) pair of the session, and its timers.

use super::*;

const TIMES: SessionTimes = SessionTimes { ping_interval_ms: 300, ping_timeout_ms: 200, upgrade_timeout_ms: 1000 };
const NOW: Millis = Millis(1_000);

fn session(state: State) -> Session {
    Session {
        state,
        heartbeat: Heartbeat::PingAt(NOW + 300),
        upgrade: UpgradeTiming::InTime,
        poll: RequestPresence::Absent,
        post: RequestPresence::Absent,
    }
}

const STATES: [State; 6] = [
    State::Polling,
    State::Probing { upgrade_by: Millis(2_000) },
    State::Upgrading { upgrade_by: Millis(2_000), release_poll_at: Near::NEVER },
    State::WebSocket,
    State::Closing { at: Millis(1_010) },
    State::Closed(Transport::Polling),
];

/// One row per input, one column per state in the order of `STATES`.
#[test]
fn a_ping_out_of_turn_is_sent_unless_one_is_to_be_answered() {
    let mut session = Session::open(Transport::WebSocket, NOW, &TIMES, 0);
    assert!(!session.awaits_pong());
    assert_eq!(session.ping_now(NOW + 5, &TIMES), Step::SendPing);
    assert_eq!((session.awaits_pong(), session.deadline(NOW)), (true, NOW + 5 + TIMES.ping_timeout_ms));
    assert_eq!(session.ping_now(NOW + 6, &TIMES), Step::Nothing, "it is on its way");
    session.receive(Input::Packet(PacketType::Pong), NOW + 7, &TIMES);
    assert_eq!((session.awaits_pong(), session.deadline(NOW)), (false, NOW + 7 + TIMES.ping_interval_ms));
    assert_eq!(session.expire(NOW + 7 + TIMES.ping_interval_ms, &TIMES), Step::SendPing);
    assert_eq!(session.ping_now(NOW + 8 + TIMES.ping_interval_ms, &TIMES), Step::Nothing);
    session.close();
    session.receive(Input::Packet(PacketType::Pong), NOW + 9 + TIMES.ping_interval_ms, &TIMES);
    assert_eq!(session.ping_now(NOW + 9 + TIMES.ping_interval_ms, &TIMES), Step::Nothing, "it is over");
}

#[test]
fn a_ping_goes_along_with_a_message_in_the_last_fifth_of_the_interval() {
    let mut session = Session::open(Transport::WebSocket, NOW, &TIMES, 0);
    let soon = TIMES.ping_interval_ms * 4 / 5;
    assert_eq!(session.ping_along(NOW + (soon - 1), &TIMES), Step::Nothing);
    assert_eq!(session.deadline(NOW), NOW + TIMES.ping_interval_ms, "and nothing has changed");
    assert_eq!(session.ping_along(NOW + soon, &TIMES), Step::SendPing);
    assert_eq!((session.awaits_pong(), session.deadline(NOW)), (true, NOW + soon + TIMES.ping_timeout_ms));
    assert_eq!(session.ping_along(NOW + soon, &TIMES), Step::Nothing, "one at a time");
    session.receive(Input::Packet(PacketType::Pong), NOW + (soon + 5), &TIMES);
    assert_eq!(session.deadline(NOW), NOW + (soon + 5) + TIMES.ping_interval_ms);
    session.close();
    assert_eq!(session.ping_along(NOW + (soon + 5) + TIMES.ping_interval_ms, &TIMES), Step::Nothing);
}

#[test]
fn every_pair_of_state_and_input() {
    use Input::{
        BadPacket, Packet, Poll, PollAnswered, PollLost, Post, PostComplete, PostLost, Probe, ProbeLost, ProbeSilent,
        Silent, TransportLost,
    };
    use Step::{Accept, AnswerProbe, Deliver, DropProbe, End, Nothing, Refuse, Upgraded};
    const CLOSE: Step = End(SessionEnd::ClientClose);
    const LOST: Step = End(SessionEnd::TransportClose);
    const BROKEN: Step = End(SessionEnd::TransportError);
    const PARSE: Step = End(SessionEnd::ParseError);
    #[rustfmt::skip]
    let table: [(Input, [Step; 6]); 24] = [
        (Poll,                              [Accept,  Accept,      Accept,    Refuse,  CLOSE,   Refuse]),
        (PollAnswered,                      [Nothing, Nothing,     Nothing,   Nothing, Nothing, Nothing]),
        (PollLost,                          [LOST,    LOST,        LOST,      Nothing, Nothing, Nothing]),
        (Post,                              [Accept,  Accept,      Accept,    Refuse,  Refuse,  Refuse]),
        (PostComplete,                      [Accept,  Accept,      Accept,    Refuse,  Refuse,  Refuse]),
        (PostLost,                          [BROKEN,  BROKEN,      BROKEN,    Nothing, Nothing, Nothing]),
        (Probe,                             [Accept,  Refuse,      Refuse,    Refuse,  Refuse,  Refuse]),
        (Input::ProbePacket(super::ProbePacket::Probe),   [Nothing, AnswerProbe, DropProbe, Nothing, Nothing, Nothing]),
        (Input::ProbePacket(super::ProbePacket::Upgrade), [Nothing, DropProbe,   Upgraded,  Nothing, Nothing, Nothing]),
        (Input::ProbePacket(super::ProbePacket::Other),   [Nothing, DropProbe,   DropProbe, Nothing, Nothing, Nothing]),
        (ProbeLost,                         [Nothing, Nothing,     Nothing,   Nothing, Nothing, Nothing]),
        (Packet(PacketType::Open),          [Nothing, Nothing,     Nothing,   Nothing, Nothing, Nothing]),
        (Packet(PacketType::Close),         [Nothing, Nothing,     Nothing,   CLOSE,   Nothing, Nothing]),
        (Packet(PacketType::Ping),          [PARSE,   PARSE,       PARSE,     PARSE,   Nothing, Nothing]),
        (Packet(PacketType::Pong),          [Nothing, Nothing,     Nothing,   Nothing, Nothing, Nothing]),
        (Packet(PacketType::Message),       [Deliver, Deliver,     Deliver,   Deliver, Nothing, Nothing]),
        (Packet(PacketType::Upgrade),       [Nothing, Nothing,     Nothing,   Nothing, Nothing, Nothing]),
        (Packet(PacketType::Noop),          [Nothing, Nothing,     Nothing,   Nothing, Nothing, Nothing]),
        (BadPacket,                         [PARSE,   PARSE,       PARSE,     PARSE,   Nothing, Nothing]),
        (TransportLost,                     [Nothing, Nothing,     Nothing,   LOST,    Nothing, Nothing]),
        (Silent,                            [Nothing, Nothing,     Nothing,   Nothing, Nothing, Nothing]),
        (ProbeSilent,                       [Nothing, Nothing,     Nothing,   Nothing, Nothing, Nothing]),
        // The same again, to show that a table row has no memory.
        (Poll,                              [Accept,  Accept,      Accept,    Refuse,  CLOSE,   Refuse]),
        (Post,                              [Accept,  Accept,      Accept,    Refuse,  Refuse,  Refuse]),
    ];
    for (input, expected) in table {
        for (state, step) in STATES.into_iter().zip(expected) {
            assert_eq!(session(state).receive(input, NOW, &TIMES), step, "{state:?} {input:?}");
        }
    }
}

#[test]
fn a_second_poll_or_post_ends_the_session() {
    for input in [Input::Poll, Input::Post] {
        for state in &STATES[..3] {
            let mut session = session(*state);
            assert_eq!(session.receive(input, NOW, &TIMES), Step::Accept);
            assert_eq!(session.receive(input, NOW, &TIMES), Step::End(SessionEnd::TransportError), "{state:?}");
            assert_eq!(session.receive(input, NOW, &TIMES), Step::Refuse);
            assert_eq!(session.deadline(NOW), Millis::NEVER);
        }
    }
}

#[test]
fn a_close_packet_waits_for_the_get_that_was_sent_before_it() {
    let close = Input::Packet(PacketType::Close);
    // The GET is there: at once.
    let mut held = session(State::Polling);
    held.receive(Input::Poll, NOW, &TIMES);
    assert_eq!(held.receive(close, NOW, &TIMES), Step::End(SessionEnd::ClientClose));
    // It comes within the grace.
    let mut overtaken = session(State::Polling);
    assert_eq!(overtaken.receive(close, NOW, &TIMES), Step::Nothing);
    assert!(overtaken.is_ending());
    assert_eq!(overtaken.receive(Input::Poll, NOW + 3, &TIMES), Step::End(SessionEnd::ClientClose));
    // It never comes.
    let mut alone = session(State::Polling);
    alone.receive(close, NOW, &TIMES);
    assert_eq!(alone.deadline(NOW), NOW + CLOSE_GRACE_MS);
    assert_eq!(alone.expire(NOW + (CLOSE_GRACE_MS - 1), &TIMES), Step::Nothing);
    assert_eq!(alone.expire(NOW + CLOSE_GRACE_MS, &TIMES), Step::End(SessionEnd::ClientClose));
}

#[test]
fn heartbeat_pings_and_times_out_to_the_millisecond() {
    let mut session = Session::open(Transport::WebSocket, NOW, &TIMES, 20);
    assert_eq!(session.deadline(NOW), NOW + 280);
    assert_eq!(session.expire(NOW + 279, &TIMES), Step::Nothing);
    assert_eq!(session.expire(NOW + 281, &TIMES), Step::SendPing);
    assert_eq!(session.receive(Input::Packet(PacketType::Pong), NOW + 290, &TIMES), Step::Nothing);
    assert_eq!(session.deadline(NOW), NOW + 590);
    // A pong that nobody waits for moves nothing.
    session.receive(Input::Packet(PacketType::Pong), NOW + 500, &TIMES);
    assert_eq!(session.deadline(NOW), NOW + 590);
    assert_eq!(session.expire(NOW + 590, &TIMES), Step::SendPing);
    assert_eq!(session.expire(NOW + 789, &TIMES), Step::Nothing);
    assert_eq!(session.expire(NOW + 790, &TIMES), Step::Suspect);
    assert_eq!(session.expire(NOW + 790, &TIMES), Step::Nothing);
    assert_eq!(session.receive(Input::Silent, NOW + 791, &TIMES), Step::End(SessionEnd::PingTimeout));
    assert_eq!(session.expire(NOW + 9_999, &TIMES), Step::Nothing);
    assert_eq!(session.transport(), Transport::WebSocket);
}

#[test]
fn a_late_ping_leaves_the_client_its_time_to_answer() {
    let mut session = Session::open(Transport::WebSocket, NOW, &TIMES, 0);
    assert_eq!(session.expire(NOW + 60_000, &TIMES), Step::SendPing);
    assert_eq!(session.expire(NOW + 60_000, &TIMES), Step::Nothing);
    assert_eq!(session.deadline(NOW), NOW + 60_200);
}

/// One row per input, one column per state in the order of `STATES`; in each a pong is overdue, and an upgrade.
#[test]
fn only_a_pong_and_what_ends_it_anyway_answers_a_suspicion() {
    const TIMEOUT: Step = Step::End(SessionEnd::PingTimeout);
    use Step::{DropProbe, Nothing, Pardoned};
    let suspects = STATES.map(|state| match state {
        State::Probing { .. } => State::Probing { upgrade_by: NOW },
        State::Upgrading { release_poll_at, .. } => State::Upgrading { upgrade_by: NOW, release_poll_at },
        state => state,
    });
    #[rustfmt::skip]
    let table = [
        (Input::Silent,                   [TIMEOUT, TIMEOUT,   TIMEOUT,   TIMEOUT, Nothing, Nothing]),
        (Input::ProbeSilent,              [Nothing, DropProbe, DropProbe, Nothing, Nothing, Nothing]),
        (Input::Packet(PacketType::Pong), [Pardoned, Pardoned, Pardoned,  Pardoned, Nothing, Nothing]),
    ];
    for (input, steps) in table {
        for (state, step) in suspects.into_iter().zip(steps) {
            let mut session = Session {
                heartbeat: Heartbeat::Suspect(NOW, Ping::Left),
                upgrade: UpgradeTiming::Suspect,
                ..session(state)
            };
            assert_eq!(session.expire(NOW + 5, &TIMES), Step::Nothing, "{state:?}: one look is enough");
            assert_eq!(session.receive(input, NOW, &TIMES), step, "{state:?} {input:?}");
            let is_pardoned = matches!(input, Input::Packet(_)) && !session.is_ending();
            assert_eq!(session.deadline(NOW) == NOW + 300, is_pardoned, "{state:?} {input:?}");
            if is_pardoned {
                assert_eq!(session.receive(Input::Silent, NOW, &TIMES), Step::Nothing, "{state:?}");
            }
        }
    }
}

#[test]
fn a_client_that_polls_has_its_time_from_when_the_ping_left() {
    // Its GET was there: the time runs from the answer, once.
    let pinged = |at: u64| {
        let mut session = Session::open(Transport::Polling, NOW, &TIMES, 0);
        assert_eq!(session.expire(NOW + 300, &TIMES), Step::SendPing);
        let step = session.expire(NOW + at, &TIMES);
        assert_eq!(session.receive(Input::Poll, NOW + at, &TIMES), Step::Accept);
        session.receive(Input::PollAnswered, NOW + at, &TIMES);
        assert_eq!(session.receive(Input::Poll, NOW + at + 1, &TIMES), Step::Accept);
        session.receive(Input::PollAnswered, NOW + at + 2, &TIMES);
        (step, session.deadline(NOW))
    };
    assert_eq!(pinged(300), (Step::Nothing, NOW + 500));
    assert_eq!(pinged(499), (Step::Nothing, NOW + 699));
    // Its GET was read when it was looked for.
    assert_eq!(pinged(501), (Step::Suspect, NOW + 701));
    // And that is enough, although the answer leaves only at the end of the turn.
    let mut session = Session::open(Transport::Polling, NOW, &TIMES, 0);
    session.expire(NOW + 300, &TIMES);
    assert_eq!(session.expire(NOW + 500, &TIMES), Step::Suspect);
    session.receive(Input::Poll, NOW + 501, &TIMES);
    assert_eq!(session.receive(Input::Silent, NOW + 501, &TIMES), Step::Nothing);
}

#[test]
fn time_in_which_the_owner_was_late_does_not_count_against_the_peer() {
    let late = |at, late_ms| Moment { at: NOW + at, late_ms };
    let mut session = Session::open(Transport::Polling, NOW, &TIMES, 0);
    session.receive(Input::Probe, NOW, &TIMES);
    assert_eq!(session.expire(NOW + 300, &TIMES), Step::SendPing);
    // Both times are moved by what the owner was late, and a ping is not.
    assert_eq!(session.deadline(late(3_300, 3_000)), NOW + 3_500);
    assert_eq!(session.expire(late(3_499, 3_000), &TIMES), Step::Nothing);
    assert_eq!(session.expire(late(3_500, 3_000), &TIMES), Step::Suspect);
    assert_eq!(session.deadline(late(3_500, 3_000)), NOW + 4_000);
    session.receive(Input::Packet(PacketType::Pong), late(3_501, 3_000), &TIMES);
    assert_eq!(session.deadline(late(3_501, 3_000)), NOW + 3_801);
    assert_eq!(session.expire(late(3_801, 3_000), &TIMES), Step::SendPing);
    assert_eq!(session.deadline(late(3_801, 3_000)), NOW + 4_000);
    // Its next owner was never late, or later.
    for late_ms in [0, 4_000] {
        let mut moved = session.clone();
        moved.change_owner(late(3_801, 3_000), late(3_801, late_ms));
        assert_eq!(moved.deadline(late(3_801, late_ms)), NOW + 4_000, "{late_ms}");
    }
}

#[test]
fn lateness_that_the_owner_learns_of_while_it_looks_counts_as_well() {
    let late = |at, late_ms| Moment { at: NOW + at, late_ms };
    let mut session = Session::open(Transport::Polling, NOW, &TIMES, 0);
    session.receive(Input::Probe, NOW, &TIMES);
    session.expire(NOW + 300, &TIMES);
    assert_eq!(session.expire(NOW + 500, &TIMES), Step::Suspect);
    assert_eq!(session.expire(NOW + 1_000, &TIMES), Step::SuspectProbe);
    assert_eq!(session.deadline(NOW + 1_000), Millis::NEVER);
    assert_eq!(session.receive(Input::Silent, late(3_000, 2_600), &TIMES), Step::Pardoned);
    assert_eq!(session.receive(Input::ProbeSilent, late(3_000, 2_600), &TIMES), Step::Pardoned);
    // What is left of its time is all that it has, and what it learns later needs another look.
    assert_eq!(session.deadline(late(3_000, 2_600)), NOW + 3_100);
    assert_eq!(session.expire(late(3_099, 2_600), &TIMES), Step::Nothing);
    assert_eq!(session.expire(late(3_100, 2_600), &TIMES), Step::Suspect);
    assert_eq!(session.expire(late(3_600, 2_600), &TIMES), Step::SuspectProbe);
    assert_eq!(session.receive(Input::ProbeSilent, late(3_601, 2_600), &TIMES), Step::DropProbe);
    assert_eq!(session.receive(Input::Silent, late(3_601, 2_600), &TIMES), Step::End(SessionEnd::PingTimeout));
}

#[test]
fn an_upgrade_releases_polls_and_takes_over() {
    let mut session = session(State::Polling);
    assert_eq!(session.receive(Input::Poll, NOW, &TIMES), Step::Accept);
    assert_eq!(session.receive(Input::Probe, NOW, &TIMES), Step::Accept);
    let probe = Input::ProbePacket(ProbePacket::Probe);
    assert_eq!(session.receive(probe, NOW, &TIMES), Step::AnswerProbe);
    session.receive(Input::PollAnswered, NOW, &TIMES);
    assert_eq!(session.receive(Input::Poll, NOW + 5, &TIMES), Step::Accept);
    assert_eq!(session.expire(NOW + 5 + POLL_RELEASE_MS, &TIMES), Step::ReleasePoll);
    session.receive(Input::PollAnswered, NOW + 60, &TIMES);
    let upgrade = Input::ProbePacket(ProbePacket::Upgrade);
    assert_eq!(session.receive(upgrade, NOW + 70, &TIMES), Step::Upgraded);
    assert_eq!(session.transport(), Transport::WebSocket);
    assert_eq!(session.receive(Input::Poll, NOW + 71, &TIMES), Step::Refuse);
}

#[test]
fn a_probe_that_never_upgrades_is_dropped_and_may_be_tried_again() {
    let mut session = session(State::Polling);
    session.receive(Input::Probe, NOW, &TIMES);
    session.receive(Input::ProbePacket(ProbePacket::Probe), NOW, &TIMES);
    session.heartbeat = Heartbeat::PingAt(NOW + 100_000);
    assert_eq!(session.deadline(NOW), NOW + 1_000);
    assert_eq!(session.expire(NOW + 1_000, &TIMES), Step::SuspectProbe);
    assert!(session.is_probing());
    assert_eq!(session.receive(Input::ProbeSilent, NOW + 1_000, &TIMES), Step::DropProbe);
    assert!(!session.is_probing());
    assert_eq!(session.receive(Input::Probe, NOW + 1_001, &TIMES), Step::Accept);
}

#[test]
fn a_session_is_small() {
    assert!(size_of::<Session>() <= 56, "{}", size_of::<Session>());
}
