from pathlib import Path
from random import Random

import pytest

import restante_protocol
from restante_crypto import directory, oprf, proofs
from restante_crypto.directory import Cost, Kind
from restante_protocol import ids

CHEAP = Cost(operations=1, memory=8192)
SEED = bytes(range(32))


@pytest.mark.parametrize("kind", Kind)
def test_client_and_relay_come_to_the_same_entry(kind: Kind) -> None:
    keys = directory.key_pair(SEED, kind)
    blinded = oprf.blind(oprf.Mode.VOPRF, b"name", Random(1).randbytes)
    evaluation = oprf.blind_evaluate_verifiably(keys, [blinded.element], Random(2).randbytes)
    (output,) = oprf.finalize_verified(keys.public, [blinded], evaluation)
    assert directory.entry(kind, output, CHEAP) == directory.entry(kind, oprf.evaluate(keys, b"name"), CHEAP)


def test_entries_differ_by_kind_key_name_and_cost() -> None:
    entries = {
        directory.entry(kind, oprf.evaluate(directory.key_pair(seed, kind), name), cost)
        for seed in (SEED, bytes(32))
        for kind in Kind
        for name in (b"one", b"two")
        for cost in (CHEAP, Cost(operations=2, memory=8192))
    }
    assert len({each.place for each in entries}) == len({each.key for each in entries}) == 16
    assert all(ids.is_id(each.place) and len(each.key) == 32 for each in entries)


def test_places_are_spread_over_all_buckets() -> None:
    found = {ids.bucket_of(directory.entry(Kind.HANDLE, b"%64d" % n, CHEAP).place) for n in range(3000)}
    assert found == set(range(ids.BUCKETS))


def test_the_entry_is_that_of_the_document() -> None:
    document = (Path(restante_protocol.__file__).parents[1] / "PROTOCOL.md").read_text(encoding="utf-8")
    keys = directory.key_pair(SEED, Kind.HANDLE)
    entry = directory.entry(Kind.HANDLE, oprf.evaluate(keys, b"alice"))
    for what, value in (
        ("the directory's public key for handles, of the seed O", keys.public),
        ("place of the handle `alice`", entry.place),
        ("key of its record", entry.key),
        ("slot id of its record", proofs.handle_slot_id(entry.place)),
    ):
        assert f"| {what} | `{value.hex()}` |" in document


def test_what_everybody_uses_is_dear() -> None:
    assert directory.entry(Kind.HANDLE, bytes(64)) == directory.entry(Kind.HANDLE, bytes(64), directory.COST)
    assert directory.COST.memory == 64 * 1024 * 1024
    assert "key" not in repr(directory.entry(Kind.HANDLE, bytes(64), CHEAP))
