"""What is on a relay's side for whoever takes the disk, whichever store ``--store`` chose."""

import contextlib
import shutil
from pathlib import Path

import apsw

from restante_server.stores import backup as backups
from support import observed, relay
from support.redis_records import Records
from support.redis_servers import folders_of


def _records(folder: Path) -> Records | None:
    if not relay.shared_store:
        return None
    url = relay.store_of(folder / "relay.db")
    return Records(url, url.rpartition("=")[2])


def places(folder: Path) -> list[Path]:
    """Return the folders in which all is that a relay over this folder writes: its own, and those of its servers."""
    return [folder, *(folders_of(relay.shared_store) if relay.shared_store else [])]


def files(*folders: Path) -> dict[str, bytes]:
    """Return what is in all files of these folders."""
    found: dict[str, bytes] = {}
    for path in (path for folder in folders for path in folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # a server has written it anew
            if path.is_file():
                found[path.as_posix()] = path.read_bytes()
    return found


def back_up(folder: Path, destination: Path) -> None:
    """Make a backup: on Redis it is a copy of the servers' files."""
    if not relay.shared_store:
        backups.backup(folder / "relay.db", destination)
        return
    for number, place in enumerate(folders_of(relay.shared_store)):
        shutil.copytree(place, destination / str(number))


def lose(folder: Path) -> None:
    """Lose the store, the relay's key aside."""
    records = _records(folder)
    if records is not None:
        records.clear()
        return
    for path in folder.glob("relay.db*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def slots(folder: Path) -> dict[bytes, bytes]:
    """Return the bodies of all slots by their ids."""
    records = _records(folder)
    if records is not None:
        return {slot: record[14:] for slot, record in records.read().hash("slot").items()}
    with contextlib.closing(apsw.Connection(str(folder / "relay.db"))) as db:
        return dict(db.execute("SELECT id, body FROM slot"))


def addresses(folder: Path) -> set[bytes]:
    """Return the ids of all deposit addresses."""
    records = _records(folder)
    return set(records.read().hash("address") if records else observed.values(folder / "relay.db", "address", "id"))


def packages(folder: Path) -> set[bytes]:
    """Return all one-time prekeys."""
    records = _records(folder)
    return records.read().packages() if records else set(observed.values(folder / "relay.db", "prekey", "package"))
