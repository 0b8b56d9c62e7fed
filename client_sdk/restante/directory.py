"""The relay's directory as a client uses it: names are blinded, evaluated, stretched, and looked for.

What is asked on the mailbox's connection says how much is looked for, and of numbers in which of 240 buckets; never for
whom. Handles' records are fetched over the anonymous connection.
"""

import asyncio
import os
from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from restante import names
from restante.engine.directory import PURPOSES, Found, put_frame
from restante.errors import ConsentNeeded, HandleTaken, Refused, RelayError
from restante.invites import Invite
from restante.links import numbered
from restante.publications import DIRECTORY, DirectoryKeys, read_directory
from restante_crypto import directory, oprf, primitives, proofs
from restante_crypto.directory import Entry, Kind
from restante_protocol import frames, limits
from restante_protocol.errors import Code

if TYPE_CHECKING:
    from restante.driver import Driver
    from restante.engine.engine import Engine

_LATER: Final = frozenset({Code.BUDGET, Code.FULL, Code.UNAVAILABLE})


class Directory:
    """The directory of a client's relay."""

    def __init__(self, engine: "Engine", driver: "Driver") -> None:
        """Nothing is asked yet."""
        self._engine = engine
        self._driver = driver

    # One's own entries.

    async def set(self, kind: Kind, name: str) -> None:
        """Put this account's entry: a handle, or a number that is verified. Raises HandleTaken, Refused, RelayError."""
        await self._granted(kind)
        keys = await self._keys()
        entry = await self._entry(kind, keys, name)
        own = await self._driver.run(self._engine.directory.own, kind)
        invite = own.invite if own is not None else await self._driver.run(self._engine.new_invite)
        await self._driver.chores.settled()  # the invite is registered
        try:
            record = await self._driver.run(self._engine.directory.record, entry, invite)
            await self._driver.ask_as_owner(partial(put_frame, kind, entry.place, record))
        except (Refused, ValueError) as error:
            if own is None:
                await self._delete_invite(Invite.parse(invite).slot)
            if isinstance(error, Refused) and error.code == Code.CONFLICT:
                raise HandleTaken("somebody else has this handle") from None
            raise
        await self._driver.run(self._engine.directory.set, kind, name, keys, entry, invite)

    async def clear(self, kind: Kind) -> None:
        """Erase this account's entry, and what it invites with."""
        await self._driver.ask_as_owner(frames.HandleDelete if kind is Kind.HANDLE else frames.NumberDelete)
        await self.drop(kind)

    async def drop(self, kind: Kind, *, lost: bool = False) -> None:
        """The relay has no such entry any more: delete its invite."""
        slot = await self._driver.run(self._engine.directory.slot_of, kind)
        if slot is not None:
            await self._delete_invite(slot)
            await self._driver.do(self._engine.directory.forget, kind, lost)

    async def _delete_invite(self, slot: bytes) -> None:
        deletion = await self._driver.run(self._engine.slot_deletion, slot)
        await self._driver.ask(partial(numbered, deletion))
        await self._driver.run(self._engine.forget_invite, slot)

    async def put_again(self, kind: Kind) -> None:
        """Renew an entry, or put it again where the relay lost it or has another key."""
        own = await self._driver.run(self._engine.directory.own, kind)
        if own is None:
            return
        try:
            keys = await self._keys()
            entry = Entry(own.place, own.key)  # type: ignore[arg-type]  # it was an id
            if keys.of(kind) != own.public:
                entry = await self._entry(kind, keys, own.name)
            record = await self._driver.run(self._engine.directory.record, entry, own.invite)
            await self._driver.ask_as_owner(partial(put_frame, kind, entry.place, record))
        except Refused as error:
            if error.code in _LATER:
                await self._driver.run(self._engine.directory.later, kind)
            else:
                await self.drop(kind, lost=True)
        except RelayError:
            await self._driver.run(self._engine.directory.later, kind)  # there is no directory, or a wrong one
        else:
            await self._driver.run(self._engine.directory.set, kind, own.name, keys, entry, own.invite)

    async def verify(self, text: str, region: str | None) -> None:
        """Have a code sent to a number."""
        number = names.number(text, region)
        await self._granted(Kind.NUMBER)  # before the relay sees it
        await self._driver.ask_as_owner(partial(frames.NumberClaim, number=number))

    async def confirm(self, text: str, code: str, region: str | None) -> None:
        """Say the code, and put the entry."""
        number = names.number(text, region)
        await self._granted(Kind.NUMBER)
        await self._driver.ask_as_owner(partial(frames.NumberConfirm, number=number, code=code.strip()))
        await self.set(Kind.NUMBER, number)

    # Looking for others.

    async def find_handle(self, text: str) -> Found | None:
        """Look for who has exactly this handle."""
        name = names.handle(text)
        await self._granted(Kind.HANDLE)
        entry = await self._entry(Kind.HANDLE, await self._keys(), name)
        try:
            slot = await self._driver.ask(partial(frames.SlotGet, slot=proofs.handle_slot_id(entry.place)))
        except Refused as error:
            if error.code == Code.NOT_FOUND:
                return None
            raise
        body = slot.body if isinstance(slot, frames.Slot) else b""
        record = body[-limits.DIRECTORY_RECORD_BYTES :]
        return await self._driver.run(self._engine.directory.read, Kind.HANDLE, entry, record)

    async def find_numbers(self, texts: Sequence[str], region: str | None) -> dict[str, Found]:
        """Look for who has verified these numbers; return who was found, by number as E.164 writes it."""
        wanted = list(dict.fromkeys(names.number(text, region) for text in texts))
        await self._granted(Kind.NUMBER)
        keys = await self._keys()
        entries: dict[str, Entry] = {}
        for at in range(0, len(wanted), limits.MAX_EVALUATIONS):
            batch = wanted[at : at + limits.MAX_EVALUATIONS]
            entries |= zip(batch, await self._entries(Kind.NUMBER, keys, batch), strict=True)
        found: dict[str, Found] = {}
        for bucket in sorted({entry.place[0] for entry in entries.values()}):
            records = await self._bucket(bucket, {entry.place for entry in entries.values()})
            for number, entry in entries.items():
                record = records.get(entry.place)
                if not record:
                    continue
                who = await self._driver.run(self._engine.directory.read, Kind.NUMBER, entry, record)
                if who is not None:
                    found[number] = who
        return {number: found[number] for number in wanted if number in found}

    async def _bucket(self, bucket: int, places: Collection[bytes]) -> dict[bytes, bytes]:
        """Fetch all of a bucket, whatever was found in its first pages; return the records at these places."""
        records: dict[bytes, bytes] = {}
        after = b""
        for _ in range(limits.NUMBER_QUERIES):  # more than the relay gives to anybody
            answer = await self._driver.ask_as_owner(partial(frames.NumbersGet, bucket=bucket, after=after))
            if not isinstance(answer, frames.Numbers):
                raise RelayError("the relay's directory")
            records |= {each.place: each.record for each in answer.records if each.place in places}
            if not (answer.more and answer.records and answer.records[-1].place > after):
                return records
            after = answer.records[-1].place
        raise RelayError("the relay's directory has no end")

    # What both have in common.

    async def _granted(self, kind: Kind) -> None:
        if PURPOSES[kind] not in await self._driver.run(self._engine.consents.granted):
            raise ConsentNeeded(f"the purpose {PURPOSES[kind]!r} is not granted: client.consent grants it")
        if not primitives.has_ristretto255():
            raise RelayError("the directory needs one package more: pip install 'restante[directory]'")

    async def _keys(self) -> DirectoryKeys:
        """Return the relay's keys: signed by it and fetched without a credential, so the same for everybody."""
        content = await self._driver.bulletin.content(DIRECTORY)
        if content is None:
            raise RelayError("the relay has no directory")
        try:
            return read_directory(content)
        except ValueError as error:
            raise RelayError(f"the relay's {DIRECTORY}: {error}") from None

    async def _entry(self, kind: Kind, keys: DirectoryKeys, name: str) -> Entry:
        (entry,) = await self._entries(kind, keys, [name])
        return entry

    async def _entries(self, kind: Kind, keys: DirectoryKeys, wanted: Sequence[str]) -> list[Entry]:
        """Have up to MAX_EVALUATIONS names evaluated. Raises RelayError: not with the key that is published."""
        blinded = [oprf.blind(oprf.Mode.VOPRF, name.encode(), os.urandom) for name in wanted]
        elements = [each.element for each in blinded]
        answer = await self._driver.ask_as_owner(partial(frames.Evaluate, kind=kind, elements=elements))
        if not isinstance(answer, frames.Evaluated):
            raise RelayError("the relay's directory")
        evaluation = oprf.Evaluation(tuple(answer.elements), answer.proof)
        try:
            outputs = oprf.finalize_verified(keys.of(kind), blinded, evaluation)
        except oprf.OPRFError:
            raise RelayError("the relay evaluates with another key than the one it publishes") from None
        return [await asyncio.to_thread(directory.entry, kind, output) for output in outputs]
