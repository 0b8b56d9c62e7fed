"""Members by ts-mls, two versions of it, each in a node process."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

from restante_crypto.mls import Proposal, parse_key_package_message
from support.peers import PEERS, PSK, PSK_ID, ROOT, TS_MLS_1, Refused, State, welcome_for

_WORKER = ROOT / "tests" / "interop" / "peers" / "worker.mjs"


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
        self.ask("psk", id=PSK_ID.hex(), secret=PSK.hex())

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

    def clear(self) -> None:
        """Forget all clients."""
        self.ask("clear")

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

    def join(self, welcomes: list[bytes], tree: bytes | None = None) -> None:
        package = parse_key_package_message(self.key_package)
        assert package is not None
        self._ask("join", message=welcome_for(package.ref(), welcomes).hex(), tree=tree and tree.hex())

    def commit(
        self, proposals: Sequence[Proposal], *, public: bool = False, tree: bool = True
    ) -> tuple[bytes, list[bytes]]:
        answer = self._ask("commit", proposals=[each.encode().hex() for each in proposals], public=public, tree=tree)
        return bytes.fromhex(answer["message"]), [bytes.fromhex(answer["welcome"])] if answer["welcome"] else []

    def propose(self, proposal: Proposal, *, public: bool = False) -> bytes:
        return bytes.fromhex(self._ask("propose", proposal=proposal.encode().hex(), public=public)["message"])

    def group_info(self, *, tree: bool = True) -> bytes:
        return bytes.fromhex(self._ask("group_info", tree=tree)["message"])

    def join_externally(self, group_info: bytes, *, replaces: int | None = None, tree: bytes | None = None) -> bytes:
        """It finds the leaf that it replaces by itself."""
        request = {"message": group_info.hex(), "resync": replaces is not None, "tree": tree and tree.hex()}
        return bytes.fromhex(self._ask("external", **request)["message"])

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
