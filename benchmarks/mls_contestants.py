"""Who is measured by ``make bench-mls``: this project, ts-mls in a node process, and rine-mls.

Every time is taken in the contestant's process. rine-mls writes its state to files with every call, so it stands beside
ours with state writes, too.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

from restante.file import ClientFile
from restante_crypto import primitives
from restante_crypto.mls import (
    Add,
    Capabilities,
    CommitProcessed,
    Credential,
    Group,
    KeyPackageBundle,
    LeafNode,
    Lifetime,
    Remove,
    SignatureKeyPair,
    StagedCommit,
    create_key_package,
    key_package_message,
    parse_key_package_message,
)
from restante_crypto.mls import key_package as key_packages
from restante_crypto.suites import SUITES

ROOT: Final = Path(__file__).resolve().parents[1]
PEERS: Final = ROOT / ".peers"

BYTES: Final = 1024
MESSAGES: Final = 50
CLASSICAL: Final = "classical"
HYBRID: Final = "X-Wing"
OURS: Final = "restante"
RINE: Final = "rine-mls 0.1.1"
TS_MLS: Final = ("ts-mls 1.6.4", "ts-mls 2.0.0-rc.10")

Times = dict[str, float]
"""Operation -> milliseconds."""

Result = TypeVar("Result")


class Clock:
    """Collects what each named operation took."""

    def __init__(self) -> None:
        self.times: Times = {}

    def take(self, name: str, work: Callable[[], Result], per: int = 1) -> Result:
        start = time.perf_counter()
        result = work()
        self.times[name] = (time.perf_counter() - start) * 1000 / per
        return result


def nobody(_new: LeafNode, _old: LeafNode | None) -> None:
    """Take every credential."""


class Ours:
    """This project, with and without the client's file under it."""

    name = OURS
    suites: Final = {CLASSICAL: 3, HYBRID: 0xF101}

    def __init__(self) -> None:
        self._pools: dict[int, list[bytes]] = {}

    def _client(self, suite: int) -> tuple[SignatureKeyPair, KeyPackageBundle]:
        seed = os.urandom(32)
        signer = SignatureKeyPair(primitives.ed25519_public(seed), seed)
        bundle = create_key_package(
            suite,
            signer=signer,
            credential=Credential.basic(signer.public),
            capabilities=Capabilities(suites=tuple(SUITES)),
            lifetime=Lifetime(int(time.time()) - 3600, int(time.time()) + 90 * 86_400),
            random=os.urandom,
        )
        return signer, bundle

    def beginning(
        self, suite: int, members: int
    ) -> tuple[Group, list[bytes], tuple[KeyPackageBundle, SignatureKeyPair]]:
        """Return a founder's group, the KeyPackages of all others, and the last one's private halves."""
        pool = self._pools.setdefault(suite, [])
        while len(pool) < members - 2:
            pool.append(key_package_message(self._client(suite)[1].key_package))
        key_packages._signatures_fit.cache_clear()  # noqa: SLF001 -- every KeyPackage is new to the adder
        signer, bundle = self._client(suite)
        founder_signer, founder_bundle = self._client(suite)
        founder = Group.create(
            suite,
            b"group",
            signer=founder_signer,
            credential=founder_bundle.key_package.leaf_node.credential,
            capabilities=Capabilities(suites=tuple(SUITES)),
            random=os.urandom,
        )
        return founder, [*pool[: members - 2], key_package_message(bundle.key_package)], (bundle, signer)

    def round(self, suite: int, members: int) -> dict[str, Any]:
        founder, messages, (bundle, signer) = self.beginning(suite, members)
        clock = Clock()

        def add_all() -> StagedCommit:
            packages = [parse_key_package_message(message) for message in messages]
            return founder.commit([Add(package) for package in packages if package is not None], random=os.urandom)

        staged = clock.take("add all", add_all)
        founder = staged.group
        welcome = staged.welcome
        assert welcome is not None
        sizes = {"commit": len(staged.message), "welcome": len(welcome)}
        joined = clock.take("join", lambda: Group.join(welcome, bundle, signer=signer, authenticate=nobody))
        group = joined.group
        clock.take("update", lambda: group.commit(random=os.urandom))
        removes = [Remove(1)] if members > 3 else []
        second = clock.take("remove" if removes else "-", lambda: group.commit(removes, random=os.urandom))
        clock.times.pop("-", None)
        sizes["remove"] = len(second.message)
        followed = clock.take("process", lambda: founder.process(second.message, authenticate=nobody))
        assert isinstance(followed, CommitProcessed)
        assert followed.group is not None
        self._messages(clock, second.group, followed.group)
        with tempfile.TemporaryDirectory() as folder:
            places = [Path(folder) / name for name in ("sender", "receiver")]
            files = [ClientFile.open(place, b"p", tables=("messages",), random=os.urandom) for place in places]
            self._messages(clock, second.group, followed.group, *files)
            for file in files:
                file.close()
        return {"times": clock.times, "sizes": sizes}

    def _messages(self, clock: Clock, sender: Group, receiver: Group, *files: ClientFile) -> None:
        data = os.urandom(BYTES)
        sent = []

        def written(file: ClientFile, group: Group) -> None:
            with file.transaction():
                file.table("messages").put(b"group", group.message_state())

        def protect() -> None:
            nonlocal sender
            for _ in range(MESSAGES):
                protected = sender.protect(data, random=os.urandom)
                sender = protected.group
                if files:
                    written(files[0], sender)
                sent.append(protected.message)

        def unprotect() -> None:
            nonlocal receiver
            for message in sent:
                opened = receiver.process(message, authenticate=nobody)
                assert opened.group is not None
                receiver = opened.group
                if files:
                    written(files[1], receiver)

        suffix = ", written" if files else ""
        clock.take("protect" + suffix, protect, MESSAGES)
        clock.take("unprotect" + suffix, unprotect, MESSAGES)


