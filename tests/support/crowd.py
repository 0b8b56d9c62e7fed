"""A relay with so many mailboxes that it takes diagnostics."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from restante_protocol.diagnostics import LEAST_MAILBOXES
from restante_server.app import Relay
from support.relay import relay_in_process
from support.stores import mailbox
from support.waiting import until


@contextlib.asynccontextmanager
async def crowded(folder: Path) -> AsyncIterator[Relay]:
    """Run it, once it has seen how many there are."""
    async with relay_in_process(folder) as relay:
        await asyncio.gather(*(relay.store.create_mailbox(mailbox(n), bytes(32), None) for n in range(LEAST_MAILBOXES)))
    async with relay_in_process(folder, purposes=("diagnostics",)) as relay:
        await until(lambda: relay.diagnostics.open)
        yield relay
