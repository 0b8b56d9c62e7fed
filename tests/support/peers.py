"""Members of a group by several implementations of MLS, behind one face: ours, ts-mls (two versions) and rine-mls.

The others are installed by ``make peers`` into a folder that git ignores; without it ``missing`` says why tests skip.
"""

import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from restante_crypto import primitives
from restante_crypto.mls import (
    Add,
    Application,
    Capabilities,
    CommitProcessed,
    Credential,
    Group,
    KeyPackage,
    LeafNode,
    Lifetime,
    Proposal,
    ProposalReceived,
    Remove,
    SignatureKeyPair,
    create_key_package,
    key_package_message,
    parse_key_package_message,
)
from restante_crypto.mls.framing import CONTENT_APPLICATION
from restante_crypto.mls.message import MLSMessage
from restante_crypto.mls.private_message import PrivateMessage
from restante_crypto.mls.welcome import GroupInfo
from restante_crypto.suites import SUITES

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / ".peers"
_WORKER = ROOT / "tests" / "interop" / "peers" / "worker.mjs"

TS_MLS_1 = "ts-mls 1.6.4"
TS_MLS_2 = "ts-mls 2.0.0-rc.10"
RINE = "rine-mls 0.1.1"
OURS = "restante"

SHARED = {TS_MLS_1: (3, 1, 84), TS_MLS_2: (3, 1, 0xF00E), RINE: (1,)}
"""The suites that a peer and we have."""


def missing(kind: str) -> str | None:
    """Why this peer cannot run here, or None."""
    if kind == RINE:
        return None if (PEERS / "python" / "rine_mls").is_dir() else "rine-mls is not installed: make peers"
    if shutil.which("node") is None:
        return "there is no node: ts-mls cannot run"
    major = 1 if kind == TS_MLS_1 else 2
    return None if (PEERS / "node_modules" / f"ts-mls-{major}").is_dir() else "ts-mls is not installed: make peers"


class Refused(Exception):  # noqa: N818 -- says what is the case
    """A peer raised an error of its own."""


@dataclass(frozen=True)
class State:
    """What all members of an epoch must agree on; ``secret`` is exported, or the confirmation tag."""

    epoch: int
    tree_hash: bytes
    authenticator: bytes


class Member(Protocol):
    """A client in at most one group. ``by_reference``: whether it can propose and take proposals.

    ``public`` asks for a PublicMessage; who has no call for it sends a PrivateMessage.
    """

    kind: str
    by_reference: bool
    key_package: bytes

    def create(self, group_id: bytes) -> None: ...
    def join(self, welcomes: list[bytes]) -> None: ...
    def commit(self, adds: list[bytes], removes: list[int], *, public: bool) -> tuple[bytes, list[bytes]]: ...
    def propose(self, add: bytes | None, remove: int | None, *, public: bool) -> bytes: ...
    def protect(self, data: bytes) -> bytes: ...
    def process(self, message: bytes) -> bytes | None: ...
    def index(self) -> int: ...
    def state(self) -> State: ...


def _nobody(_new: LeafNode, _old: LeafNode | None) -> None:
    """Takes every credential."""


def _key_package(message: bytes) -> KeyPackage:
    package = parse_key_package_message(message)
    assert package is not None
    return package


class Ours:
    """This project's client."""

    kind = OURS
    by_reference = True

    def __init__(self, suite: int, name: str) -> None:
        seed = os.urandom(32)
        self.signer = SignatureKeyPair(primitives.ed25519_public(seed), seed)
        self.suite = suite
        self.credential = Credential.basic(name.encode())
        self.capabilities = Capabilities(suites=tuple(SUITES))
        self.bundle = create_key_package(
            suite,
            signer=self.signer,
            credential=self.credential,
            capabilities=self.capabilities,
            lifetime=Lifetime(0, 2**62),
            random=os.urandom,
        )
        self.key_package = key_package_message(self.bundle.key_package)
        self.group: Group

    def create(self, group_id: bytes) -> None:
        self.group = Group.create(
            self.suite,
            group_id,
            signer=self.signer,
            credential=self.credential,
            capabilities=self.capabilities,
            random=os.urandom,
        )

    def join(self, welcomes: list[bytes]) -> None:
        reference = self.bundle.key_package.ref()
        (welcome,) = (each for each in welcomes if reference in each)
        self.group = Group.join(welcome, self.bundle, signer=self.signer, authenticate=_nobody).group

    def commit(self, adds: list[bytes], removes: list[int], *, public: bool) -> tuple[bytes, list[bytes]]:
        proposals: list[Proposal] = [Remove(leaf) for leaf in removes]
        proposals += [Add(_key_package(each)) for each in adds]
        staged = self.group.commit(proposals, references=tuple(self.group.proposals), random=os.urandom)
        self.group = staged.group
        return staged.message, [staged.welcome] if staged.welcome is not None else []

    def propose(self, add: bytes | None, remove: int | None, *, public: bool) -> bytes:
        proposal: Proposal = Add(_key_package(add)) if add is not None else Remove(remove or 0)
        proposed = self.group.propose(proposal, random=os.urandom)
        self.group = proposed.group
        return proposed.message

    def protect(self, data: bytes) -> bytes:
        protected = self.group.protect(data, random=os.urandom)
        self.group = protected.group
        return protected.message

    def process(self, message: bytes) -> bytes | None:
        result = self.group.process(message, authenticate=_nobody)
        match result:
            case Application():
                self.group = result.group
                return result.data
            case ProposalReceived():
                self.group = result.group
            case CommitProcessed():
                assert result.group is not None
                # what was stored is what goes on
                self.group = Group.restore(result.group.epoch_state(), result.group.message_state())
        return None

    def index(self) -> int:
        return self.group.own_index

    def state(self) -> State:
        return State(self.group.epoch, self.group.context.tree_hash, self.group.epoch_authenticator)

    def confirmation_tag(self) -> bytes:
        suite = SUITES[self.group.suite]
        key = self.group.secrets.confirmation_key
        return primitives.hmac(suite.hash_name, key, self.group.context.confirmed_transcript_hash)


