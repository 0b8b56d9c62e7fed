"""Every fuzz target under a seeded mutator: a short run here, a long one by ``make fuzz``."""

import pytest

from support.fuzz_targets import TARGETS
from support.mutator import inputs


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_target(name: str, request: pytest.FixtureRequest) -> None:
    target = TARGETS[name]
    seed, count = (request.config.getoption(option) for option in ("--seed", "--inputs"))
    for number, data in enumerate(inputs(seed, target.corpus(), max(20, count // target.cost))):
        try:
            target.run(data)
        except BaseException:
            print(f"{name}, seed {seed}, input {number}: {data.hex()}")  # noqa: T201 -- pytest shows it
            raise
