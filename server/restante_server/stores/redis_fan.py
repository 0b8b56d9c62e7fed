"""A deposit on its way to the buckets of its addresses, and as it waits for another node to finish it."""

import struct
from collections.abc import Sequence
from typing import Final

import msgspec

from restante_protocol.errors import Code
from restante_server.stores.contract import DIGEST_BYTES, Accepted, Deposit, Outcome
from restante_server.stores.redis_calls import Part

_FAILED: Final = struct.Struct(">HB")
_HEADER: Final = struct.Struct(">16s16sIB")
_LARGE: Final = 1
_REMEMBER: Final = 2


class FanOut:
    """A deposit whose parts are under way.

    Attributes:
        item: the deposit.
        number: see ``redis_shard.Fan``.
        digest: under which it is known again.
        parts: one per bucket.
        split: there are several: what one of them does not store another may have, so all of them remember it.
        outcome: is told, when all buckets have it or one has failed.
    """

    __slots__ = ("_failed", "_left", "_places", "digest", "item", "number", "outcome", "parts", "split")

    def __init__(self, item: Deposit, number: int, buckets: int, outcome: Outcome) -> None:
        """Split it; nothing is remembered of what one part stored nowhere, unless it has won a fence."""
        self.item = item
        self.number = number
        self.digest = item.digest[:DIGEST_BYTES]
        self._failed: list[tuple[int, Code]] = []
        self.outcome = outcome
        self._places: dict[int, list[int]] = {}
        if buckets > 1:
            for index, address in enumerate(item.addresses):
                self._places.setdefault(address[0] % buckets, []).append(index)
        self.split = len(self._places) > 1
        flags = _LARGE * item.large + _REMEMBER * (self.split or item.fence is not None)
        header = _HEADER.pack(self.digest, item.message_id, item.lifetime, flags)
        if self.split:
            self.parts = [
                Part(self, bucket, header, b"".join([item.addresses[i] for i in places]))
                for bucket, places in self._places.items()
            ]
        else:
            bucket = next(iter(self._places), 0)
            self.parts = [Part(self, bucket, header, b"".join(item.addresses))]
        self._left = len(self.parts)

    def take(self, bucket: int, failed: bytes) -> None:
        """See ``redis_shard.Fan``."""
        places = self._places[bucket] if self.split else None
        for position, code in _FAILED.iter_unpack(failed):
            self._failed.append((position if places is None else places[position], Code(code)))
        self._left -= 1
        if not self._left and not self.outcome.done():
            self.outcome.set_result(Accepted(tuple(sorted(self._failed))))

    def fail(self, error: Exception) -> None:
        """See ``redis_shard.Fan``."""
        if not self.outcome.done():
            self.outcome.set_exception(error)


def encode_deposit(item: Deposit) -> bytes:
    """Return a deposit as bytes."""
    fields = (item.message_id, list(item.addresses), item.body, item.lifetime, item.fence, item.large, item.digest)
    return msgspec.msgpack.encode(fields)


def decode_deposit(data: bytes) -> Deposit:
    """Return what ``encode_deposit`` encoded."""
    kind = tuple[bytes, Sequence[bytes], bytes, int, bytes | None, bool, bytes]
    message_id, addresses, body, lifetime, fence, large, digest = msgspec.msgpack.decode(data, type=kind)
    return Deposit(message_id, addresses, body, lifetime, fence, large=large, digest=digest)