class TsMls:
    """ts-mls, in a node process of its own."""

    def __init__(self, major: int, version: str, hybrid: int) -> None:
        self.name = f"ts-mls {version}"
        self.suites = {CLASSICAL: 3, HYBRID: hybrid}
        node = shutil.which("node")
        if node is None:
            raise FileNotFoundError("node")
        worker = ROOT / "benchmarks" / "mls_peers.mjs"
        self._process = subprocess.Popen(  # noqa: S603 -- our own worker
            [node, str(worker), str(PEERS), str(major)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def round(self, suite: int, members: int) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"suite": suite, "members": members, "messages": MESSAGES, "bytes": BYTES}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


class Rine:
    """rine-mls: mls-rs, which writes its state to files. It has no Commit without a change."""

    name = RINE

    def __init__(self) -> None:
        sys.path.append(str(PEERS / "python"))
        import rine_mls  # type: ignore[import-not-found]  # noqa: PLC0415 -- installed beside the project

        self._rine = rine_mls
        self.suites = {CLASSICAL: rine_mls.CIPHER_SUITE_CLASSICAL, HYBRID: rine_mls.CIPHER_SUITE_XWING}
        self._pools: dict[int, list[bytes]] = {}
        self._folder = tempfile.mkdtemp(prefix="restante-rine-")
        self._count = 0

    def _client(self, suite: int) -> Any:  # noqa: ANN401 -- it has no types
        self._count += 1
        return self._rine.MlsClient(f"{self._folder}/{self._count}", os.urandom(32), suite)

    def round(self, suite: int, members: int) -> dict[str, Any]:
        pool = self._pools.setdefault(suite, [])
        while len(pool) < members - 2:
            pool.append(self._client(suite).generate_key_package())
        founder, joiner = self._client(suite), self._client(suite)
        packages = [*pool[: members - 2], joiner.generate_key_package()]
        theirs = founder.create_group(b"group")
        clock = Clock()
        added = clock.take("add all", lambda: theirs.add_members(packages))
        group = clock.take("join", lambda: joiner.join_from_welcome(added.welcomes[-1]))
        sizes = {"commit": len(added.commit), "welcome": len(added.welcomes[-1])}
        if members > 3:
            bundle = clock.take("remove", lambda: group.remove_member(1))
            clock.take("process", lambda: theirs.apply_commit(bundle.commit))
            sizes["remove"] = len(bundle.commit)
        data = os.urandom(BYTES)
        sent = clock.take(
            "protect", lambda: [group.encrypt_application_message(data) for _ in range(MESSAGES)], MESSAGES
        )
        clock.take("unprotect", lambda: [theirs.decrypt_application_message(each) for each in sent], MESSAGES)
        return {"times": clock.times, "sizes": sizes}

    def close(self) -> None:
        shutil.rmtree(self._folder)


Contestant = Ours | TsMls | Rine


def contestants() -> list[Contestant]:
    found: list[Contestant] = [Ours()]
    if shutil.which("node") and (PEERS / "node_modules").is_dir():
        found += [TsMls(1, "1.6.4", 84), TsMls(2, "2.0.0-rc.10", 0xF00E)]
    else:
        print("ts-mls is not installed (make peers): not measured")
    if (PEERS / "python").is_dir():
        found.append(Rine())
    else:
        print("rine-mls is not installed (make peers): not measured")
    return found
