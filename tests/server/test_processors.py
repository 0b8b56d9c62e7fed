import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

import restante_server
from restante_server import inventory, policy, policy_texts, processors
from restante_server.categories import LANGUAGES
from restante_server.config import SettingError
from restante_server.policy import Operator
from restante_server.processors import (
    ROLES,
    BlobName,
    Gateway,
    Outgoing,
    Processor,
    Role,
    StoredBlob,
    TextMessage,
    Undeclared,
    WakeUp,
    names_of,
    parse,
)

FOLDER = Path(restante_server.__file__).parent
STORAGE = Processor(Role.OBJECT_STORAGE, "Example Storage", "Iceland", "agreement of 2026-01-01")
SENDER = Processor(Role.SMS, "Example Telephony", "Iceland", "agreement of 2026-01-02")
KINDS: list[type[Outgoing]] = [BlobName, StoredBlob, TextMessage, WakeUp]
OUTWARD = {
    "stores/blob_objects.py": {"obstore"},  # S3: takes what the gateway has passed
    "stores/redis_link.py": {"create_connection"},  # the operator's own store
    "stores/redis_topology.py": {"redis"},  # the same: its sentinels
    "stores/redis_address.py": {"ssl"},  # the same: its certificate
    "webpush.py": {"ClientSession", "socket", "ssl"},  # push services: takes what the gateway has passed
    "sms.py": {"ClientSession"},  # a provider's webhook: takes what the gateway has passed
    "doctor.py": {"ClientSession"},  # the relay itself
    "link.py": {"ClientSession", "ws_connect"},  # the same
    "bench.py": {"ClientSession", "http"},  # the same
    "__main__.py": {"subprocess"},  # the SDK's demo, on this machine
    "persons.py": {"subprocess"},  # the SDK's commands, the same
    "workers.py": {"socket", "create_subprocess_exec"},  # keeps the port for the relay's own processes
}
"""Where the relay opens connections or starts programs, and with what: nobody else can hand data to others."""
MODULES = {
    "obstore",
    "redis",
    "requests",
    "httpx",
    "urllib.request",
    "urllib3",
    "http",
    "smtplib",
    "ftplib",
    "socket",
    "ssl",
}
MODULES |= {"subprocess", "pywebpush", "boto3"}
CALLS = {"ClientSession", "open_connection", "open_unix_connection", "create_connection", "create_datagram_endpoint"}
CALLS |= {"create_unix_connection", "sock_connect", "sock_sendto", "create_subprocess_exec", "create_subprocess_shell"}
CALLS |= {"system", "popen", "ws_connect"}


def test_a_processor_is_read_from_one_setting() -> None:
    assert parse("object-storage=Example Storage; Iceland ;agreement of 2026-01-01") == STORAGE


def test_a_push_service_says_where_it_is() -> None:
    text = "push=Example Push;Iceland;agreement of 2026-01-03; push.example.net  *.push.example.org:8443 [2001:db8::1]"
    push = parse(text)
    assert (push.role, push.name) == (Role.PUSH, "Example Push")
    assert [str(host) for host in push.hosts] == ["push.example.net", "*.push.example.org:8443", "[2001:db8::1]"]
    for wrong in ("https://push.example.net", "push.example.net/", "Push.example.net", "*", "a..b", "*.*.net", "a:0"):
        with pytest.raises(SettingError, match="a host of a push service"):
            parse(f"push=A;B;C;push.example.net {wrong}")
    with pytest.raises(SettingError, match="a host of a push service"):
        parse("push=A;B;C;push.example.net:65536")


def test_a_push_goes_to_the_service_that_its_endpoint_is_at() -> None:
    services = [parse(f"push={name};Iceland;agreement;push.{name.lower()}.net") for name in ("One", "Other")]
    gateway = Gateway([STORAGE, *services])
    assert list(gateway.processors(Role.PUSH)) == services
    passed = gateway.pass_out(WakeUp("https://push.other.net/a", "vapid"))
    assert passed.processor == services[1]
    with pytest.raises(Undeclared, match="no push that is declared"):
        gateway.pass_out(WakeUp("https://push.third.net/a", "vapid"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hosting",
        "hosting=",
        "hosting=A;B",
        "hosting=A;;C",
        "mail=A;B;C",
        "hosting=A;B;C;D",
        "push=A;B;C",
        "push=A;B;C;",
    ],
)
def test_what_is_no_processor(text: str) -> None:
    with pytest.raises(SettingError, match="ROLE=NAME"):
        parse(text)


def test_the_gateway_refuses_undeclared_processors_and_fields() -> None:
    passed = Gateway([STORAGE]).pass_out(BlobName(b"id"))
    assert (passed.processor, passed.values.id) == (STORAGE, b"id")
    for values in (BlobName(b"id"), TextMessage("+3545551234", "code")):
        with pytest.raises(Undeclared, match="declare who"):
            Gateway([]).pass_out(values)
    with pytest.raises(Undeclared, match="sms=NAME"):
        Gateway([STORAGE]).pass_out(TextMessage("+3545551234", "code"))

    @dataclass(frozen=True, slots=True, repr=False)
    class More(BlobName):
        receive_key: bytes

    with pytest.raises(Undeclared, match=r"blob\.receive_key"):
        Gateway([STORAGE]).pass_out(More(b"id", b"key"))


