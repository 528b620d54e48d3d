// What tells a client how far it has got: an event that is only a name, or with the streams adapter the id of an entry. Nobody's
// event, so tests pass over it.

/** Whether an event is called so. */
export const isMarker = (name) => /^(~[\w-]{7,}|\d+-\d+)$/.test(name);

/** Whether a Socket.IO packet is one. */
export const isMarkerPacket = (packet) => typeof packet === 'string' && /^42(\/[^,]+,)?\["(~[\w-]{7,}|\d+-\d+)"\]$/.test(packet);
