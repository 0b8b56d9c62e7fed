from pathlib import Path

from restante_protocol import frames
from restante_protocol.errors import Code
from restante_server import codes
from restante_server.clock import system_clock
from restante_server.services.admission import code_hash, new_code
from support.relay import Owner, Peer, relay_in_process


async def _create(url: str, owner: Owner, admission: bytes) -> frames.RelayFrame:
    async with await Peer.own(url, owner, create=False) as peer:
        answer: frames.RelayFrame = await peer.ask(lambda n: frames.Create(n, admission))
        return answer


async def test_welcome_says_who_is_admitted(tmp_path: Path) -> None:
    for mode, number in (("open", 0), ("invite", 1), ("closed", 2)):
        async with relay_in_process(tmp_path, admission=mode) as relay, await Peer.connect(relay.url) as peer:
            assert peer.welcome.admission == number


async def test_a_code_admits_one_mailbox(tmp_path: Path) -> None:
    (code,) = codes.leave(tmp_path / "relay.db", 1, system_clock())
    first, second = Owner(), Owner()
    async with relay_in_process(tmp_path, admission="invite") as relay:
        for wrong in (b"", b"WRONG", bytes(64)):
            assert (await _create(relay.url, first, wrong)).code == Code.NOT_ADMITTED
        assert isinstance(await _create(relay.url, first, code.lower().encode()), frames.Created)
        assert isinstance(await _create(relay.url, first, b""), frames.Created), "it exists"
        assert (await _create(relay.url, second, code.encode())).code == Code.NOT_ADMITTED


async def test_a_receipt_admits_its_mailbox_again(tmp_path: Path) -> None:
    owner, other = Owner(), Owner()
    async with relay_in_process(tmp_path) as relay:
        created = await _create(relay.url, owner, b"")
        async with await Peer.own(relay.url, owner) as peer:
            await peer.ask(frames.MailboxDelete)
    assert isinstance(created, frames.Created)
    for mode in ("closed", "invite"):
        async with relay_in_process(tmp_path, admission=mode) as relay:
            assert (await _create(relay.url, other, created.receipt)).code == Code.NOT_ADMITTED
            assert isinstance(await _create(relay.url, owner, created.receipt), frames.Created)
            async with await Peer.own(relay.url, owner) as peer:
                await peer.ask(frames.MailboxDelete)


async def test_a_closed_relay_serves_those_it_has(tmp_path: Path) -> None:
    owner = Owner()
    async with relay_in_process(tmp_path) as relay:
        await _create(relay.url, owner, b"")
    async with relay_in_process(tmp_path, admission="closed") as relay:
        assert isinstance(await _create(relay.url, owner, b""), frames.Created)
        assert (await _create(relay.url, Owner(), b"")).code == Code.NOT_ADMITTED


def test_codes_are_read_as_people_write_them() -> None:
    code = new_code()
    assert len(code) == 19
    assert code_hash(code.encode()) == code_hash(code.lower().replace("-", " ").encode())
    assert code_hash(code.encode()) != code_hash(new_code().encode())
