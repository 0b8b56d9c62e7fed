from pathlib import Path
from typing import Any

import pytest

from restante_protocol.diagnostics import LEAST_MAILBOXES, Measure
from restante_server.config import DIAGNOSTICS_BURST
from restante_server.identity import Identity
from restante_server.services.bulletin import Bulletin
from restante_server.services.diagnostics import PUBLICATION, Diagnostics
from restante_server.stores.contract import StoreUnavailable
from restante_server.stores.sqlite import SqliteStore
from support.relay import relay_in_process
from support.stores import MovedClock


def opened(published: Bulletin, *, mailboxes: int = LEAST_MAILBOXES) -> Diagnostics:
    diagnostics = Diagnostics(published, MovedClock(), offered=True)
    diagnostics.mailboxes = mailboxes
    return diagnostics


async def test_sums_alone_are_kept_and_relays_add_to_the_same(tmp_path: Path, any_store: dict[str, Any]) -> None:
    async with relay_in_process(tmp_path, **any_store) as relay:
        published = Bulletin(relay.store, Identity.open(tmp_path), MovedClock())
        one, other = opened(published), opened(published)
        for diagnostics in (one, one, other):
            assert diagnostics.count(Measure.USE, 2)
        assert other.count(Measure.CHANNEL, 0)
        for diagnostics in (one, other, other):
            await diagnostics.flush()
        _, sums = await published.read(PUBLICATION)
        assert sums == {
            "use": [0, 0, 3],
            "failures": [0] * 3,
            "messages": [0] * 4,
            "speed": [0] * 4,
            "channel": [1, 0, 0, 0],
        }
        shown = await one.shown()
        assert (shown["open"], shown["reported"]) == (True, sums)
        assert sum(shown["estimated"]["use"]) == pytest.approx(3, abs=1)


async def test_below_fifty_mailboxes_nothing_is_taken(tmp_path: Path) -> None:
    async with relay_in_process(tmp_path) as relay:
        published = Bulletin(relay.store, Identity.open(tmp_path), MovedClock())
        few = opened(published, mailboxes=LEAST_MAILBOXES - 1)
        assert not few.count(Measure.USE, 0)
        assert (await few.shown())["open"] is False
        off = Diagnostics(published, MovedClock(), offered=False)
        off.mailboxes = LEAST_MAILBOXES
        assert not off.count(Measure.USE, 0)
        await off.flush()
        assert await published.read(PUBLICATION) == (0, None)


async def test_so_many_at_a_time(tmp_path: Path) -> None:
    async with relay_in_process(tmp_path) as relay:
        diagnostics = opened(Bulletin(relay.store, Identity.open(tmp_path), MovedClock()))
        taken = [diagnostics.count(Measure.SPEED, 1) for _ in range(DIAGNOSTICS_BURST + 1)]
        assert taken == [True] * DIAGNOSTICS_BURST + [False]


async def test_a_store_that_does_not_answer_loses_no_report(tmp_path: Path) -> None:
    clock = MovedClock()
    store = await SqliteStore.open(tmp_path / "relay.db", clock=clock)
    diagnostics = opened(Bulletin(store, Identity.open(tmp_path), clock))
    assert diagnostics.count(Measure.USE, 1)
    await store.close()
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            await diagnostics.flush()
    assert diagnostics._new == {(Measure.USE, 1): 1}
