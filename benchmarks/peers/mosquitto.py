"""Mosquitto: MQTT 3.1.1 with QoS 1 and persistent sessions, whose file it writes now and then and never syncs."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.load import Job
from benchmarks.peers.groups import topics
from benchmarks.peers.programs import debian, libraries
from benchmarks.peers.streams import Crowd, Stream
from benchmarks.points import Point
from benchmarks.processes import free_port, server

CONFIG: Final = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence true
persistence_location {folder}/
max_inflight_messages 0
max_queued_messages 0
user {user}
"""
QOS: Final = 1
ACCEPTED: Final = b"\x20\x02\x00\x00"


def _text(value: str) -> bytes:
    return len(value).to_bytes(2, "big") + value.encode()


def connect(port: int, name: str, *, clean: bool) -> Stream:
    """Connect under a client's name, with a session that stays unless it is clean."""
    body = _text("MQTT") + bytes((4, 2 if clean else 0, 0, 0)) + _text(name)
    stream = Stream(port)
    stream.send(bytes((0x10, len(body))) + body)
    if stream.exactly(4)[::3] != ACCEPTED[::3]:
        raise ConnectionError("refused")
    return stream


def subscribe(stream: Stream, topic: str) -> None:
    """Listen to a topic."""
    body = b"\0\1" + _text(topic) + bytes((QOS,))
    stream.send(bytes((0x82, len(body))) + body)
    if stream.exactly(5)[-1] != QOS:
        raise ConnectionError("no subscription")


@dataclass(slots=True)
class Mosquitto:
    """A broker."""

    port: int
    pids: list[int]
    level: str = "snapshots"
    _jobs: int = 0

    @contextmanager
    def job(self, point: Point) -> Iterator[Job]:
        """Connect a client with a session for every receiver, and one that publishes."""
        names, listened = topics(point)
        self._jobs += 1
        with Crowd() as crowd:
            receivers = []
            for number, name in enumerate(listened):
                receiver = crowd.add(connect(self.port, f"r{number}", clean=False))
                subscribe(receiver, f"{self._jobs}.{name}")
                receivers.append((receiver.fileno(), b""))
            sender = crowd.add(connect(self.port, "sender", clean=True))
            yield Job(
                peer="mqtt",
                senders=[sender.fileno()],
                receivers=receivers,
                targets=[f"{self._jobs}.{name}".encode() for name in names],
                recipients=point.recipients,
                pids=self.pids,
                size=point.size,
                inflight=point.inflight,
            )
        # Sessions that stay would collect the next job's messages: a clean connection ends each.
        for number in range(len(listened)):
            connect(self.port, f"r{number}", clean=True).__exit__()

    @contextmanager
    def idle(self, count: int) -> Iterator[None]:
        """Subscribe more clients."""
        with Crowd() as crowd:
            for number in range(count):
                subscribe(crowd.add(connect(self.port, f"i{number}", clean=False)), f"idle.{number}")
            yield


@contextmanager
def mosquitto(folder: Path) -> Iterator[Mosquitto]:
    """Run a broker."""
    place = debian("mosquitto", folder.parent / "programs")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    port = free_port()
    config = folder / "mosquitto.conf"
    user = "root" if os.geteuid() == 0 else ""
    text = CONFIG.format(port=port, folder=folder.absolute(), user=user)
    config.write_text(text if user else text.replace("user \n", ""))
    with server([place / "usr/sbin/mosquitto", "-c", str(config)], port, folder, libraries(place)) as pid:
        yield Mosquitto(port, [pid])
    shutil.rmtree(folder, ignore_errors=True)
