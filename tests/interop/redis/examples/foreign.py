"""What python-socketio's own Redis manager publishes: another protocol, on another channel."""
import os
import sys

import socketio

socketio.RedisManager(os.environ["REDIS_URL"], write_only=True).emit("analysis:completed", {"interviewId": "42"}, room="user:" + sys.argv[1])
