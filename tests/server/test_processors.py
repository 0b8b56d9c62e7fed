import ast
from pathlib import Path

import pytest

import restante_server
from restante_server import inventory, policy, policy_texts, processors
from restante_server.categories import LANGUAGES
from restante_server.config import SettingError
from restante_server.policy import Operator
from restante_server.processors import ROLES, Gateway, Processor, Role, Undeclared, parse

STORAGE = Processor(Role.OBJECT_STORAGE, "Example Storage", "Iceland", "agreement of 2026-01-01")
OUTWARD = {
    "stores/blob_objects.py",  # S3, behind the gateway
    "stores/redis_link.py",  # the operator's own store
    "doctor.py",  # the relay itself
}
"""The modules of the relay that open connections."""
CLIENTS = {"obstore", "obstore.store", "requests", "httpx", "urllib.request", "urllib3", "smtplib", "pywebpush"}
CALLS = {"ClientSession", "open_connection", "create_connection", "create_datagram_endpoint"}


def test_a_processor_is_read_from_one_setting() -> None:
    assert parse("object-storage=Example Storage; Iceland ;agreement of 2026-01-01") == STORAGE


@pytest.mark.parametrize(
    "text", ["", "hosting", "hosting=", "hosting=A;B", "hosting=A;;C", "push=A;B;C", "hosting=A;B;C;D"]
)
def test_what_is_no_processor(text: str) -> None:
    with pytest.raises(SettingError, match="ROLE=NAME"):
        parse(text)


def test_the_gateway_refuses_undeclared_processors_and_fields() -> None:
    fields = ["blob.id", "blob.body"]
    assert Gateway([STORAGE]).pass_out(Role.OBJECT_STORAGE, fields) == STORAGE
    with pytest.raises(Undeclared, match="declare who"):
        Gateway([]).pass_out(Role.OBJECT_STORAGE, fields)
    with pytest.raises(Undeclared, match=r"mailbox\.id"):
        Gateway([STORAGE]).pass_out(Role.OBJECT_STORAGE, [*fields, "mailbox.id"])


def test_every_field_of_a_role_is_in_the_inventory() -> None:
    names = {item.name for item in inventory.ITEMS}
    for about in ROLES.values():
        assert about.fields <= names


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_policy_names_them(language: str) -> None:
    declared = policy.document(Operator(), [STORAGE])["languages"][language]["text"]
    for part in ("Example Storage", "Iceland", "agreement of 2026-01-01", ROLES[Role.OBJECT_STORAGE].data[language]):
        assert part in declared
    assert policy_texts.NO_THIRD[language] not in declared
    assert policy_texts.NO_THIRD[language] in policy.document(Operator())["languages"][language]["text"]


def test_no_other_module_opens_connections() -> None:
    """What could hand data to somebody else: clients of HTTP, sockets, mail, other programs."""
    folder = Path(restante_server.__file__).parent
    outward = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            found = False
            if isinstance(node, ast.Import):
                found = any(each.name in CLIENTS for each in node.names)
            elif isinstance(node, ast.ImportFrom):
                found = node.module in CLIENTS
            elif isinstance(node, ast.Attribute):
                found = node.attr in CALLS
            if found:
                outward.add(path.relative_to(folder).as_posix())
    assert outward == OUTWARD


def test_the_only_way_to_object_storage_is_through_the_gateway() -> None:
    source = (Path(restante_server.__file__).parent / "app.py").read_text()
    assert source.index("gateway.pass_out(") < source.index("BlobObjects.open(")
    others = [
        path
        for path in Path(restante_server.__file__).parent.rglob("*.py")
        if "BlobObjects" in path.read_text() and path.name not in {"app.py", "blob_objects.py"}
    ]
    assert others == []
    assert processors.Gateway is Gateway
