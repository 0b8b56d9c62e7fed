"""Redis: publish and subscribe, where nothing is stored; and LPOP in pipelines, the ceiling of claims from a list."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.load import Job
from benchmarks.peers.groups import topics
from benchmarks.peers.streams import Crowd, Stream
from benchmarks.points import Point
from benchmarks.processes import settle, valkey

PUSHES: Final = 1000  # a pipeline
KEYS: Final = 900_000  # more than a window pops: 1.5 million a second


def command(*words: bytes) -> bytes:
    """Return a command as it is sent."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


@dataclass(slots=True)
class Redis:
    """A server."""

    port: int
    pids: list[int]
    level: str

    @contextmanager
    def job(self, point: Point) -> Iterator[Job]:
        """Subscribe a connection for every receiver, or fill a list."""
        with Crowd() as crowd:
            sender = crowd.add(Stream(self.port))
            if point.kind == "claims":
                yield self._claims(point, sender)
                return
            names, listened = topics(point)
            receivers = []
            for name in listened:
                receiver = crowd.add(Stream(self.port))
                self._subscribe(receiver, name)
                receivers.append((receiver.fileno(), b""))
            yield Job(
                peer="redis",
                senders=[sender.fileno()],
                receivers=receivers,
                targets=[name.encode() for name in names],
                recipients=point.recipients,
                pids=self.pids,
                size=point.size,
                inflight=point.inflight,
            )

    @contextmanager
    def idle(self, count: int) -> Iterator[None]:
        """Subscribe more connections."""
        with Crowd() as crowd:
            for number in range(count):
                self._subscribe(crowd.add(Stream(self.port)), f"idle.{number}")
            yield

    @staticmethod
    def _subscribe(stream: Stream, name: str) -> None:
        stream.send(command(b"SUBSCRIBE", name.encode()))
        stream.until(b":1\r\n")

    def _claims(self, point: Point, sender: Stream) -> Job:
        sender.send(command(b"DEL", b"keys"))
        sender.until(b"\r\n")
        one = command(b"RPUSH", b"keys", *(os.urandom(point.size) for _ in range(PUSHES)))
        for _ in range(KEYS // PUSHES):
            sender.send(one)
            sender.until(b"\r\n")
        settle(self.port)
        return Job(
            peer="redis",
            senders=[sender.fileno()],
            targets=[command(b"LPOP", b"keys")],
            pids=self.pids,
            inflight=point.inflight,
            claims=point.keys,
        )


@contextmanager
def redis_alone(folder: Path, *, fsync: str) -> Iterator[Redis]:
    """Run an empty server with an append-only file synced "everysec", or with "no" file."""
    shutil.rmtree(folder, ignore_errors=True)  # or it would read for seconds what the turn before has left
    with valkey(folder, fsync) as (port, pid):
        yield Redis(port, [pid], "process" if fsync == "everysec" else "nothing stored")
    shutil.rmtree(folder, ignore_errors=True)