def test_what_goes_out_is_not_shown() -> None:
    for values in (TextMessage("+3545551234", "code"), Gateway([SENDER]).pass_out(TextMessage("+3545551234", "code"))):
        assert "354" not in repr(values)


def test_what_a_role_receives_is_in_the_inventory_and_all_of_it_is_handed_out() -> None:
    names = {item.name for item in inventory.ITEMS}
    handed: dict[Role, set[str]] = {role: set() for role in Role}
    for kind in KINDS:
        handed[kind.role] |= names_of(kind)
    assert {role: set(about.fields) for role, about in ROLES.items()} == handed
    assert set().union(*handed.values()) <= names
    kinds = {each for each in vars(processors).values() if isinstance(each, type) and issubclass(each, Outgoing)}
    assert kinds - {Outgoing} == set(KINDS)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_policy_names_them(language: str) -> None:
    declared = policy.document(Operator(), [STORAGE])["languages"][language]["text"]
    for part in ("Example Storage", "Iceland", "agreement of 2026-01-01", ROLES[Role.OBJECT_STORAGE].data[language]):
        assert part in declared
    assert policy_texts.NO_THIRD[language] not in declared
    push = parse("push=Example Push;Iceland;agreement;push.example.net *.push.example.org")
    pushed = policy.document(Operator(), [push])["languages"][language]["text"]
    assert f"{policy_texts.PROCESSOR['hosts'][language]}: push.example.net *.push.example.org" in pushed
    assert policy_texts.NO_THIRD[language] in policy.document(Operator())["languages"][language]["text"]


def is_in(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


def outward(source: str) -> set[str]:
    """Return what a module can reach others with: modules that it imports, and names that it uses."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import():
                found |= {known for known in MODULES for each in node.names if is_in(each.name, known)}
            case ast.ImportFrom(module=str(module)) if not node.level:
                found |= {known for known in MODULES if is_in(module, known)}
                found |= {each.name for each in node.names} & CALLS
            case ast.Attribute(attr=name) | ast.Name(id=name):
                found |= {name} & CALLS
            case ast.Call(func=ast.Attribute(value=ast.Name(id="aiohttp"), attr="request")):
                found.add("ClientSession")
    return found


def test_no_other_module_opens_connections() -> None:
    sources = {path.relative_to(FOLDER).as_posix(): path.read_text() for path in FOLDER.rglob("*.py")}
    assert {name: found for name, source in sources.items() if (found := outward(source))} == OUTWARD


@pytest.mark.parametrize(
    "source",
    [
        "import obstore.store",
        "from obstore import put_async",
        "import socket",
        "import aiohttp\naiohttp.ClientSession()",
        "from aiohttp import ClientSession as Session",
        "import aiohttp\nasync def f(): await aiohttp.request('POST', url)",
        "import asyncio\nasync def f(): await asyncio.open_connection('a', 1)",
        "async def f(loop): await loop.create_connection(None, 'a', 1)",
        "from urllib.request import urlopen",
        "import os\nos.system('curl')",
    ],
)
def test_another_way_out_would_be_found(source: str) -> None:
    assert outward(source)


def test_what_opens_connections_takes_only_what_was_passed() -> None:
    """Every call to object storage names its object by ``_path`` of something passed; nobody else makes a Passed."""
    tree = ast.parse((FOLDER / "stores" / "blob_objects.py").read_text())
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr.endswith("_async")
    ]
    assert len(calls) > 5
    assert {ast.unparse(call.args[1]) for call in calls} == {"self._path", "self._path(blob)"}
    (path,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "_path"]
    assert path.args.args[0].annotation is not None
    assert ast.unparse(path.args.args[0].annotation) == "Passed[BlobName] | Passed[StoredBlob]"
    tree = ast.parse((FOLDER / "sms.py").read_text())
    (post,) = [node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef) and node.name == "post"]
    assert "ClientSession" in ast.unparse(post)
    assert ast.unparse(tree).count("ClientSession") == ast.unparse(post).count("ClientSession")
    assert post.args.args[1].annotation is not None
    assert ast.unparse(post.args.args[1].annotation) == "Passed[TextMessage]"
    tree = ast.parse((FOLDER / "webpush.py").read_text())
    (post,) = [node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef) and node.name == "post"]
    assert ast.unparse(tree).count("_session.post(") == ast.unparse(post).count("_session.post(") == 1
    assert post.args.args[1].annotation is not None
    assert ast.unparse(post.args.args[1].annotation) == "Passed[WakeUp]"
    makers = {
        file.relative_to(FOLDER).as_posix()
        for file in FOLDER.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).partition("[")[0].endswith("Passed")
    }
    assert makers == {"processors.py"}
