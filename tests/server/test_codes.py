import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from restante_protocol import frames
from restante_protocol.errors import Code
from restante_server import codes
from restante_server.services.admission import code_hash
from restante_server.stores.contract import StoreUnavailable
from support.relay import Owner, Peer, relay_in_process
from support.stores import mailbox, new_redis


def test_files_hold_hashes_and_no_codes(tmp_path: Path) -> None:
    store = tmp_path / "new folder" / "relay.db"
    made = codes.leave(store, 3)
    ((path, hashes),) = codes.find(store)
    assert len(set(made)) == len(set(hashes)) == 3
    assert all(len(each) == 32 for each in hashes)
    data = path.read_bytes()
    assert not any(code.encode() in data or code.replace("-", "").encode() in data for code in made)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_not_complete_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "relay.db.codes-00.new").write_bytes(b"half")
    assert codes.find(tmp_path / "relay.db") == []


async def test_codes_reach_a_running_relay(tmp_path: Path) -> None:
    owner = Owner()
    async with relay_in_process(tmp_path, admission="invite") as relay:
        (code,) = codes.leave(tmp_path / "relay.db", 1)
        async with await Peer.own(relay.url, owner, create=False) as peer:
            while isinstance(answer := await peer.ask(lambda n: frames.Create(n, code.encode())), frames.Error):
                assert answer.code == Code.NOT_ADMITTED
            assert isinstance(answer, frames.Created)
            while codes.find(tmp_path / "relay.db"):
                await peer.ask(frames.Status)  # lets the relay go on


async def test_a_code_that_two_relays_of_a_folder_meet_is_good_once(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one comes when the first has put a code in, somebody has used it, and its file is still there."""
    opener = new_redis(redis_url)
    one, other = await opener.open(), await opener.open()
    path = tmp_path / "relay.db"
    (text,) = codes.leave(path, 1)
    code = code_hash(text.encode())
    put_in = one.add_codes

    async def meet(hashes: Sequence[bytes], lifetime: int) -> None:
        await put_in(hashes, lifetime)
        assert await other.create_mailbox(mailbox(1), bytes(32), code) is not None
        await codes.collect(path, other)
        assert codes.find(path) == [(letter, [code])], "left to the one that has it in hand"

    ((letter, _),) = codes.find(path)
    monkeypatch.setattr(one, "add_codes", meet)
    await codes.collect(path, one)
    assert codes.find(path) == []
    await codes.collect(path, other)
    assert await other.create_mailbox(mailbox(2), bytes(32), code) is None
    for node in (one, other):
        await node.close()


async def test_a_relay_that_fails_leaves_its_codes_to_the_next(tmp_path: Path, redis_url: str) -> None:
    opener = new_redis(redis_url)
    gone, store = await opener.open(), await opener.open()
    path = tmp_path / "relay.db"
    made = codes.leave(path, 2)
    await gone.close()
    with pytest.raises(StoreUnavailable):
        await codes.collect(path, gone)
    await asyncio.gather(*(codes.collect(path, store) for _ in range(3)))
    for number, text in enumerate(made):
        assert await store.create_mailbox(mailbox(number), bytes(32), code_hash(text.encode())) is not None
    assert codes.find(path) == []
    await store.close()
