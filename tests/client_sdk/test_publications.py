import asyncio
from pathlib import Path

import pytest

from restante import Client, manage, publications
from restante_crypto import primitives
from support.relay import relay_in_process


@pytest.mark.parametrize("content", [b"", b"{}", b'{"operator":{"name":"","contact":""},"languages":{}}'])
def test_what_is_no_policy(content: bytes) -> None:
    version = primitives.blake2b(content, size=8, person=b"restante policy").hex()
    listed = publications.read_listed(b'[{"number":1,"version":"%s","published":1}]' % version.encode())[0]
    with pytest.raises(ValueError, match=r".+"):
        publications.read_policy(listed, content)


@pytest.mark.parametrize(
    "content",
    [
        b'[{"number":1,"version":"v","published":253402300800}]',
        b'[{"number":1,"version":"v","published":-1}]',
        b'[{"number":9007199254740992,"version":"v","published":1}]',
        b'[{"number":1,"version":"v","published":1,"more":' + b"[" * 5000 + b"]" * 5000 + b"}]",
    ],
)
def test_what_is_no_list_of_policies(content: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        publications.read_listed(content)


@pytest.mark.parametrize("content", [b"", b'{"vapid":""}', b'{"vapid":"' + b"A" * 87 + b'","more":' + b"[" * 5000])
def test_what_is_no_key_for_push_services(content: bytes) -> None:
    assert publications.read_push(b'{"vapid":"%s"}' % (b"A" * 87)) == "A" * 87
    with pytest.raises(ValueError, match=r".+"):
        publications.read_push(content)


def test_an_announcement_of_the_year_10000_is_none() -> None:
    text = '[{"number":1,"at":%d,"kind":"news","texts":{"en":"text"}}]'
    latest = 253_402_300_800_000 - 1
    assert publications.read_announcements((text % latest).encode())[0].at == latest
    with pytest.raises(ValueError, match="253402300799999"):
        publications.read_announcements((text % (latest + 1)).encode())


async def test_what_a_relay_says_does_not_command_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RESTANTE_PASSPHRASE", "p")
    async with relay_in_process(tmp_path / "relay", operator_name="Op\x1b]0;gone\x07") as relay:
        async with Client.open(tmp_path / "a.db", relay=relay.url, passphrase="p") as client:
            await client.invite()
        assert await asyncio.to_thread(manage.main, ["policy", str(tmp_path / "a.db"), "--relay", relay.url]) == 0
    shown = capsys.readouterr().out
    assert "Op\ufffd]0;gone\ufffd" in shown
    assert "\x1b" not in shown
