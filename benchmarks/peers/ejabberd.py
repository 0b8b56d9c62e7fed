"""ejabberd: group chat (XEP-0045). Nothing is stored or acknowledged; the sender is an occupant and gets a copy too."""

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
from benchmarks.systems import MissingError

CONFIG: Final = """\
hosts: [localhost]
loglevel: 3
listen:
  - {{port: {port}, ip: "127.0.0.1", module: ejabberd_c2s, shaper: none, access: all, max_stanza_size: 1048576}}
auth_method: anonymous
anonymous_protocol: sasl_anon
allow_multiple_connections: true
modules:
  mod_muc:
    host: rooms.localhost
    access_create: all
    history_size: 0
    min_message_interval: 0
    min_presence_interval: 0
    max_users: 5000
    default_room_options: {{max_users: 5000}}
"""
STREAM: Final = b"<stream:stream to='localhost' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
AUTH: Final = b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='ANONYMOUS'/>"
BIND: Final = b"<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>"
JOIN: Final = b"<presence to='%s/%s'><x xmlns='http://jabber.org/protocol/muc'/></presence>"


def connect(port: int) -> Stream:
    """Connect without an account."""
    stream = Stream(port)
    stream.send(STREAM)
    stream.until(b"</stream:features>")
    stream.send(AUTH)
    stream.until(b"<success")
    stream.send(STREAM)
    stream.until(b"</stream:features>")
    stream.send(BIND)
    stream.until(b"</iq>")
    return stream


def join(stream: Stream, room: str, nick: str) -> None:
    """Enter a room; one has entered when its subject has come."""
    stream.send(JOIN % (room.encode(), nick.encode()))
    stream.until(b"<subject")
    stream.until(b"</message>")


@dataclass(slots=True)
class Ejabberd:
    """A server.

    Attributes:
        port: of its clients.
        pids: its process.
        level: what is stored.
        jobs: so many, each in rooms of its own: a room that all have left is on its way out for a while, and whoever
            enters it then waits for an answer without end.
    """

    port: int
    pids: list[int]
    level: str = "nothing stored"
    jobs: int = 0

    @contextmanager
    def job(self, point: Point) -> Iterator[Job]:
        """Let every receiver enter its room, and the sender all rooms."""
        names, listened = topics(point)
        self.jobs += 1
        rooms = {name: f"{name}.{self.jobs}@rooms.localhost" for name in names}
        with Crowd() as crowd:
            sender = crowd.add(connect(self.port))
            for room in rooms.values():
                join(sender, room, "sender")
            receivers = []
            for number, name in enumerate(listened):
                receiver = crowd.add(connect(self.port))
                join(receiver, rooms[name], f"r{number}")
                receivers.append((receiver.fileno(), b""))
            yield Job(
                peer="xmpp",
                senders=[sender.fileno()],
                receivers=receivers,
                targets=[room.encode() for room in rooms.values()],
                recipients=point.recipients,
                pids=self.pids,
                size=point.size,
                inflight=point.inflight,
            )

    @contextmanager
    def idle(self, count: int) -> Iterator[None]:
        """Connect more."""
        with Crowd() as crowd:
            for _ in range(count):
                crowd.add(connect(self.port))
            yield


@contextmanager
def ejabberd(folder: Path) -> Iterator[Ejabberd]:
    """Run a server on one scheduler: it has one core."""
    place = debian("ejabberd", folder.parent / "programs")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    port = free_port()
    config = folder / "ejabberd.yml"
    config.write_text(CONFIG.format(port=port))
    root = place / "usr/lib/erlang"
    binaries = next(root.glob("erts-*/bin"), None)
    code = next(place.glob("usr/lib/*/ejabberd-*/ebin"), None)
    if binaries is None or code is None:
        raise MissingError("ejabberd: its packages are not as expected")
    environment = {
        **libraries(place),
        "ROOTDIR": str(root),
        "BINDIR": str(binaries),
        "EMU": "beam",
        "PROGNAME": "erl",
        "HOME": str(folder.absolute()),
        "EJABBERD_CONFIG_PATH": str(config.absolute()),
        "EJABBERD_LOG_PATH": str(folder.absolute() / "ejabberd.log"),
    }
    database = f'"{folder.absolute() / "mnesia"}"'
    command: list[str | Path] = [
        binaries / "erlexec",
        "-noinput",
        "+S",
        "1:1",
        "+P",
        "250000",
        "-pa",
        code,
        "-mnesia",
        "dir",
        database,
    ]
    with server([*command, "-s", "ejabberd"], port, folder, environment) as pid:
        yield Ejabberd(port, [pid])
    shutil.rmtree(folder, ignore_errors=True)
