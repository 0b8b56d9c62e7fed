from pathlib import Path

from restante_protocol import frames
from restante_protocol.errors import Code
from restante_server import codes
from support.relay import Owner, Peer, relay_in_process


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
