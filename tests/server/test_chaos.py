"""Two relays over a cluster, under load, while masters and relays are killed, stopped and cut off. `make chaos` does
each 20 times; ordinarily it is once, without those that take long.
"""

from pathlib import Path

import pytest

from support.faults import RECOVERY, stage

SHORT = ("kill_master", "kill_relay", "cut")
LONG = ("stop_master", "stop_relay")
OFTEN = 10  # --kills from which on everything is tried


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    often = int(metafunc.config.getoption("--kills")) >= OFTEN
    metafunc.parametrize("fault", [*SHORT, *LONG] if often else SHORT)


async def test_clients_are_served_again(tmp_path: Path, request: pytest.FixtureRequest, fault: str) -> None:
    kills = int(request.config.getoption("--kills"))
    seed = int(request.config.getoption("--seed"))
    async with stage(tmp_path, seed) as play:
        for _ in range(kills if kills >= OFTEN else 1):
            await play.settle()
            seconds = await getattr(play, fault)()
            print(f"{fault}: served after {seconds:.1f} s")  # noqa: T201 -- shown by make chaos
            assert seconds < RECOVERY
        await play.settle()
