"""``make bench``, ``make bench-full`` and ``make bench-peers``: the relay alone, point by point, or beside others.

Finished points are kept in a state file; a run that was stopped goes on where it was. Writes bench.*, full.* or peers.*
into benchmarks/results/.
"""

import argparse
import os
import resource
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.peers.ejabberd import ejabberd
from benchmarks.peers.jetstream import jetstream
from benchmarks.peers.mosquitto import mosquitto
from benchmarks.peers.pubsub import redis_alone
from benchmarks.peers.synapse import synapse
from benchmarks.points import (
    COMPARED,
    EJABBERD,
    FULL,
    JETSTREAM,
    JETSTREAM_SYNC,
    LPOP,
    MOSQUITTO,
    PUBSUB,
    RELAYS,
    SHORT,
    SYNAPSE,
)
from benchmarks.relays import relay_system
from benchmarks.systems import System

from benchmarks import load, report, turns

WORK: Final = Path(".bench")
LISTS: Final = {"bench": SHORT, "full": FULL, "peers": COMPARED}
TITLES: Final = {
    "bench": "The relay alone",
    "full": "The relay alone, the whole matrix",
    "peers": "The relay beside others",
}
PEERS: Final[dict[str, Callable[[Path], AbstractContextManager[System]]]] = {
    JETSTREAM: partial(jetstream, sync=False),
    JETSTREAM_SYNC: partial(jetstream, sync=True),
    MOSQUITTO: mosquitto,
    PUBSUB: partial(redis_alone, fsync="no"),
    EJABBERD: ejabberd,
    SYNAPSE: synapse,
    LPOP: partial(redis_alone, fsync="everysec"),
}


def many_files() -> None:
    """Allow this process, and what it starts, all the open files that it may have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def start(folder: Path, name: str) -> AbstractContextManager[System]:
    """Run a system by its name. Entering raises MissingError."""
    return relay_system(folder, name) if name in RELAYS else PEERS[name](folder)


def main(arguments: list[str] | None = None) -> None:
    """Measure a list of points and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("list", choices=LISTS)
    parser.add_argument("--only", default="", help="points whose name contains this; results are only printed")
    parser.add_argument("--window", type=float, default=1.0, help="seconds")
    parser.add_argument("--again", action="store_true", help="forget finished points")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of state and stores: its disk is measured")
    parser.add_argument("--results", type=Path, default=report.RESULTS)
    chosen = parser.parse_args(arguments)
    chosen.work.mkdir(parents=True, exist_ok=True)
    many_files()
    os.sched_setaffinity(0, {load.CLIENT_CORE})
    points = [point for point in LISTS[chosen.list] if chosen.only in point.name]
    place = chosen.work / f"{chosen.list}{'-only' if chosen.only else ''}.json"
    if chosen.again or chosen.only:
        place.unlink(missing_ok=True)
    try:
        program = load.generator(chosen.work)
    except load.NoCompilerError as error:
        sys.exit(str(error))
    # Peers and relay take turns, so that a disturbance meets both; alone, windows follow each other.
    windows, count = (1, 3) if chosen.list == "peers" else (3, 1)
    result = turns.measure(
        points, start, program, chosen.work, place=place, window=chosen.window, windows=windows, turns=count
    )
    text = report.markdown(TITLES[chosen.list], result)
    print(text)
    if not chosen.only:
        report.write(chosen.list, text, result, chosen.results)


if __name__ == "__main__":
    main()
