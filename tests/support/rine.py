"""Members by rine-mls, which is mls-rs with fewer calls."""

import importlib
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from restante_crypto.mls import Add, Proposal, Remove, key_package_message, parse_key_package_message
from restante_crypto.mls.framing import CONTENT_APPLICATION, CONTENT_PROPOSAL
from restante_crypto.mls.message import MLSMessage
from restante_crypto.mls.private_message import PrivateMessage
from restante_crypto.mls.public_message import PublicMessage
from restante_crypto.mls.welcome import GroupInfo
from support.peers import PEERS, RINE, State, welcome_for


class RineFolder:
    """The folder in which clients of rine-mls keep their states."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="restante-rine-")
        self._count = 0

    def client(self, suite: int, _name: str) -> "Rine":
        self._count += 1
        return Rine(Path(self._folder.name) / str(self._count), suite)

    def clear(self) -> None:
        """Forget all clients."""
        self.close()
        self._folder = tempfile.TemporaryDirectory(prefix="restante-rine-")

    def close(self) -> None:
        self._folder.cleanup()


def rine() -> ModuleType:
    """The module, which has no types of its own here."""
    if str(PEERS / "python") not in sys.path:
        sys.path.append(str(PEERS / "python"))
    return importlib.import_module("rine_mls")


class Rine:
    """A client of rine-mls: no proposals, no PSKs, no Commit without a change, no tree from elsewhere.

    Proposals of others it has no call for; but mls-rs has kept one before ``apply_commit`` says that it is no Commit.
    Its Commits refer to them, but it has no Welcome for who is added so.
    """

    kind = RINE
    by_reference = False

    def __init__(self, folder: Path, suite: int) -> None:
        self._client = rine().MlsClient(str(folder), os.urandom(32), suite)
        self.key_package: bytes = self._client.generate_key_package()
        self._group: Any = None

    def create(self, group_id: bytes) -> None:
        self._group = self._client.create_group(group_id)

    def join(self, welcomes: list[bytes], tree: bytes | None = None) -> None:
        assert tree is None
        package = parse_key_package_message(self.key_package)
        assert package is not None
        self._group = self._client.join_from_welcome(welcome_for(package.ref(), welcomes))

    def commit(
        self, proposals: Sequence[Proposal], *, public: bool = False, tree: bool = True
    ) -> tuple[bytes, list[bytes]]:
        adds = [key_package_message(each.key_package) for each in proposals if isinstance(each, Add)]
        removes = [each.removed for each in proposals if isinstance(each, Remove)]
        assert len(proposals) == len(adds) or len(proposals) == len(removes) == 1
        bundle = self._group.add_members(adds) if adds else self._group.remove_member(removes[0])
        return bundle.commit, list(bundle.welcomes)

    def propose(self, proposal: Proposal, *, public: bool = False) -> bytes:
        raise NotImplementedError

    def group_info(self, *, tree: bool = True) -> bytes:
        info: bytes = self._group.group_info()
        return info

    def join_externally(self, group_info: bytes, *, replaces: int | None = None, tree: bytes | None = None) -> bytes:
        assert tree is None
        if replaces is None:
            self._group = self._client.join_by_external_commit(group_info)
        else:
            self._group = self._client.resync_by_external_commit(group_info, replaces)
        message: bytes = self._group.last_commit().commit
        return message

    def protect(self, data: bytes) -> bytes:
        message: bytes = self._group.encrypt_application_message(data)
        assert message[0] == rine().APP_MESSAGE_TAG
        return message[1:]

    def process(self, message: bytes) -> bytes | None:
        body = MLSMessage.parse(message).body
        if isinstance(body, PrivateMessage) and body.content_type == CONTENT_APPLICATION:
            data: bytes = self._group.decrypt_application_message(bytes((rine().APP_MESSAGE_TAG,)) + message).envelope
            return data
        framed = body.content if isinstance(body, PublicMessage) else body
        is_proposal = getattr(framed, "content_type", None) == CONTENT_PROPOSAL
        with suppress(rine().UnexpectedMessageError) if is_proposal else nullcontext():
            self._group.apply_commit(message)
        return None

    def index(self) -> int:
        index: int = self._group.current_member_index()
        return index

    def state(self) -> State:
        info = MLSMessage.parse(self._group.group_info()).body
        assert isinstance(info, GroupInfo)
        return State(info.context.epoch, info.context.tree_hash, info.confirmation_tag)
