"""Synapse: the claim of one-time keys, one process on SQLite, as it comes."""

import base64
import http.client
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.load import Job
from benchmarks.peers.programs import pypi
from benchmarks.peers.streams import Crowd, Stream
from benchmarks.points import Point
from benchmarks.processes import free_port, server

REQUIREMENT: Final = "matrix-synapse==1.163.2"
DEVICES: Final = 100
KEYS: Final = 60  # of each device, uploaded before every window: twice what is claimed in one
ALGORITHM: Final = "signed_curve25519"
HTTP_OK: Final = 200
CONFIG: Final = """\
server_name: localhost
pid_file: {folder}/pid
listeners:
  - {{port: {port}, bind_addresses: [127.0.0.1], type: http, tls: false, resources: [{{names: [client]}}]}}
database: {{name: sqlite3, args: {{database: {folder}/homeserver.db}}}}
log_config: {folder}/log.yaml
media_store_path: {folder}/media
signing_key_path: {folder}/signing.key
macaroon_secret_key: {secret}
report_stats: false
enable_registration: true
enable_registration_without_verification: true
bcrypt_rounds: 4
trusted_key_servers: []
rc_registration: {{per_second: 100000, burst_count: 100000}}
rc_login: {{address: {{per_second: 100000, burst_count: 100000}}, account: {{per_second: 100000, burst_count: 100000}}}}
"""
LOG: Final = "{version: 1, root: {level: ERROR}, disable_existing_loggers: true}\n"


@dataclass(frozen=True, slots=True)
class Device:
    """A user with one device."""

    user: str
    name: str
    token: str


@dataclass(slots=True)
class Synapse:
    """A homeserver."""

    port: int
    pids: list[int]
    level: str = "SQLite"
    _devices: list[Device] = field(default_factory=list)
    _uploads: int = 0

    @contextmanager
    def job(self, point: Point) -> Iterator[Job]:
        """Upload keys; connect as many as claim at once, each with one request at a time."""
        if point.kind != "claims":
            raise ValueError("only claims are measured")
        while len(self._devices) < DEVICES:
            self._devices.append(self._register(len(self._devices)))
        self._uploads += 1
        for device in self._devices:
            self._ask("/keys/upload", {"one_time_keys": self._keys(device, point.size)}, device.token)
        with Crowd() as crowd:
            yield Job(
                peer="http",
                senders=[crowd.add(Stream(self.port)).fileno() for _ in range(point.inflight)],
                targets=[self._claim(start, point.keys) for start in range(0, DEVICES, point.keys)],
                pids=self.pids,
                inflight=point.inflight,
                claims=point.keys,
            )

    @contextmanager
    def idle(self, count: int) -> Iterator[None]:
        """Connect more."""
        with Crowd() as crowd:
            for _ in range(count):
                crowd.add(Stream(self.port))
            yield

    def _ask(self, path: str, body: dict[str, Any], token: str = "") -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request("POST", f"/_matrix/client/v3{path}", json.dumps(body), headers)
        response = connection.getresponse()
        answer: dict[str, Any] = json.loads(response.read())
        connection.close()
        if response.status != HTTP_OK:
            raise RuntimeError(str(answer))
        return answer

    def _register(self, number: int) -> Device:
        name = f"D{number}"
        body = {
            "username": f"u{number}",
            "password": secrets.token_hex(8),
            "device_id": name,
            "auth": {"type": "m.login.dummy"},
        }
        answer = self._ask("/register", body)
        return Device(answer["user_id"], name, answer["access_token"])

    def _keys(self, device: Device, size: int) -> dict[str, Any]:
        """Return keys whose JSON has about this size."""
        key = base64.b64encode(os.urandom(32)).decode()
        fill = base64.b64encode(os.urandom(max(1, (size - 120) * 3 // 4))).decode()
        signatures = {device.user: {f"ed25519:{device.name}": fill}}
        names = [f"{ALGORITHM}:{self._uploads}k{number}" for number in range(KEYS)]
        return {name: {"key": key, "signatures": signatures} for name in names}

    def _claim(self, start: int, count: int) -> bytes:
        wanted = [self._devices[(start + number) % DEVICES] for number in range(count)]
        body = json.dumps({"one_time_keys": {each.user: {each.name: ALGORITHM} for each in wanted}}).encode()
        return (
            b"POST /_matrix/client/v3/keys/claim HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
            % (self._devices[0].token.encode(), len(body), body)
        )


@contextmanager
def synapse(folder: Path) -> Iterator[Synapse]:
    """Run a homeserver."""
    place = pypi(REQUIREMENT, folder.parent / "programs")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    port = free_port()
    config = folder / "homeserver.yaml"
    config.write_text(CONFIG.format(port=port, folder=folder.absolute(), secret=secrets.token_hex(16)))
    (folder / "log.yaml").write_text(LOG)
    command = [sys.executable, "-m", "synapse.app.homeserver", "--config-path", str(config.absolute())]
    environment = {**os.environ, "PYTHONPATH": str(place)}
    subprocess.run([*command, "--generate-keys"], env=environment, check=True, capture_output=True)  # noqa: S603 -- ours
    with server(command, port, folder, environment) as pid:
        yield Synapse(port, [pid])
    shutil.rmtree(folder, ignore_errors=True)
