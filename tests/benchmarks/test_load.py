"""What jobs are made of."""

import msgspec
from benchmarks.load import address_targets

from restante_protocol import frames


def test_addresses_are_named_as_a_deposit_has_them() -> None:
    groups = [[bytes((number, place)) * 12 for place in range(size)] for number, size in enumerate((1, 10, 20))]
    for addresses, target in zip(groups, address_targets(groups), strict=True):
        deposit = frames.encode(frames.Deposit(1, bytes(16), addresses, b"body", 60, None, 0))
        assert target in deposit
        assert msgspec.msgpack.decode(target) == addresses