class TsMlsProcess:
    """A node process with any number of clients of one version."""

    def __init__(self, kind: str) -> None:
        major = "1" if kind == TS_MLS_1 else "2"
        self.kind = kind
        self._count = 0
        node = shutil.which("node")
        assert node is not None
        self._process = subprocess.Popen(  # noqa: S603 -- our own worker
            [node, str(_WORKER), str(PEERS), major], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, call: str, **request: object) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"call": call, **request}) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise Refused(f"{self.kind}: {call}: {answer['error']}")
        return answer

    def client(self, suite: int, name: str) -> "TsMls":
        self._count += 1
        return TsMls(self, self._count, suite, name)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(10)


class TsMls:
    """A client of ts-mls."""

    by_reference = True

    def __init__(self, process: TsMlsProcess, number: int, suite: int, name: str) -> None:
        self.kind = process.kind
        self._process = process
        self._number = number
        self.key_package = bytes.fromhex(self._ask("new", suite=suite, name=name)["message"])

    def _ask(self, call: str, **request: object) -> dict[str, Any]:
        return self._process.ask(call, client=self._number, **request)

    def create(self, group_id: bytes) -> None:
        self._ask("create", group=group_id.hex())

    def join(self, welcomes: list[bytes]) -> None:
        reference = _key_package(self.key_package).ref()
        (welcome,) = (each for each in welcomes if reference in each)
        self._ask("join", message=welcome.hex())

    def commit(self, adds: list[bytes], removes: list[int], *, public: bool) -> tuple[bytes, list[bytes]]:
        request = {"adds": [each.hex() for each in adds], "removes": removes, "public": public}
        answer = self._ask("commit", **request)
        return bytes.fromhex(answer["message"]), [bytes.fromhex(answer["welcome"])] if answer["welcome"] else []

    def propose(self, add: bytes | None, remove: int | None, *, public: bool) -> bytes:
        adds, removes = [] if add is None else [add.hex()], [] if remove is None else [remove]
        return bytes.fromhex(self._ask("propose", adds=adds, removes=removes, public=public)["message"])

    def protect(self, data: bytes) -> bytes:
        return bytes.fromhex(self._ask("protect", data=data.hex())["message"])

    def process(self, message: bytes) -> bytes | None:
        data = self._ask("process", message=message.hex())["data"]
        return None if data is None else bytes.fromhex(data)

    def index(self) -> int:
        index: int = self._ask("info")["index"]
        return index

    def state(self) -> State:
        info = self._ask("info")
        return State(info["epoch"], bytes.fromhex(info["tree_hash"]), bytes.fromhex(info["authenticator"]))


class RineFolder:
    """The folder in which clients of rine-mls keep their states."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="restante-rine-")
        self._count = 0

    def client(self, suite: int, _name: str) -> "Rine":
        self._count += 1
        return Rine(Path(self._folder.name) / str(self._count), suite)

    def close(self) -> None:
        self._folder.cleanup()


def rine() -> ModuleType:
    """The module, which has no types of its own here."""
    if str(PEERS / "python") not in sys.path:
        sys.path.append(str(PEERS / "python"))
    return importlib.import_module("rine_mls")


class Rine:
    """A client of rine-mls, which is mls-rs with fewer calls: no proposals by reference, no Commit without a change."""

    kind = RINE
    by_reference = False

    def __init__(self, folder: Path, suite: int) -> None:
        self._client = rine().MlsClient(str(folder), os.urandom(32), suite)
        self.key_package: bytes = self._client.generate_key_package()
        self._group: Any = None

    def create(self, group_id: bytes) -> None:
        self._group = self._client.create_group(group_id)

    def join(self, welcomes: list[bytes]) -> None:
        reference = _key_package(self.key_package).ref()
        (welcome,) = (each for each in welcomes if reference in each)
        self._group = self._client.join_from_welcome(welcome)

    def commit(self, adds: list[bytes], removes: list[int], *, public: bool) -> tuple[bytes, list[bytes]]:
        assert bool(adds) != bool(removes)
        bundle = self._group.add_members(adds) if adds else self._group.remove_member(removes[0])
        return bundle.commit, list(bundle.welcomes)

    def propose(self, add: bytes | None, remove: int | None, *, public: bool) -> bytes:
        raise NotImplementedError

    def protect(self, data: bytes) -> bytes:
        message: bytes = self._group.encrypt_application_message(data)
        assert message[0] == rine().APP_MESSAGE_TAG
        return message[1:]

    def process(self, message: bytes) -> bytes | None:
        body = MLSMessage.parse(message).body
        if isinstance(body, PrivateMessage) and body.content_type == CONTENT_APPLICATION:
            data: bytes = self._group.decrypt_application_message(bytes((rine().APP_MESSAGE_TAG,)) + message).envelope
            return data
        self._group.apply_commit(message)
        return None

    def index(self) -> int:
        index: int = self._group.current_member_index()
        return index

    def state(self) -> State:
        info = MLSMessage.parse(self._group.group_info()).body
        assert isinstance(info, GroupInfo)
        return State(info.context.epoch, info.context.tree_hash, info.confirmation_tag)
