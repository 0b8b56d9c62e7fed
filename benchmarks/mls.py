"""MLS against other implementations: ``make bench-mls``.

One round is: a founder adds everybody else by one Commit, the last of them joins, commits an update, removes
a member (nobody in small groups), the founder follows, and 1 KiB goes from the one to the other. All contestants do the
same rounds, interleaved in random order; the tables show the median of five. Every time is taken in the contestant's
process. rine-mls writes its state to files with every call, so it stands beside ours with state writes, too.

Writes benchmarks/results/mls.json, mls.md and mls.svg.
"""

import argparse
import gc
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import nacl.bindings

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
RESULTS: Final = ROOT / "benchmarks" / "results"

BYTES: Final = 1024
MESSAGES: Final = 50
ROWS: Final = ("add all", "join", "update", "remove", "process", "protect", "unprotect")
SHOWN: Final = {
    "add all": "one Commit adds all",
    "join": "join by that Welcome",
    "update": "Commit without proposals",
    "remove": "Commit that removes one",
    "process": "follow that Commit",
    "protect": "protect 1 KiB",
    "unprotect": "unprotect 1 KiB",
    "protect, written": "protect 1 KiB, state written",
    "unprotect, written": "unprotect 1 KiB, state written",
}
CLASSICAL: Final = "classical"
HYBRID: Final = "X-Wing"

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

    name = "restante"
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

    def round(self, suite: int, members: int) -> dict[str, Any]:
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
        messages = [*pool[: members - 2], key_package_message(bundle.key_package)]
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

    name = "rine-mls 0.1.1"

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
Key = tuple[str, int]
"""(kind of suite, members)."""


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


def verify_us() -> float:
    """What PyNaCl's Ed25519 verify takes here, in microseconds: limits scale by it."""
    public, secret = nacl.bindings.crypto_sign_seed_keypair(os.urandom(32))
    signed = nacl.bindings.crypto_sign(bytes(BYTES), secret)
    taken = []
    for _ in range(300):
        start = time.perf_counter()
        nacl.bindings.crypto_sign_open(signed, public)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1e6


def measure(sizes: list[int], rounds: int, seed: int) -> dict[str, Any]:
    order = random.Random(seed)
    running = contestants()
    times: dict[tuple[str, Key, str], list[float]] = {}
    lengths: dict[str, dict[str, int]] = {}
    verify = [verify_us()]
    for members in sizes:
        for kind in (CLASSICAL, HYBRID):
            for turn in range(rounds + 1):  # the first is to warm up
                order.shuffle(running)
                for contestant in running:
                    gc.collect()
                    result = contestant.round(contestant.suites[kind], members)
                    if turn == 0:
                        continue
                    for name, taken in result["times"].items():
                        times.setdefault((contestant.name, (kind, members), name), []).append(taken)
                    lengths[f"{contestant.name}, {kind}, {members}"] = result["sizes"]
            verify.append(verify_us())
            print(f"measured: {kind}, {members} members", flush=True)
    for contestant in running:
        if isinstance(contestant, Rine):
            contestant.close()
    return {
        "python": platform.python_version(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "verify_us": round(statistics.median(verify), 1),
        "rounds": rounds,
        "seed": seed,
        "median_ms": [
            {"by": name, "suite": kind, "members": members, "operation": operation, "ms": statistics.median(taken)}
            for (name, (kind, members), operation), taken in times.items()
        ],
        "bytes": lengths,
    }


def table(result: dict[str, Any]) -> str:
    """Return the Markdown."""
    medians = {(row["suite"], row["members"], row["operation"], row["by"]): row["ms"] for row in result["median_ms"]}
    names = [name for name in NAMES if any(key[3] == name for key in medians)]
    lines = ["# MLS: this project and others", "", NOTES.format(**result), ""]
    for kind in (CLASSICAL, HYBRID):
        for members in sorted({key[1] for key in medians}):
            lines += [
                f"## {kind}, {members} members",
                "",
                "| | " + " | ".join(names) + " |",
                "|---" * (len(names) + 1) + "|",
            ]
            for operation, shown in SHOWN.items():
                values = [medians.get((kind, members, operation, name)) for name in names]
                if any(value is not None for value in values):
                    cells = ["-" if value is None else f"{value:.3g}" for value in values]
                    lines.append(f"| {shown} | " + " | ".join(cells) + " |")
            lines.append("")
    lines += [
        "## Bytes",
        "",
        "| by | suite | members | Commit that adds all | its Welcome | Commit that removes |",
        "|---|---|---|---|---|---|",
    ]
    for label, sizes in sorted(result["bytes"].items()):
        by, kind, count = label.split(", ")
        lines.append(
            f"| {by} | {kind} | {count} | {sizes['commit']} | {sizes['welcome']} | {sizes.get('remove', '-')} |"
        )
    return "\n".join([*lines, ""])


NOTES: Final = """\
`make bench-mls`: median of {rounds} interleaved rounds, in milliseconds. Python {python}, {machine}; an Ed25519
verification by PyNaCl takes {verify_us} µs here. Classical is suite 3 (rine-mls: 1); X-Wing is 0xF101 (ts-mls: 84 and
0xF00E, rine-mls: 0xF057). ts-mls adds without a path; its version 2 removes two, because it wrongly makes no path for
one. rine-mls is mls-rs in Rust, and writes its state to files with every call. With 2 members nobody is removed: what
is followed there is the Commit without proposals."""
NAMES: Final = ("restante", "rine-mls 0.1.1", "ts-mls 1.6.4", "ts-mls 2.0.0-rc.10")


def plot(result: dict[str, Any], place: Path) -> None:
    """Draw every operation over the number of members; both axes are logarithmic."""
    import matplotlib as mpl  # noqa: PLC0415 -- of the group bench

    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 -- the same

    mpl.rcParams["svg.hashsalt"] = "restante"
    figure, axes = plt.subplots(2, len(ROWS), figsize=(3 * len(ROWS), 6), sharex=True)
    for line, kind in enumerate((CLASSICAL, HYBRID)):
        for column, operation in enumerate(ROWS):
            axis = axes[line][column]
            for name in NAMES:
                rows = [
                    row
                    for row in result["median_ms"]
                    if (row["by"], row["suite"], row["operation"]) == (name, kind, operation)
                ]
                rows.sort(key=lambda row: row["members"])
                axis.loglog([row["members"] for row in rows], [row["ms"] for row in rows], marker="o", label=name)
            axis.set_title(f"{SHOWN[operation]}\n{kind}", fontsize=9)
            axis.grid(visible=True, alpha=0.3)
        axes[line][0].set_ylabel("ms")
    axes[1][0].legend(fontsize=7)
    figure.supxlabel("members")
    figure.tight_layout()
    figure.savefig(place, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, nargs="+", default=[2, 10, 100, 1000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    result = measure(arguments.members, arguments.rounds, arguments.seed)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "mls.json").write_text(json.dumps(result, indent=1) + "\n")
    (RESULTS / "mls.md").write_text(table(result))
    plot(result, RESULTS / "mls.svg")
    print(table(result))


if __name__ == "__main__":
    main()
