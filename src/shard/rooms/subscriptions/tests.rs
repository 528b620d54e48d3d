//! Every state of a room's subscription with everything that can happen to it.

use super::*;

const NOW: Millis = Millis(1_000);

fn room(name: &str) -> RoomName {
    RoomName { namespace: NamespaceId(0), name: name.into() }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It has no member.
    Gone,
    /// Asked for, one waits.
    UnderWay,
    /// The same, behind an earlier subscription that was not confirmed when it ended.
    UnderWayAgain,
    Confirmed,
    /// Asked for while the bus was down.
    Unawaited,
    Late,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Confirm,
    /// A confirmation of the subscription before.
    ConfirmEarlier,
    End,
    Up,
    Down,
    /// A millisecond before it is late, and then.
    Early,
    Late,
}

const STATES: [State; 6] =
    [State::Gone, State::UnderWay, State::UnderWayAgain, State::Confirmed, State::Unawaited, State::Late];
const INPUTS: [Input; 7] =
    [Input::Confirm, Input::ConfirmEarlier, Input::End, Input::Up, Input::Down, Input::Early, Input::Late];

/// A room in this state, and the epoch of its last subscription.
fn prepared(state: State) -> (PendingSubscriptions<&'static str>, u32) {
    let news = room("news");
    let mut subscriptions = PendingSubscriptions::new(1);
    if state != State::Unawaited {
        subscriptions.on_up();
    }
    if state == State::UnderWayAgain {
        subscriptions.begin(&news, NOW);
        subscriptions.waiting(news.namespace, &news.name).unwrap().push("of before");
        assert_eq!(subscriptions.end(&news), ["of before"]);
    }
    if state == State::Gone {
        return (subscriptions, 0);
    }
    let epoch = subscriptions.begin(&news, NOW);
    if let Some(waiting) = subscriptions.waiting(news.namespace, &news.name) {
        waiting.push("somebody");
    }
    match state {
        State::Confirmed => assert_eq!(subscriptions.confirm(&news, epoch), ["somebody"]),
        State::Late => assert_eq!(subscriptions.expire(NOW + CONFIRM_MS_MAX).len(), 1),
        _ => {}
    }
    (subscriptions, epoch)
}

/// Who goes on, and who would wait from then on.
fn feed(state: State, input: Input) -> (Vec<&'static str>, bool) {
    let news = room("news");
    let (mut subscriptions, epoch) = prepared(state);
    let of = |released: Vec<Released<_>>| released.into_iter().flat_map(|(_, waiting)| waiting).collect();
    let released = match input {
        Input::Confirm => subscriptions.confirm(&news, epoch),
        Input::ConfirmEarlier => subscriptions.confirm(&news, epoch.wrapping_sub(1)),
        Input::End => subscriptions.end(&news),
        Input::Up => {
            subscriptions.on_up();
            Vec::new()
        }
        Input::Down => of(subscriptions.on_down()),
        Input::Early => of(subscriptions.expire(NOW + (CONFIRM_MS_MAX - 1))),
        Input::Late => of(subscriptions.expire(NOW + CONFIRM_MS_MAX)),
    };
    let waits = subscriptions.waiting(news.namespace, &news.name).is_some();
    assert_eq!(waits, subscriptions.len() == 1, "{state:?}, {input:?}");
    assert_eq!(waits, subscriptions.deadline().is_some(), "{state:?}, {input:?}: a deadline without anybody");
    (released, waits)
}

#[test]
fn every_state_with_every_input() {
    for state in STATES {
        for input in INPUTS {
            let expected = match (state, input) {
                (State::UnderWay | State::UnderWayAgain, Input::ConfirmEarlier | Input::Up | Input::Early) => {
                    (vec![], true)
                }
                (State::UnderWay | State::UnderWayAgain, _) => (vec!["somebody"], false),
                (State::Gone | State::Confirmed | State::Unawaited | State::Late, _) => (vec![], false),
            };
            assert_eq!(feed(state, input), expected, "{state:?}, {input:?}");
        }
    }
}

#[test]
fn rooms_wait_each_for_themselves_and_in_any_order() {
    let (news, sport) = (room("news"), room("sport"));
    let mut subscriptions = PendingSubscriptions::new(1);
    subscriptions.on_up();
    let first = subscriptions.begin(&news, NOW);
    let second = subscriptions.begin(&sport, NOW + 5);
    subscriptions.waiting(news.namespace, &news.name).unwrap().extend([1, 2]);
    subscriptions.waiting(sport.namespace, &sport.name).unwrap().push(3);
    assert!(subscriptions.confirm(&news, second).is_empty());
    assert_eq!(subscriptions.confirm(&sport, second), [3]);
    assert_eq!((subscriptions.len(), subscriptions.deadline()), (1, Some(NOW + CONFIRM_MS_MAX)));
    assert_eq!(subscriptions.confirm(&news, first), [1, 2]);
    // A name of a namespace that there is not.
    let stranger = RoomName { namespace: NamespaceId(1), ..news };
    subscriptions.begin(&stranger, NOW);
    assert_eq!((subscriptions.len(), subscriptions.deadline()), (0, None));
}
