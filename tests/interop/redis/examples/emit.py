"""Emits to a user through Redis: python3 emit.py USER. Needs: pip install redis msgpack"""
import datetime
import os
import sys

import msgpack
import redis

bus = redis.Redis.from_url(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"))


def emit(room, event, *args):
    packet = {"type": 2, "data": [event, *args], "nsp": "/"}
    message = ["emitter", packet, {"rooms": [room], "except": [], "flags": {}}]
    bus.publish(f"socket.io#/#{room}#", msgpack.packb(message, datetime=True))


emit("user:" + sys.argv[1], "analysis:completed", {
    "interviewId": "42",
    "thumbnail": b"\xff\xd8",
    "finishedAt": datetime.datetime.fromtimestamp(1700000000.125, datetime.timezone.utc),
})
