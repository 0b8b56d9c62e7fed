"""Our clients and those of other implementations in one group: random schedules, each repeated by its seed.

A short run here; ``make interop`` runs 1,000 schedules per peer and, when it was stopped, goes on where it was.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from restante_crypto.mls import ValidationError
from support import peers
from support.peers import OURS, RINE, SHARED, TS_MLS_1, TS_MLS_2, Member, Ours, RineFolder, TsMlsProcess, missing
from support.schedules import Schedule

STEPS = 10
Host = RineFolder | TsMlsProcess


def host(kind: str) -> Host:
    reason = missing(kind)
    if reason is not None:
        pytest.skip(reason)
    return RineFolder() if kind == RINE else TsMlsProcess(kind)


@pytest.fixture(scope="module", params=[TS_MLS_1, TS_MLS_2, RINE])
def peer(request: pytest.FixtureRequest) -> Iterator[tuple[str, Host]]:
    kind: str = request.param
    running = host(kind)
    yield kind, running
    running.close()


def run(kind: str, running: Host, seed: int) -> None:
    suite = SHARED[kind][seed % len(SHARED[kind])]

    def make(wanted: str, name: str) -> Member:
        return Ours(suite, name) if wanted == OURS else running.client(suite, name)

    schedule = Schedule(seed, [OURS, kind], make)
    try:
        schedule.run(STEPS)
    except BaseException:
        print(f"{kind}, suite {suite:#06x}, {schedule.failed(seed)}")  # noqa: T201 -- pytest shows it with the failure
        raise


def progress(kind: str, first: int) -> Path:
    """The file that says which seed is next."""
    return peers.PEERS / f"interop {kind} from {first}.next"


def test_random_schedules(peer: tuple[str, Host], request: pytest.FixtureRequest) -> None:
    kind, running = peer
    first, count = (request.config.getoption(name) for name in ("--seed", "--schedules"))
    resume: bool = request.config.getoption("--resume")
    at = progress(kind, first)
    start = int(at.read_text()) if resume and at.exists() else first
    for seed in range(start, first + count):
        run(kind, running, seed)
        if resume:
            at.write_text(str(seed + 1))


def test_a_remove_without_a_path_is_refused() -> None:
    """Section 12.4 demands a path with a Remove; this version of ts-mls makes none if there is only one."""
    running = host(TS_MLS_2)
    ours, theirs = Ours(3, "ours"), running.client(3, "theirs")
    ours.create(b"group")
    _, welcomes = ours.commit([theirs.key_package, Ours(3, "another").key_package], [], public=False)
    theirs.join(welcomes)
    message, _ = theirs.commit([], [2], public=False)
    before = ours.state()
    with pytest.raises(ValidationError, match="path required"):
        ours.process(message)
    assert ours.state() == before
    running.close()
