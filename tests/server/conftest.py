"""A relay in this process, watched for calls that would block its event loop."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx

from restante_server.app import Relay
from support.relay import relay_in_process


@pytest.fixture
async def relay(tmp_path: Path) -> AsyncIterator[Relay]:
    with blockbuster_ctx("restante_server") as blocking:
        blocking.functions["os.statvfs"].can_block_in("sqlite_writer.py", "_refuse_if_full")  # local: never waits
        async with relay_in_process(tmp_path, ops_listen=("127.0.0.1", 0)) as running:
            yield running
