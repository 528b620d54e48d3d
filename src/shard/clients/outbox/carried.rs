//! A queue goes on in another one: its messages do, and what follows from them is counted anew.

use std::collections::VecDeque;

use sockring_protocol::portable::{Packer, Portable, Unpacker, Unreadable};

use super::{Queue, QueuedMessage};

impl Portable for Queue {
    const FORM: u64 = <(VecDeque<Option<QueuedMessage>>, u64)>::FORM;

    fn pack(&self, out: &mut Packer) {
        // What was replaced, what all take, and who waits under which key, follow.
        let Queue { messages, replaced: _, taken, keys: _, bytes: _ } = self;
        messages.pack(out);
        taken.pack(out);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Result<Queue, Unreadable> {
        let messages: VecDeque<Option<QueuedMessage>> = Portable::unpack(from)?;
        let mut queue = Queue { taken: Portable::unpack(from)?, ..Queue::default() };
        for message in messages {
            match &message {
                None => queue.replaced += 1,
                Some(message) => {
                    queue.bytes += message.bytes();
                    if let Some(key) = &message.key {
                        queue.keys.insert(key.clone(), queue.next_number());
                    }
                }
            }
            queue.messages.push_back(message);
        }
        // The first is none that was replaced, or it would be taken for the end.
        if matches!(queue.messages.front(), Some(Some(_))) { Ok(queue) } else { Err(Unreadable) }
    }
}
