import asyncio
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from redis import Redis
from typer.testing import CliRunner

from restante_server import doctor
from restante_server.__main__ import cli
from support.push_service import push_service
from support.relay import relay_in_process


def _finding(findings: list[doctor.Finding], name: str) -> doctor.Finding:
    (found,) = [finding for finding in findings if finding.name == name]
    return found


def test_findings_without_a_relay(tmp_path: Path) -> None:
    findings = list(doctor.examine(tmp_path / "not" / "yet" / "relay.db", ""))
    assert [finding.name for finding in findings] == ["open files", "clock", "directory", "file system", "disk sync"]
    assert _finding(findings, "clock").ok
    assert "ms" in _finding(findings, "disk sync").text
    assert list(tmp_path.iterdir()) == [], "it leaves nothing behind"


async def test_the_directorys_key_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(key: Path | None = None) -> doctor.Finding:
        return _finding(list(doctor.examine(tmp_path / "relay.db", "", oprf_key=key)), "directory")

    path = tmp_path / "oprf.key"
    async with relay_in_process(tmp_path):
        pass
    assert "no oprf.key" in found().text
    path.write_bytes(b"short")
    assert (found().ok, "not a key" in found().text) == (False, True)
    path.write_bytes(os.urandom(32))
    path.chmod(0o600)
    assert found().ok, "there is no directory yet"
    async with relay_in_process(tmp_path, purposes=("handle",)):
        pass
    assert found().ok
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(os.urandom(32))
    elsewhere.chmod(0o600)
    assert (found(elsewhere).ok, "not the key" in found(elsewhere).text) == (False, True)
    path.chmod(0o640)
    assert (found().ok, "others" in found().text) == (False, True)
    (tmp_path / "relay.key").unlink()
    path.chmod(0o600)
    assert found().ok, "there is nothing to compare it with"
    monkeypatch.setitem(sys.modules, "rbcl", None)
    assert (found().ok, "restante[directory]" in found().text) == (False, True)


async def test_push_services_are_looked_at(tmp_path: Path) -> None:
    async def found(*arguments: str) -> str:
        command = ["doctor", f"--store=sqlite:{tmp_path / 'relay.db'}", *arguments]
        return (await asyncio.to_thread(CliRunner().invoke, cli, command)).output

    async with push_service() as service:
        declared = f"--processor={service.declaration} *.push.example.net"
        assert "ok   push: the hosts" in await found(declared, "--push-private")
        assert f"FAIL push: no answer, or not at a public address: {service.host}" in await found(declared)
    assert "push" not in await found()
    assert "a processor is ROLE=NAME" in await found("--processor=push")


def test_a_clock_in_the_past_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("restante_server.doctor.time.time", lambda: 0.0)
    assert not _finding(list(doctor.examine(tmp_path / "relay.db", "")), "clock").ok


def test_a_clock_that_went_back_is_found(tmp_path: Path) -> None:
    wal = tmp_path / "relay.db-wal"
    wal.touch()
    assert _finding(list(doctor.examine(tmp_path / "relay.db", "")), "clock").ok
    later = wal.stat().st_mtime + 3600
    os.utime(wal, (later, later))
    found = _finding(list(doctor.examine(tmp_path / "relay.db", "")), "clock")
    assert (found.ok, "went back" in found.text) == (False, True)


@pytest.mark.parametrize(
    ("kind", "ok"),
    [
        *((local, True) for local in ("ext4", "xfs", "btrfs", "overlay", "tmpfs")),
        *((network, False) for network in ("nfs4", "cifs", "9p", "fuse.sshfs", "fuse.s3fs")),
    ],
)
def test_network_file_systems_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, ok: bool) -> None:
    mounts, folder = tmp_path / "mounts", tmp_path / "a disk"
    folder.mkdir()
    written = str(folder).replace(" ", "\\040")
    mounts.write_text(
        f"root / ext4 rw 0 0\nother {written}/x nfs4 rw 0 0\nother {str(folder)[:-1]} nfs4 rw 0 0\n"
        f"disk {written} ext4 rw 0 0\ndisk {written} {kind} rw 0 0\n"
    )
    monkeypatch.setattr(doctor, "_MOUNTS", mounts)
    found = _finding(list(doctor.examine(folder / "relay.db", "")), "file system")
    assert (found.ok, found.text.split()[0]) == (ok, kind)


def test_a_system_without_a_list_of_mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_MOUNTS", tmp_path / "none")
    assert _finding(list(doctor.examine(tmp_path / "relay.db", "")), "file system").ok


def test_too_few_open_files_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ENOUGH_FILES", 2**62)
    assert not _finding(list(doctor.examine(tmp_path / "relay.db", "")), "open files").ok


def _try(url: str) -> doctor.Finding:
    return _finding(list(doctor.examine(Path("relay.db"), url)), "round trip")


async def test_a_message_goes_through_the_relay_and_leaves_nothing(tmp_path: Path) -> None:
    async with relay_in_process(tmp_path) as relay:
        found = await asyncio.to_thread(_try, relay.url)
        assert found.ok
        assert re.fullmatch(r"accepted after [\d.]+ ms, delivered after [\d.]+ ms, level=power", found.text)
        totals = await relay.store.totals()
        assert (totals.mailboxes, totals.entries) == (0, 0)


async def test_a_redis_store_is_looked_at(tmp_path: Path, redis_url: str) -> None:
    def redis(url: str) -> doctor.Finding:
        return _finding(list(doctor.examine(tmp_path / "relay.db", "", url)), "redis")

    url = f"{redis_url}?prefix=test-{os.urandom(8).hex()}"
    found = await asyncio.to_thread(redis, url)
    assert (found.ok, found.text) == (True, "level=power")
    found = await asyncio.to_thread(redis, "redis://127.0.0.1:1")
    assert not found.ok
    with Redis.from_url(redis_url) as client:
        try:
            await asyncio.to_thread(client.config_set, "maxmemory-policy", "allkeys-lru")
            found = await asyncio.to_thread(redis, url)
            assert (found.ok, "maxmemory-policy" in found.text) == (False, True)
            await asyncio.to_thread(client.config_set, "maxmemory-policy", "noeviction")
            await asyncio.to_thread(client.config_set, "appendfsync", "everysec")
            found = await asyncio.to_thread(redis, url)
            assert (found.ok, "level=process" in found.text) == (True, True)
        finally:
            for name, value in (("maxmemory-policy", "noeviction"), ("appendfsync", "always")):
                await asyncio.to_thread(client.config_set, name, value)


async def test_a_relay_by_invitation_only_answers(tmp_path: Path) -> None:
    async with relay_in_process(tmp_path, admission="closed") as relay:
        found = await asyncio.to_thread(_try, relay.url)
    assert (found.ok, "nothing was deposited" in found.text) == (True, True)


async def test_a_relay_that_takes_nothing_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))
    async with relay_in_process(tmp_path) as relay:
        found = await asyncio.to_thread(_try, relay.url)
    assert (found.ok, found.text) == (False, "the relay refuses: full")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_found(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert not _finding(list(doctor.examine(tmp_path / "relay.db", "")), "disk sync").ok
