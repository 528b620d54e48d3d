# Runs the ported Autobahn|Testsuite fuzzing client (`wstest -m fuzzingclient`): fuzz.py SPEC.json
import binascii
import json
import pathlib
import sys
import warnings

warnings.simplefilter("ignore")


def octets(data):
    return data.encode("latin-1") if isinstance(data, str) else data


# Before the case modules are imported: their class bodies use it on str.
binascii.b2a_hex = lambda data: octets(data).hex()

from autobahntestsuite import fuzzing
from twisted.internet import reactor
from twisted.python import log


def ascii_log(data, maxlen=64, replace=False):
    shown, more = octets(data)[:maxlen], " ..." if len(data) > maxlen else ""
    try:
        return shown.decode() + more
    except UnicodeDecodeError:
        return "0x" + shown.hex() + more


fuzzing.asciiLogData = ascii_log
fuzzing.binLogData = lambda data, maxlen=64: octets(data)[:maxlen].hex() + (" ..." if len(data) > maxlen else "")


class Protocol(fuzzing.FuzzingClientProtocol):
    """The suite's cases speak str (one character an octet), the WebSocket library speaks bytes.

    Added to the suite: group 9 compares the echo's octets as well; by itself it looks only at the length.
    """

    sent = None
    altered = False

    def sendFrame(self, opcode, payload=b"", *args, payload_len=None, **kwargs):
        payload = octets(payload)
        if payload_len is not None:  # the library's own repetition needs Python 2's integer division
            payload = (payload * (payload_len // len(payload) + 1))[:payload_len]
        if opcode in (1, 2):
            self.sent = payload
        super().sendFrame(opcode, payload, *args, **kwargs)

    def sendMessage(self, payload, *args, **kwargs):
        super().sendMessage(octets(payload), *args, **kwargs)
        self.sent = octets(payload)  # after its frames

    def sendMessageFrameData(self, payload, *args, **kwargs):
        return super().sendMessageFrameData(octets(payload), *args, **kwargs)

    def sendCloseFrame(self, code=None, reasonUtf8=None, isReply=False):
        super().sendCloseFrame(code, octets(reasonUtf8), isReply)

    def onMessage(self, payload, isBinary):
        if type(self.runCase).__name__.startswith("Case9_") and payload != self.sent:
            self.altered = True
        super().onMessage(payload.decode("latin-1"), isBinary)

    def onPong(self, payload):
        super().onPong(payload.decode("latin-1"))

    def connectionLost(self, reason):
        if self.altered:
            self.runCase.behavior = self.runCase.FAILED
        super().connectionLost(reason)


class Factory(fuzzing.FuzzingClientFactory):
    def createReports(self):
        super().createReports(produceHtml=False)


errors = []


def observe(event):
    """An exception inside the client would otherwise only be logged, and could hide a wrong result."""
    if event.get("isError"):
        errors.append(event)
        print(log.textFromEventDict(event), file=sys.stderr)


def give_up():
    print(f"autobahn: stopped after {spec['timeout']:.0f} seconds", file=sys.stderr)
    errors.append("timeout")
    factory.createReports()
    reactor.stop()


log.addObserver(observe)
fuzzing.FuzzingClientProtocol = Protocol
spec = json.loads(pathlib.Path(sys.argv[1]).read_text())
factory = Factory(spec)
pathlib.Path(spec["outdir"], "cases.json").write_text(json.dumps(factory.specCases))
if factory.specCases:
    reactor.callLater(spec["timeout"], give_up)
    reactor.run()
sys.exit(1 if errors else 0)
