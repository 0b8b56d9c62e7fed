"""Our clients and those of other implementations in one group: random schedules, each repeated by its seed.

With each of them alone, and with all that have a suite together. A short run here; ``make interop`` runs 1,000
schedules of each kind and, when it was stopped, goes on where it was.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from restante_crypto.mls import PathError, Remove, ValidationError
from support import peers
from support.peers import OURS, RINE, SHARED, TS_MLS_1, TS_MLS_2, Member, Ours, missing
from support.rine import RineFolder
from support.schedules import Schedule, add
from support.ts_mls import TsMlsProcess

STEPS = 10
TOGETHER = {1: (OURS, TS_MLS_1, TS_MLS_2, RINE), 3: (OURS, TS_MLS_1, TS_MLS_2)}
"""Who has a suite, where that is more than two."""

Host = RineFolder | TsMlsProcess


@pytest.fixture(scope="module")
def hosts() -> Iterator[Callable[[str], Host]]:
    """The other implementations, each started once."""
    running: dict[str, Host] = {}

    def host(kind: str) -> Host:
        reason = missing(kind)
        if reason is not None:
            pytest.skip(reason)
        if kind not in running:
            running[kind] = RineFolder() if kind == RINE else TsMlsProcess(kind)
        return running[kind]

    yield host
    for each in running.values():
        each.close()


def run(name: str, suite: int, kinds: tuple[str, ...], hosts: Callable[[str], Host], seed: int) -> None:
    running = {kind: hosts(kind) for kind in kinds if kind != OURS}

    def make(wanted: str, client: str) -> Member:
        return Ours(suite, client) if wanted == OURS else running[wanted].client(suite, client)

    schedule = Schedule(seed, kinds, make)
    try:
        schedule.run(STEPS)
    except BaseException:
        print(f"{name}, suite {suite:#06x}, {schedule.failed(seed)}")  # noqa: T201 -- pytest shows it with the failure
        raise
    for each in running.values():
        each.clear()


def progress(kind: str, first: int) -> Path:
    """The file that says which seed is next."""
    return peers.PEERS / f"interop {kind} from {first}.next"


def all_schedules(name: str, one: Callable[[int], None], config: pytest.Config) -> None:
    """Run the schedules that are asked for; ``one`` runs that of a seed."""
    first, count = (config.getoption(option) for option in ("--seed", "--schedules"))
    resume: bool = config.getoption("--resume")
    at = progress(name, first)
    start = int(at.read_text()) if resume and at.exists() else first
    for seed in range(start, first + count):
        one(seed)
        if resume:
            at.write_text(str(seed + 1))


@pytest.mark.parametrize("kind", [TS_MLS_1, TS_MLS_2, RINE])
def test_random_schedules(kind: str, hosts: Callable[[str], Host], request: pytest.FixtureRequest) -> None:
    def one(seed: int) -> None:
        run(kind, SHARED[kind][seed % len(SHARED[kind])], (OURS, kind), hosts, seed)

    all_schedules(kind, one, request.config)


def test_random_schedules_of_all_together(hosts: Callable[[str], Host], request: pytest.FixtureRequest) -> None:
    def one(seed: int) -> None:
        suite = list(TOGETHER)[seed % len(TOGETHER)]
        run("together", suite, TOGETHER[suite], hosts, seed)

    all_schedules("together", one, request.config)


def test_a_remove_without_a_path_is_refused(hosts: Callable[[str], Host]) -> None:
    """Section 12.4 demands a path with a Remove; this version of ts-mls makes none if there is only one."""
    ours, theirs = Ours(3, "ours"), hosts(TS_MLS_2).client(3, "theirs")
    ours.create(b"group")
    _, welcomes = ours.commit([add(theirs), add(Ours(3, "another"))])
    theirs.join(welcomes)
    message, _ = theirs.commit([Remove(2)])
    before = ours.state()
    with pytest.raises(ValidationError, match="path required"):
        ours.process(message)
    assert ours.state() == before


def test_an_update_is_sealed_to_its_new_key(hosts: Callable[[str], Host]) -> None:
    """Section 7.5; this version of ts-mls seals the path secret to the key that the Update replaces.

    So who sent the Update cannot follow. It has no path either (section 12.4) if there is only one Update.
    """
    ours, third, theirs = Ours(3, "ours"), Ours(3, "third"), hosts(TS_MLS_2).client(3, "theirs")
    ours.create(b"group")
    _, welcomes = ours.commit([add(theirs), add(third)])
    for each in (theirs, third):
        each.join(welcomes)
    for sender, other in ((ours, third), (third, ours)):
        message = sender.propose_update()
        for each in (other, theirs):
            each.process(message)
    message, _ = theirs.commit([])
    before = ours.state()
    with pytest.raises(PathError, match="path secret"):
        ours.process(message)
    assert ours.state() == before
