"""python-socketio in a storm, driven by lib/storm.mjs: prints one JSON line for each thing that happens, and comes back by itself.

usage: client.py URL NAMESPACE TRANSPORTS TOKEN

The client of asyncio: the one with threads starts a thread for each event, and those overtake each other.
"""
import asyncio
import json
import logging
import sys

import aiohttp
import socketio

url, namespace, transports, token = sys.argv[1], sys.argv[2], sys.argv[3].split(","), sys.argv[4]


def say(name, *args):
    print(json.dumps([name, *args]), flush=True)


async def connected_once():
    """Until the client gives up by an error of its own, as it does where the answer to a poll is cut."""
    client = socketio.AsyncClient(reconnection_delay=0.01, reconnection_delay_max=0.06)

    async def connected():
        say("connect", client.get_sid(namespace))

    async def disconnected(*_):
        say("disconnect")

    async def numbered(event, *_):
        say("numbered", event["n"])

    async def anything(name, *_):
        say("event", name)

    client.on("connect", connected, namespace=namespace)
    client.on("disconnect", disconnected, namespace=namespace)
    client.on("numbered", numbered, namespace=namespace)
    client.on("*", anything, namespace=namespace)
    try:
        await client.connect(url, auth={"token": token}, namespaces=[namespace], transports=transports, wait_timeout=2, retry=True)
        await client.wait()
    except (aiohttp.ClientError, asyncio.TimeoutError, socketio.exceptions.SocketIOError):
        pass
    if client.connected:
        say("disconnect")


# That its connections were not closed, where it gives up.
logging.disable(logging.CRITICAL)
while True:
    # With a loop of its own: nothing of the client that gave up goes on.
    asyncio.run(connected_once())
