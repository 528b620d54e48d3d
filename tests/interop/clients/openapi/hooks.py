"""What JSON Schema cannot say of the bodies that Schemathesis makes up by it."""

import itertools

import schemathesis

numbers = itertools.count()


def written_as_it_is_taken(value):
    """To a schema 7.0 is an integer; the server takes whole numbers without a fraction or an exponent."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [written_as_it_is_taken(item) for item in value]
    if isinstance(value, dict):
        return {name: written_as_it_is_taken(item) for name, item in value.items()}
    return value


def once(body):
    """A key that was used for another event is refused: each emit gets a key of its own."""
    key = body.get("idempotencyKey") if isinstance(body, dict) else None
    if isinstance(key, str) and 0 < len(key) <= 240:
        return {**body, "idempotencyKey": f"{key}{next(numbers)}"}
    return body


@schemathesis.hook
def map_body(context, body):
    return once(written_as_it_is_taken(body))
