"""MLS against other implementations: ``make bench-mls``.

One round is: a founder adds everybody else by one Commit, the last of them joins, commits an update, removes
a member (nobody in small groups), the founder follows, and 1 KiB goes from the one to the other. All contestants do the
same rounds, interleaved in random order. What was measured is kept in a state file until all of it is: a run that was
stopped goes on where it was. Writes mls.json, mls.md and mls.svg into benchmarks/results/.
"""

import argparse
import gc
import json
import os
import platform
import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Final

import nacl.bindings
from benchmarks.mls_contestants import BYTES, CLASSICAL, HYBRID, OURS, Contestant, Rine, contestants
from benchmarks.progress import Progress

from benchmarks import mls_goals, mls_memory, mls_report

RESULTS: Final = Path(__file__).resolve().parent / "results"
STATE: Final = Path(".bench") / "mls.json"
MEMBERS: Final = (2, 10, 100, 1000)
EIGHTH: Final = mls_goals.FROM_TO[0]  # members with whom this project alone is measured
ROUNDS: Final = 5
WARM_UP: Final = 10  # members of the rounds that do not count
MEMORY: Final = {CLASSICAL: 3, HYBRID: 0xF101}


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


def label(kind: str, members: int, turn: int) -> str:
    """Return the name of a turn in the state file."""
    return f"{kind}, {members}, {turn}"


def measure(members: list[int], rounds: int, seed: int, state: dict[str, Any], place: Path) -> None:
    """Do what the state lacks, and write it to ``place`` after each turn."""
    turns = [(kind, size, turn) for size in members for kind in (CLASSICAL, HYBRID) for turn in range(rounds)]
    left = [each for each in turns if label(*each) not in state["turns"]]
    if not left:
        return
    running = contestants()
    progress = Progress(len(turns), len(turns) - len(left), time.monotonic())
    for kind in (CLASSICAL, HYBRID):
        for contestant in running:
            contestant.round(contestant.suites[kind], WARM_UP)
    for kind, size, turn in left:
        progress.show(label(kind, size, turn), time.monotonic())
        able = [each for each in running if size != EIGHTH or each.name == OURS]
        order: list[Contestant] = random.Random(f"{seed} {kind} {size} {turn}").sample(able, len(able))
        done = {}
        for contestant in order:
            gc.collect()
            done[contestant.name] = contestant.round(contestant.suites[kind], size)
        state["turns"][label(kind, size, turn)] = {"by": done, "verify_us": verify_us()}
        place.write_text(json.dumps(state))
        progress.step()
    progress.end()
    for contestant in running:
        if isinstance(contestant, Rine):
            contestant.close()


def result(members: list[int], rounds: int, seed: int, state: dict[str, Any]) -> dict[str, Any]:
    """Return what the report is made of."""
    times: dict[tuple[str, int, str, str], list[float]] = {}
    lengths: dict[tuple[str, str, int], dict[str, int]] = {}
    verify = []
    for size in members:
        for kind in (CLASSICAL, HYBRID):
            for turn in range(rounds):
                each = state["turns"][label(kind, size, turn)]
                verify.append(each["verify_us"])
                for by, done in each["by"].items():
                    lengths[by, kind, size] = done["sizes"]
                    for operation, taken in done["times"].items():
                        times.setdefault((kind, size, operation, by), []).append(taken)
    return {
        "python": platform.python_version(),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "verify_us": round(statistics.median(verify), 1),
        "rounds": rounds,
        "seed": seed,
        "rows": [
            {"by": by, "suite": kind, "members": size, "operation": operation, "ms": taken}
            for (kind, size, operation, by), taken in times.items()
        ],
        "bytes": [[*key, sizes] for key, sizes in lengths.items()],
        "memory": [
            [kind, max(members), tree, size]
            for kind, suite in MEMORY.items()
            for tree, size in mls_memory.measure(suite, max(members)).items()
        ],
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, nargs="+", default=sorted((*MEMBERS, EIGHTH)))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--again", action="store_true", help="forget what was measured before")
    parser.add_argument("--state", type=Path, default=STATE)
    parser.add_argument("--results", type=Path, default=RESULTS)
    chosen = parser.parse_args(arguments)
    chosen.state.parent.mkdir(parents=True, exist_ok=True)
    if chosen.again:
        chosen.state.unlink(missing_ok=True)
    state = json.loads(chosen.state.read_text()) if chosen.state.exists() else {"turns": {}}
    measure(chosen.members, chosen.rounds, chosen.seed, state, chosen.state)
    run = result(chosen.members, chosen.rounds, chosen.seed, state)
    text = mls_report.markdown(run)
    chosen.results.mkdir(parents=True, exist_ok=True)
    (chosen.results / "mls.json").write_text(json.dumps(run, indent=1) + "\n")
    (chosen.results / "mls.md").write_text(text)
    try:
        mls_report.plot(run, chosen.results / "mls.svg")
    except ImportError:
        print("no plot: matplotlib is not installed (group bench)", file=sys.stderr)
    chosen.state.unlink()
    print(text)


if __name__ == "__main__":
    main()
