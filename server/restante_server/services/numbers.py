"""The directory by mobile number: verified by a text message, found in buckets among decoys. PROTOCOL.md section 6.15.

A number is in memory while it is verified, and nowhere else: what is kept are marks and places that need the
directory's secret. The relay computes a number's place itself, so that nobody puts a record at another's number. Only
who has verified a number may evaluate or fetch a bucket, within a budget that goes with the number, at all nodes.

Slots of the relay, each under a keyed hash: per number its *holder* (a sealed mailbox id), its *budget* and its text
messages' budget; a *code* that was sent; per bucket the *list* of its places; per place the *record*.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import msgspec
from msgspec.structs import replace

from restante_crypto import directory, oprf, primitives
from restante_crypto.directory import Kind
from restante_protocol import frames, ids, limits
from restante_protocol.errors import Code
from restante_server.clock import Clock
from restante_server.config import NUMBER_TEXTS, NUMBER_TEXTS_PER_SECOND
from restante_server.errors import Refused
from restante_server.oprf_key import OprfKey
from restante_server.processors import TextMessage
from restante_server.services import budgets
from restante_server.services.allowance import Rate
from restante_server.services.budgets import Budgets, Pace
from restante_server.services.entries import Entries, Entry
from restante_server.services.erasure import Eraser
from restante_server.services.handles import evaluate
from restante_server.stores.contract import Holding, Store, overwrite

PACE: Final = Pace(limits.NUMBER_QUERIES, limits.NUMBER_QUERY_SECONDS)
TEXTS_TO_NUMBER: Final = Pace(3, 8 * 3600)  # text messages to one number: a typing error or two, and nobody is pestered
TEXTS_OF_MAILBOX: Final = Pace(5, 6 * 3600)  # the same that one mailbox asks for
_STRETCHES: Final = 2  # Argon2id at a time: 64 MiB each

Send = Callable[[TextMessage], Awaitable[None]]
"""Sends a text message. Raises OSError or TimeoutError: it may not have been sent."""


class _Sent(msgspec.Struct, frozen=True, array_like=True):
    """A code that was sent: its mark, how often it may still be tried, and until when (Unix seconds)."""

    mark: bytes
    tries: int
    until: int


def is_mobile(number: str) -> bool:
    """Say whether this is a mobile number as E.164 writes it."""
    import phonenumbers  # noqa: PLC0415 -- an extra

    try:
        parsed = phonenumbers.parse(number)
    except phonenumbers.NumberParseException:
        return False
    kinds = (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE_OR_MOBILE)
    written = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    return written == number and phonenumbers.is_valid_number(parsed) and phonenumbers.number_type(parsed) in kinds


class Numbers:
    """The verified numbers of one store."""

    def __init__(self, store: Store, key: OprfKey, entries: Entries, eraser: Eraser, clock: Clock, send: Send) -> None:
        """Take an open store, and what sends text messages."""
        self._store = store
        self._key = key
        self._entries = entries
        self._eraser = eraser
        self._clock = clock
        self._send = send
        self._texts = Budgets(TEXTS_OF_MAILBOX)
        self._rate = Rate(NUMBER_TEXTS, NUMBER_TEXTS_PER_SECOND)
        self._stretching = asyncio.Semaphore(_STRETCHES)

    # Verifying.

    async def claim(self, mailbox: bytes, number: str) -> None:
        """Send a code to a number. Raises Refused: LIMIT, no mobile number; BUDGET, too many; UNAVAILABLE, not sent."""
        if not is_mobile(number):
            raise Refused(Code.LIMIT, "number")
        mark, now = self._key.mark("number", number.encode()), self._clock()
        texts = self._key.slot("texts", mark)
        if not (
            self._texts.take(mailbox, now)
            and self._rate.take(now)
            and await budgets.take(self._store, self._clock, texts, TEXTS_TO_NUMBER)
        ):
            raise Refused(Code.BUDGET, "text messages")
        code = f"{secrets.randbelow(10**limits.NUMBER_CODE_DIGITS):0{limits.NUMBER_CODE_DIGITS}d}"
        slot = self._code_slot(mailbox, mark)
        until = now // 1000 + limits.NUMBER_CODE_LIFETIME
        sent = _Sent(self._key.mark("code", slot, code.encode()), limits.NUMBER_CODE_TRIES, until)
        body = self._key.seal(slot, msgspec.msgpack.encode(sent))
        await overwrite(self._store, slot, limits.NUMBER_CODE_LIFETIME, body)
        try:
            await self._send(TextMessage(number, f"{code} is your code. Nobody will ask you for it."))
        except (OSError, TimeoutError):
            await self._store.delete_slot(slot)
            raise Refused(Code.UNAVAILABLE, "text message") from None

    async def confirm(self, mailbox: bytes, number: str, code: str) -> None:
        """Take the code: the number is the mailbox's, and no other's, from now on.

        Raises:
            Refused: NOT_FOUND, none waits; UNAUTHORIZED, another code.
        """
        mark = self._key.mark("number", number.encode())
        await self._try_code(self._code_slot(mailbox, mark), code)
        async with self._stretching:
            place = await asyncio.to_thread(self._place, number)
        before = await self._holder(mark)
        if before is not None and before != mailbox:
            await self._give_up(before, mark, place)
            await self._entries.change(before, lambda had: _without(had, mark))
        had = await self._entries.read(mailbox)
        if had.number and had.number != mark:
            await self._give_up(mailbox, had.number, had.place)
        await self._hold(mailbox, mark)
        now = self._clock() // 1000
        await self._entries.change(mailbox, lambda had: replace(had, number=mark, place=place, verified_at=now))

    async def _try_code(self, slot: bytes, code: str) -> None:
        while True:
            stored = await self._store.get_slot(slot)
            if stored is None:
                raise Refused(Code.NOT_FOUND, "code")
            sent = msgspec.msgpack.decode(self._key.open_sealed(slot, stored.body), type=_Sent)
            lifetime = sent.until - self._clock() // 1000
            if sent.tries == 0 or lifetime <= 0:
                raise Refused(Code.NOT_FOUND, "code")
            left = self._key.seal(slot, msgspec.msgpack.encode(replace(sent, tries=sent.tries - 1)))
            if await self._store.put_slot(slot, stored.version + 1, lifetime, left):
                break
        if not primitives.equal(sent.mark, self._key.mark("code", slot, code.encode())):
            raise Refused(Code.UNAUTHORIZED, "code")
        await self._store.delete_slot(slot)

    def _code_slot(self, mailbox: bytes, mark: bytes) -> bytes:
        return self._key.slot("code", mark + mailbox)

    def _place(self, number: str) -> bytes:
        return directory.entry(Kind.NUMBER, oprf.evaluate(self._key.pair(Kind.NUMBER), number.encode())).place

    # Who has which.

    async def verified(self, mailbox: bytes) -> Entry:
        """Return the entry of a mailbox with a verified number. Raises Refused(UNAUTHORIZED)."""
        entry = await self._entries.read(mailbox)
        if not entry.number or await self._holder(entry.number) != mailbox:
            raise Refused(Code.UNAUTHORIZED, "number")
        return entry

    async def _holder(self, mark: bytes) -> bytes | None:
        slot = self._key.slot("holder", mark)
        stored = await self._store.get_slot(slot)
        return self._key.open_sealed(slot, stored.body) if stored else None

    async def _hold(self, mailbox: bytes, mark: bytes) -> None:
        slot = self._key.slot("holder", mark)
        await overwrite(self._store, slot, limits.MAX_SLOT_LIFETIME, self._key.seal(slot, mailbox))

    async def _give_up(self, mailbox: bytes, mark: bytes, place: bytes) -> None:
        """Erase record and holder, if it is this mailbox."""
        if await self._holder(mark) == mailbox:
            await self._erase_record(place)
            await self._eraser.erase_slot(self._key.slot("holder", mark))

    async def _erase_record(self, place: bytes) -> None:
        await self._eraser.erase_slot(self._record_slot(place))
        await self._change_list(place[0], lambda places: places - {place})

    # Records.

    async def put(self, mailbox: bytes, record: bytes) -> None:
        """Put the record of the mailbox's number, or change or renew it. Raises Refused(UNAUTHORIZED)."""
        entry = await self.verified(mailbox)
        await self._entries.change(mailbox, lambda had: had)
        await self._hold(mailbox, entry.number)
        await overwrite(self._store, self._record_slot(entry.place), limits.MAX_SLOT_LIFETIME, record)
        await self._change_list(entry.place[0], lambda places: places | {entry.place})
        if (await self._entries.read(mailbox)).number != entry.number:  # erased meanwhile, and nobody knows of this one
            await self._erase_record(entry.place)
            await self._give_up(mailbox, entry.number, entry.place)

    async def erase(self, mailbox: bytes) -> None:
        """Erase the mailbox's number and record; the caller scrubs. What was evaluated with it stays counted."""
        entry = await self._entries.read(mailbox)
        if entry.number:
            await self._give_up(mailbox, entry.number, entry.place)
            await self._entries.change(mailbox, lambda had: _without(had, entry.number))

    async def holdings(self, mailbox: bytes) -> list[Holding]:
        """Return what there is of a mailbox, for its owner."""
        entry = await self._entries.read(mailbox)
        if not entry.number:
            return []
        found = [
            Holding("number.place", entry.number, entry.place),
            Holding("number.verified_at", entry.number, entry.verified_at),
        ]
        stored = await self._store.get_slot(self._record_slot(entry.place))
        if stored is not None:
            found.append(Holding("number.record", entry.number, stored.body))
        for name in ("queries", "texts"):
            full_at = await budgets.full_at(self._store, self._key.slot(name, entry.number))
            found.append(Holding(f"number.{name}", entry.number, full_at))
        return found

    def trim(self) -> None:
        """Forget budgets that are full."""
        self._texts.trim(self._clock())

    # Queries.

    async def evaluate(self, mailbox: bytes, frame: frames.Evaluate) -> frames.Evaluated:
        """Evaluate for a verified number. Raises Refused: UNAUTHORIZED, BUDGET, LIMIT."""
        await self._charge(mailbox, len(frame.elements))
        return await evaluate(self._key, Kind.NUMBER, frame)

    async def bucket(self, mailbox: bytes, frame: frames.NumbersGet) -> frames.Numbers:
        """Return a page of a bucket: at least DIRECTORY_BUCKET records, decoys among them, by ascending place."""
        await self._charge(mailbox, 1)
        real = await self._listed(frame.bucket)
        missing = max(0, limits.DIRECTORY_BUCKET - len(real))
        decoys = {self._key.decoy_place(frame.bucket, number) for number in range(missing)}
        places = sorted(place for place in real | decoys if place > frame.after)
        page = places[: limits.DIRECTORY_PAGE]
        bodies = await asyncio.gather(*(self._record(place) for place in page if place in real))
        found = dict(zip((place for place in page if place in real), bodies, strict=True))
        if gone := {place for place, body in found.items() if body is None}:
            await self._change_list(frame.bucket, lambda listed: listed - gone)
        records = [frames.DirectoryRecord(place, found.get(place) or self._key.decoy_record(place)) for place in page]
        return frames.Numbers(frame.request, records, more=len(places) > len(page))

    async def _charge(self, mailbox: bytes, units: int) -> None:
        entry = await self.verified(mailbox)
        slot = self._key.slot("queries", entry.number)
        if not await budgets.take(self._store, self._clock, slot, PACE, units):
            raise Refused(Code.BUDGET, "numbers")

    async def _record(self, place: bytes) -> bytes | None:
        stored = await self._store.get_slot(self._record_slot(place))
        return stored.body if stored else None

    def _record_slot(self, place: bytes) -> bytes:
        return self._key.slot("record", place, place[0])

    def _list_slot(self, bucket: int) -> bytes:
        return self._key.slot("list", bytes((bucket,)), bucket)

    async def _listed(self, bucket: int) -> set[bytes]:
        stored = await self._store.get_slot(self._list_slot(bucket))
        return _places(stored.body) if stored else set()

    async def _change_list(self, bucket: int, change: Callable[[set[bytes]], set[bytes]]) -> None:
        slot = self._list_slot(bucket)
        while True:
            stored = await self._store.get_slot(slot)
            places = sorted(change(_places(stored.body) if stored else set()))
            if not places:
                await self._store.delete_slot(slot)
                return
            version = (stored.version if stored else 0) + 1
            if await self._store.put_slot(slot, version, limits.MAX_SLOT_LIFETIME, b"".join(places)):
                return


def _places(body: bytes) -> set[bytes]:
    return set(_pieces(body, ids.ID_BYTES))


def _pieces(body: bytes, size: int) -> Iterable[bytes]:
    return (body[at : at + size] for at in range(0, len(body), size))


def _without(had: Entry, mark: bytes) -> Entry:
    return replace(had, number=b"", place=b"", verified_at=0) if had.number == mark else had
