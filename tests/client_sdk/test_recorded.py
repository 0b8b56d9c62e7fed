from typing import get_args

from restante.engine import records
from restante.recorded import KINDS


def test_each_event_that_is_stored_becomes_one_of_its_own() -> None:
    assert set(KINDS) == set(get_args(records.StoredEvent))
    assert len(set(KINDS.values())) == len(KINDS)
