"""The directory: what its frames do for a mailbox that has granted the purpose. PROTOCOL.md section 6.15."""

import asyncio
import importlib.util
from collections.abc import Collection
from pathlib import Path
from typing import Final, Self

from restante_crypto import primitives
from restante_protocol import frames
from restante_server.clock import Clock
from restante_server.config import SettingError
from restante_server.oprf_key import OprfKey
from restante_server.purposes import Purpose
from restante_server.services.bulletin import Bulletin
from restante_server.services.consents import Consents
from restante_server.services.entries import Entries
from restante_server.services.erasure import Eraser
from restante_server.services.handles import Handles
from restante_server.services.numbers import Numbers, Send
from restante_server.stores.contract import Holding, Store, StoreRefused

PUBLICATION: Final = "directory"
PURPOSES: Final = frozenset({Purpose.HANDLE, Purpose.NUMBER})
_KINDS: Final = {frames.DIRECTORY_HANDLE: Purpose.HANDLE, frames.DIRECTORY_NUMBER: Purpose.NUMBER}


class Directory:
    """The directory of one relay."""

    def __init__(
        self, store: Store, key: OprfKey, eraser: Eraser, consents: Consents, clock: Clock, send: Send
    ) -> None:
        """Take an open store. From now on withdrawing a purpose erases what is here for it."""
        entries = Entries(store, key, eraser)
        self._key = key
        self._consents = consents
        self._handles = Handles(store, key, entries, eraser, clock)
        self._numbers = Numbers(store, key, entries, eraser, clock, send)
        consents.on_withdrawal(Purpose.HANDLE, self._handles.erase)
        consents.on_withdrawal(Purpose.NUMBER, self._numbers.erase)

    @classmethod
    async def open(  # noqa: PLR0913 -- what it is made of
        cls,
        path: Path,
        store: Store,
        published: Bulletin,
        eraser: Eraser,
        consents: Consents,
        clock: Clock,
        send: Send,
        offered: Collection[Purpose],
        *,
        new_key: bool = False,
    ) -> Self | None:
        """Open the directory, if it is offered, or was: then it can only be erased from.

        Args:
            path: the file of the PRF's key.
            store: open.
            published: where the public keys are, and stay the same.
            eraser: what erases for good.
            consents: of the mailboxes.
            clock: Unix milliseconds.
            send: sends text messages.
            offered: the purposes that are.
            new_key: whatever was published before: an empty directory begins.

        Raises:
            SettingError: a package is missing.
            StoreRefused: the file is no key, or not the one of this store.
        """
        wanted = PURPOSES & set(offered)
        if not wanted:
            if not await asyncio.to_thread(path.exists):
                return None
            return cls(store, await asyncio.to_thread(OprfKey.open, path, make=False), eraser, consents, clock, send)
        check_packages(wanted)
        _, before = await published.read(PUBLICATION)
        key = await asyncio.to_thread(OprfKey.open, path, make=new_key or before is None)
        opened = cls(store, key, eraser, consents, clock, send)
        if not await opened.publish(published, new_key=new_key):
            raise StoreRefused(
                f"{path} is another key than the one of this store's directory: bring the file that the other relays "
                "have, or, if it is lost for good, begin an empty directory with --new-oprf-key"
            )
        return opened

    async def publish(self, published: Bulletin, *, new_key: bool = False) -> bool:
        """Publish the public keys, or refresh them; False if others are there that are to stay."""
        content = self._key.public()
        while True:
            version, before = await published.read(PUBLICATION)
            if before not in (None, content) and not new_key:
                return False
            if await published.write(PUBLICATION, version + (before != content), content):
                return True

    async def evaluate(self, mailbox: bytes, frame: frames.Evaluate) -> frames.Evaluated:
        """Answer Evaluate. Raises Refused."""
        await self._consents.require(mailbox, _KINDS[frame.kind])
        if frame.kind == frames.DIRECTORY_HANDLE:
            return await self._handles.evaluate(mailbox, frame)
        return await self._numbers.evaluate(mailbox, frame)

    async def put_handle(self, mailbox: bytes, frame: frames.HandlePut) -> frames.Done:
        """Answer HandlePut. Raises Refused."""
        async with self._consents.storing(mailbox, Purpose.HANDLE):
            await self._handles.put(mailbox, frame.place, frame.record)
        return frames.Done(frame.request)

    async def delete_handle(self, mailbox: bytes, frame: frames.HandleDelete) -> frames.Done:
        """Answer HandleDelete."""
        await self._handles.erase(mailbox)
        return frames.Done(frame.request)

    async def claim_number(self, mailbox: bytes, frame: frames.NumberClaim) -> frames.Done:
        """Answer NumberClaim. Raises Refused."""
        await self._consents.require(mailbox, Purpose.NUMBER)
        await self._numbers.claim(mailbox, frame.number)
        return frames.Done(frame.request)

    async def confirm_number(self, mailbox: bytes, frame: frames.NumberConfirm) -> frames.Done:
        """Answer NumberConfirm. Raises Refused."""
        async with self._consents.storing(mailbox, Purpose.NUMBER):
            await self._numbers.confirm(mailbox, frame.number, frame.code)
        return frames.Done(frame.request)

    async def put_number(self, mailbox: bytes, frame: frames.NumberPut) -> frames.Done:
        """Answer NumberPut. Raises Refused."""
        async with self._consents.storing(mailbox, Purpose.NUMBER):
            await self._numbers.put(mailbox, frame.record)
        return frames.Done(frame.request)

    async def delete_number(self, mailbox: bytes, frame: frames.NumberDelete) -> frames.Done:
        """Answer NumberDelete."""
        await self._numbers.erase(mailbox)
        return frames.Done(frame.request)

    async def get_numbers(self, mailbox: bytes, frame: frames.NumbersGet) -> frames.Numbers:
        """Answer NumbersGet. Raises Refused."""
        await self._consents.require(mailbox, Purpose.NUMBER)
        return await self._numbers.bucket(mailbox, frame)

    async def holdings(self, mailbox: bytes) -> list[Holding]:
        """Return what there is of a mailbox, for its owner."""
        return [*await self._handles.holdings(mailbox), *await self._numbers.holdings(mailbox)]

    def trim(self) -> None:
        """Forget budgets that are full."""
        self._handles.trim()
        self._numbers.trim()


def check_packages(wanted: Collection[Purpose]) -> None:
    """Raise SettingError unless what these purposes need is installed."""
    if not primitives.has_ristretto255():
        raise SettingError("the directory needs one package more: pip install 'restante[server,directory]'")
    if Purpose.NUMBER in wanted and importlib.util.find_spec("phonenumbers") is None:
        raise SettingError("numbers need one package more: pip install 'restante[server,phone]'")
