import asyncio
import itertools
import signal
import sys
from pathlib import Path

import pytest

from restante_protocol import frames
from restante_protocol.errors import Code
from restante_server import codes
from restante_server.clock import system_clock
from restante_server.config import CODE_LIFETIME
from restante_server.services.admission import code_hash
from restante_server.stores.contract import StoreUnavailable
from support.relay import Owner, Peer, RelayProcess, relay_in_process, relay_process
from support.stores import START, MovedClock, Opener, mailbox, new_redis

STOPPED = """
import os, runpy, signal, sys

fatal = sys.argv.pop(1)

def hook(event, arguments):
    if event == fatal and arguments and ".codes-" in str(arguments[0]):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
runpy.run_module("restante_server", run_name="__main__")
"""


def test_files_hold_hashes_and_no_codes(tmp_path: Path) -> None:
    store = tmp_path / "new folder" / "relay.db"
    made = codes.leave(store, 3, START)
    (letter,) = codes.find(store)
    assert letter.made == START // 1000
    assert len(set(made)) == len(set(letter.hashes)) == 3
    assert all(len(each) == 32 for each in letter.hashes)
    data = letter.path.read_bytes()
    assert not any(code.encode() in data or code.replace("-", "").encode() in data for code in made)
    assert letter.path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_not_complete_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "relay.db.codes-00.new").write_bytes(b"half")
    assert codes.find(tmp_path / "relay.db") == []


async def test_codes_reach_a_running_relay(tmp_path: Path) -> None:
    owner = Owner()
    async with relay_in_process(tmp_path, admission="invite") as relay:
        (code,) = codes.leave(tmp_path / "relay.db", 1, system_clock())
        async with await Peer.own(relay.url, owner, create=False) as peer:
            while isinstance(answer := await peer.ask(lambda n: frames.Create(n, code.encode())), frames.Error):
                assert answer.code == Code.NOT_ADMITTED
            assert isinstance(answer, frames.Created)
            while codes.find(tmp_path / "relay.db"):
                await peer.ask(frames.Status)  # lets the relay go on


async def _create(url: str, code: str) -> frames.RelayFrame:
    async with await Peer.own(url, Owner(), create=False) as peer:
        answer: frames.RelayFrame = await peer.ask(lambda n: frames.Create(n, code.encode()))
        return answer


@pytest.mark.usefixtures("chosen_store")
async def test_a_relay_that_is_killed_at_any_step_admits_one_mailbox_by_a_code(tmp_path: Path) -> None:
    """Before it reads the letter, and before it removes it: then the codes are in the store, and used."""
    path = tmp_path / "relay.db"
    used, left = codes.leave(path, 2, system_clock())
    for event in ("open", "os.remove"):
        with pytest.raises(AssertionError, match=r"^$"):  # it ends before it is ready, and without a word
            await RelayProcess.start(tmp_path, "--admission=invite", command=(sys.executable, "-c", STOPPED, event))
        (letter,) = codes.find(path)
    data = letter.path.read_bytes()
    async with relay_process(tmp_path, "--admission=invite") as again:
        assert codes.find(path) == []
        assert isinstance(await _create(again.url, used), frames.Created)
        assert await again.stop(signal.SIGKILL) == -signal.SIGKILL
    letter.path.write_bytes(data)  # the removal was lost with the power
    async with relay_process(tmp_path, "--admission=invite") as again:
        assert codes.find(path) == []
        assert (await _create(again.url, used)).code == Code.NOT_ADMITTED
        assert isinstance(await _create(again.url, left), frames.Created)
        assert (await _create(again.url, left)).code == Code.NOT_ADMITTED


async def test_a_code_that_two_relays_of_a_folder_meet_is_good_once(tmp_path: Path, redis_url: str) -> None:
    """The other one has put it in and somebody has used it, while the first has read its letter, and no more."""
    opener = new_redis(redis_url)
    one, other = await opener.open(), await opener.open()
    path = tmp_path / "relay.db"
    (text,) = codes.leave(path, 1, START)
    (letter,) = codes.find(path)
    data = letter.path.read_bytes()
    await codes.collect(path, other, opener.clock)
    assert await other.create_mailbox(mailbox(1), bytes(32), code_hash(text.encode())) is not None
    letter.path.write_bytes(data)
    await codes.collect(path, one, opener.clock)
    assert codes.find(path) == []
    for number, node in itertools.product((2, 3), (one, other)):
        assert await node.create_mailbox(mailbox(number), bytes(32), code_hash(text.encode())) is None
    for node in (one, other):
        await node.close()


async def test_a_letter_that_comes_when_its_codes_are_forgotten_is_void(tmp_path: Path) -> None:
    opener = Opener(tmp_path / "relay.db", clock=MovedClock())
    store = await opener.open()
    (text,) = codes.leave(opener.path, 1, START)
    (letter,) = codes.find(opener.path)
    data = letter.path.read_bytes()
    await codes.collect(opener.path, store, opener.clock)
    assert await store.create_mailbox(mailbox(1), bytes(32), code_hash(text.encode())) is not None
    opener.clock.advance(CODE_LIFETIME)
    await store.sweep()
    letter.path.write_bytes(data)
    await codes.collect(opener.path, store, opener.clock)
    assert codes.find(opener.path) == []
    assert await store.create_mailbox(mailbox(2), bytes(32), code_hash(text.encode())) is None
    await store.close()


async def test_a_relay_that_fails_leaves_its_codes_to_the_next(tmp_path: Path, redis_url: str) -> None:
    opener = new_redis(redis_url)
    gone, store = await opener.open(), await opener.open()
    path = tmp_path / "relay.db"
    made = codes.leave(path, 2, START)
    await gone.close()
    with pytest.raises(StoreUnavailable):
        await codes.collect(path, gone, opener.clock)
    await asyncio.gather(*(codes.collect(path, store, opener.clock) for _ in range(3)))
    for number, text in enumerate(made):
        assert await store.create_mailbox(mailbox(number), bytes(32), code_hash(text.encode())) is not None
    assert codes.find(path) == []
    await store.close()
