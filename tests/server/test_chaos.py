"""Two relays over a cluster at level `failover`, under load, while masters and relays are killed, frozen and cut off.

Clients of the wire and of the SDK reach the relays through one balancer. Of each fault it is measured how long it
takes, from the fault, until all of them have got something new through. `make chaos` has each 20 times and goes on
where it was stopped; ordinarily it is once, without those that take long.
"""

import json
import statistics
from pathlib import Path

import pytest

from support.faults import RECOVERY, stage

SHORT = ("kill_master", "kill_relay", "cut", "restart_relays")
LONG = ("stop_master", "stop_relay", "cut_silently", "cut_master")
OFTEN = 10  # --kills from which on everything is tried
STATE = Path(".chaos")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    often = int(metafunc.config.getoption("--kills")) >= OFTEN
    metafunc.parametrize("fault", [*SHORT, *LONG] if often else SHORT)


def keep(place: Path, took: list[float]) -> None:
    place.parent.mkdir(exist_ok=True)
    place.write_text(json.dumps(took))


@pytest.mark.timeout(3600)
async def test_clients_are_served_again(tmp_path: Path, request: pytest.FixtureRequest, fault: str) -> None:
    kills = int(request.config.getoption("--kills"))
    seed, resume = int(request.config.getoption("--seed")), bool(request.config.getoption("--resume"))
    rounds = kills if kills >= OFTEN else 1
    place = STATE / f"{fault}-{seed}.json"
    took: list[float] = json.loads(place.read_text()) if resume and place.exists() else []
    if len(took) < rounds:
        async with stage(tmp_path) as play:
            while len(took) < rounds:
                await play.settle()
                play.chance.seed(f"{seed} {fault} {len(took)}")
                seconds = await getattr(play, fault)()
                await play.check()
                print(f"{fault}: served after {seconds:.1f} s", flush=True)  # noqa: T201 -- shown by make chaos
                assert seconds < RECOVERY
                took.append(round(seconds, 2))
                if resume:
                    keep(place, took)
            await play.settle()
    if rounds > 1:
        median = statistics.median(took)
        print(f"{fault}: {len(took)} times, median {median:.1f} s, longest {max(took):.1f} s")  # noqa: T201 -- the same
