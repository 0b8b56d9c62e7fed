"""Options and settings of the whole suite."""

import asyncio
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import structlog
from hypothesis import HealthCheck, settings

from restante import passphrase
from restante_crypto import directory
from restante_server import logs
from restante_server.purposes import Purpose
from support import people, relay, scenario
from support.directories import CHEAP, Phones
from support.redis_servers import folders_of, redis_itself, running_cluster, running_server

settings.register_profile(
    "restante",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("restante")


MEMORY: Final = Path("/dev/shm")  # noqa: S108 -- where Linux has a file system in memory
ROOM: Final = 6 << 30  # bytes; were no test to pass, the whole suite would leave 1.5 GB


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--mls-vectors",
        type=Path,
        default=None,
        help="folder with the official MLS test vectors (default: ../shared/mls-test-vectors)",
    )
    parser.addoption("--kills", type=int, default=3, help="kill -9 in each test of tests/client_sdk/test_crash.py")
    parser.addoption("--frames", type=int, default=10_000, help="random and mutated frames sent to a relay")
    parser.addoption("--inputs", type=int, default=2000, help="mutated inputs of each fuzz target; fewer of slow ones")
    parser.addoption("--dictionary", type=int, default=1000, help="names tried in tests/test_dictionary.py")
    parser.addoption("--schedules", type=int, default=5, help="random schedules with each other MLS implementation")
    parser.addoption("--resume", action="store_true", help="go on with the schedules where the last run stopped")
    parser.addoption(
        "--refuse-all", action="store_true", help="relays offer every optional purpose, and people refuse them all"
    )
    parser.addoption(
        "--store",
        choices=("sqlite", "redis", "cluster"),
        default="sqlite",
        help="of relays whose test names none; two relays for clients, where it is not a file",
    )
    parser.addoption("--redis-server", default="", help="program of the servers of all tests over Redis")
    parser.addoption("--seed", type=int, default=1, help="of every random schedule")


def pytest_configure(config: pytest.Config) -> None:
    if program := config.getoption("--redis-server"):
        os.environ["RESTANTE_TEST_SERVER"] = program
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= ROOM:  # a disk's syncs are what most tests wait for
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
    if config.getoption("--refuse-all"):
        relay.offered = tuple(Purpose)
        os.environ["RESTANTE_PURPOSES"] = ",".join(Purpose)  # of relays in processes of their own
        os.environ["RESTANTE_SMS"] = "console"
        os.environ["RESTANTE_PROCESSOR"] = relay.PUSH
        people.refuse_all = True


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """Let no test's log go where a test before it sent its own: to a stream that is closed by then."""
    yield
    if structlog.is_configured():
        logging.captureWarnings(capture=False)
        root = logging.getLogger()
        for handler in [each for each in root.handlers if isinstance(each, logs.Foreign)]:
            root.removeHandler(handler)
        structlog.reset_defaults()


@pytest.fixture(autouse=True)
def shared_store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have relays over the store of ``--store``; tests of the relay itself look into one of them."""
    store = request.config.getoption("--store")
    if store != "sqlite":
        if request.node.get_closest_marker("database_file"):
            pytest.skip("about the database file")
        monkeypatch.setattr(relay, "shared_store", request.getfixturevalue(f"{store}_url"))
        alone = "server" in request.path.parts or request.node.get_closest_marker("one_relay")
        monkeypatch.setattr(relay, "nodes", 1 if alone else 2)


@pytest.fixture(scope="session", autouse=True)
def passphrase_cost() -> Iterator[tuple[int, int]]:
    """The door for tests: Argon2id of a passphrase costs nothing in this process. What it costs else (runs, bytes)."""
    with pytest.MonkeyPatch.context() as patch:
        cost = passphrase.OPERATIONS, passphrase.MEMORY
        patch.setattr(passphrase, "OPERATIONS", CHEAP.operations)
        patch.setattr(passphrase, "MEMORY", CHEAP.memory)
        yield cost


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The door for tests: Argon2id of the directory costs nothing in this process."""
    monkeypatch.setattr(directory, "COST", CHEAP)


@pytest.fixture
def willing(monkeypatch: pytest.MonkeyPatch) -> None:
    """People who grant what a test is about, also with --refuse-all."""
    monkeypatch.setattr(people, "refuse_all", False)


@pytest.fixture
def phones(capfd: pytest.CaptureFixture[str]) -> Phones:
    """Everybody's telephones: what the console sender shows."""
    shown: list[str] = []

    def read() -> str:
        shown.append(capfd.readouterr().err)
        return "".join(shown)

    return Phones(read)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One server for the whole session."""
    yield from running_server(tmp_path_factory.mktemp("redis"))


@pytest.fixture(scope="session")
def redis_itself_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The same, of Redis, not Valkey."""
    program = redis_itself()
    if program is None:
        pytest.skip("no redis-server is installed: name one with --redis-server PATH")
    yield from running_server(tmp_path_factory.mktemp("redis-itself"), program)


@pytest.fixture(params=["sqlite", "redis", "cluster"])
def any_store(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The setting for a relay on each store, an empty one, whatever ``--store`` says."""
    if request.param == "sqlite":
        return {"redis": ""}
    return {"redis": f"{request.getfixturevalue(f'{request.param}_url')}?prefix=test-{os.urandom(8).hex()}"}


@pytest.fixture(params=["sqlite", "redis", "cluster"])
def chosen_store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, shared_store: None) -> None:
    """Have one relay over each store, as ``--store`` does: for tests that look at its disk."""
    url = "" if request.param == "sqlite" else request.getfixturevalue(f"{request.param}_url")
    monkeypatch.setattr(relay, "shared_store", url)
    monkeypatch.setattr(relay, "nodes", 1)


@pytest.fixture(scope="session", params=["sqlite", "redis", "cluster"])
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> scenario.Seen:
    """What a relay that was used for everything stored and emitted, on each store."""
    redis = ""
    if request.param != "sqlite":
        redis = f"{request.getfixturevalue(f'{request.param}_url')}?prefix=test-{os.urandom(8).hex()}"
    return asyncio.run(scenario.run(tmp_path_factory.mktemp("seen"), redis))


@pytest.fixture(scope="session")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Three masters with replicas for the whole session."""
    yield from running_cluster(tmp_path_factory.mktemp("cluster"))


@pytest.fixture(params=["sqlite", "redis", "cluster"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[list[str], list[Path]]:
    """Return a relay's arguments for a store, and the folders of all that this store writes."""
    folder = tmp_path / "relay"
    if request.param == "sqlite":
        return [f"--store=sqlite:{folder / 'relay.db'}"], [folder]
    url: str = request.getfixturevalue("redis_url" if request.param == "redis" else "cluster_url")
    return [f"--store={url}?prefix=test-{os.urandom(8).hex()}", f"--state={folder}"], [folder, *folders_of(url)]
