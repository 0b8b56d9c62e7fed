"""Whoever waits in the driver hears of what happens, without looking again by the clock."""

import asyncio
from pathlib import Path

import pytest

from restante import Client, Closed, driver
from support.people import person
from support.relay import relay_in_process


@pytest.fixture(autouse=True)
def no_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at a condition only when something has happened."""
    monkeypatch.setattr(driver, "LOOK_SECONDS", None)


async def test_whoever_waits_for_a_condition_hears_that_the_client_closes(tmp_path: Path) -> None:
    looked = asyncio.Event()

    async def never() -> bool:
        looked.set()
        return False

    async with relay_in_process(tmp_path / "relay") as relay:
        async with Client.open(tmp_path / "alice.db", relay=relay.url, passphrase="of alice") as client:
            await client.drained()
            waiter = asyncio.create_task(client._driver.until(never))
            await looked.wait()
        assert waiter.done(), "before the client has closed"
        with pytest.raises(Closed, match="the client is closed"):
            await waiter


async def test_what_happens_while_a_condition_is_looked_at_is_not_missed(tmp_path: Path) -> None:
    async with relay_in_process(tmp_path / "relay") as relay, person(tmp_path, "alice", relay.url) as alice:
        looks: list[bool] = []

        async def second() -> bool:
            looks.append(bool(looks))
            alice.client._driver.progressed()
            await asyncio.sleep(0)
            return looks[-1]

        await alice.client.drained()
        await alice.client._driver.until(second)
        assert looks == [False, True]
