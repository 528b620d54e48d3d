"""python-socketio driven by clients/python.test.mjs: prints one JSON line for each thing that happens.

usage: client.py URL TRANSPORTS AUTH_JSON [HEADERS_JSON]
"""
import json
import sys
import threading

import socketio

url, transports, auth = sys.argv[1], sys.argv[2].split(","), json.loads(sys.argv[3])
headers = json.loads(sys.argv[4]) if len(sys.argv) > 4 else {}
lock = threading.Lock()
finished = threading.Event()


def say(name, *args):
    with lock:
        print(json.dumps([name, *args], default=lambda value: {"bytes": value.hex()}), flush=True)


client = socketio.Client(reconnection=False)


@client.event
def connect():
    say("connect", client.get_sid(), client.transport())


@client.event
def connect_error(data):
    say("connect_error", data)


@client.event
def disconnect(*_):
    say("disconnect")
    finished.set()


@client.on("*")
def anything(name, *args):
    say("event", name, *args)
    if name == "please:emit":
        client.emit("joinRoom", {"roomId": "secret"})
        client.emit("blob", {"data": b"\x01\x02\x03"})
        say("emitted")
    if name == "please:end":
        client.disconnect()
        finished.set()


try:
    client.connect(url, auth=auth, headers=headers, transports=transports, wait_timeout=5)
except socketio.exceptions.ConnectionError as error:
    say("refused", str(error))
    sys.exit(0)

if not finished.wait(20):
    say("late")
    sys.exit(1)
say("end")
