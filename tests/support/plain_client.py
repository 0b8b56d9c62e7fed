"""A client written from PROTOCOL.md alone, on msgpack, aiohttp, PyNaCl and hashlib: it imports nothing of Restante.

That the relay's tests pass with it shows that the document is complete. Frames are plain lists here, and every number
is written out as the document prints it.
"""

import asyncio
import hashlib
import io
import json
import os
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp
import msgpack
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

TIMEOUT = 60  # seconds until a test gives up waiting

SENDER, RECEIVER = 0, 1

# Section 5: numbers of frames.
HELLO = 1
DEPOSIT, LIST_PUT, LIST_DROP, CLAIM, FENCE_GET, SLOT_GET, SLOT_PUT, SLOT_DELETE = range(16, 24)
OPEN, CREATE, SUBSCRIBE, ACK, ADDRESS_PUT, ADDRESS_REVOKE, PREKEYS_PUT, STATUS, MAILBOX_DELETE, EXPORT = range(32, 42)
CONSENT_PUT, CONSENT_GET, EVALUATE, HANDLE_PUT, HANDLE_DELETE = range(42, 47)
NUMBER_CLAIM, NUMBER_CONFIRM, NUMBER_PUT, NUMBER_DELETE, NUMBERS_GET = range(47, 52)
PUSH_PUT, PUSH_DELETE, PUSH_GET = range(52, 55)
WELCOME, ERROR, DONE, DEPOSITED, CLAIMED, FENCE, SLOT, CREATED, SUBSCRIBED = range(64, 73)
RUN, ENTRY, DRAINED, MAILBOX_STATUS, PREKEYS_LOW, EXPORTED, ERASED, ADDRESS_SPENT = range(73, 81)
CONSENTS, EVALUATED, NUMBERS, PUSH = 81, 83, 84, 93

ANSWERS = {
    **dict.fromkeys((LIST_PUT, LIST_DROP, SLOT_PUT, SLOT_DELETE, OPEN), DONE),
    **dict.fromkeys((ADDRESS_PUT, ADDRESS_REVOKE, PREKEYS_PUT, PUSH_PUT, PUSH_DELETE), DONE),
    **dict.fromkeys((CONSENT_PUT, HANDLE_PUT, HANDLE_DELETE), DONE),
    **dict.fromkeys((NUMBER_CLAIM, NUMBER_CONFIRM, NUMBER_PUT, NUMBER_DELETE), DONE),
    PUSH_GET: PUSH,
    CONSENT_GET: CONSENTS,
    EVALUATE: EVALUATED,
    NUMBERS_GET: NUMBERS,
    MAILBOX_DELETE: ERASED,
    EXPORT: EXPORTED,
    DEPOSIT: DEPOSITED,
    CLAIM: CLAIMED,
    FENCE_GET: FENCE,
    SLOT_GET: SLOT,
    CREATE: CREATED,
    SUBSCRIBE: SUBSCRIBED,
    STATUS: MAILBOX_STATUS,
}


# Section 3: ids and hashes.


def identifier(kind: str, bucket: int, key: bytes, nonce: bytes) -> bytes:
    """Return the id of a "mailbox", "address", "slot" or "blob"."""
    person = f"restante {kind}".encode()
    return bytes([bucket]) + hashlib.blake2b(key + nonce, digest_size=23, person=person).digest()


def digest(body: bytes) -> bytes:
    """Return the digest of a body."""
    return hashlib.blake2b(body, digest_size=32).digest()


# Section 4: what is signed.


def label(name: str) -> bytes:
    """Return the label in front of everything that is signed."""
    return f"restante 1 {name}\0".encode()


@dataclass
class Owner:
    """The secrets of a mailbox: a receive key, a bucket and a nonce."""

    key: SigningKey = field(default_factory=SigningKey.generate)
    bucket: int = 7
    nonce: bytes = field(default_factory=lambda: os.urandom(16))

    @property
    def public(self) -> bytes:
        return bytes(self.key.verify_key)

    @property
    def mailbox(self) -> bytes:
        return identifier("mailbox", self.bucket, self.public, self.nonce)

    def address(self, nonce: bytes) -> bytes:
        """Return the id of the mailbox's address with this nonce (16 bytes)."""
        return identifier("address", self.bucket, self.public, nonce)


@dataclass
class SlotOwner:
    """The secrets of a slot: a write key, a bucket and a nonce."""

    key: SigningKey = field(default_factory=SigningKey.generate)
    bucket: int = 7
    nonce: bytes = field(default_factory=lambda: os.urandom(16))

    @property
    def public(self) -> bytes:
        return bytes(self.key.verify_key)

    @property
    def slot(self) -> bytes:
        return identifier("slot", self.bucket, self.public, self.nonce)


@dataclass
class BlobOwner:
    """The secrets of a blob: a write key, a bucket and a nonce."""

    key: SigningKey = field(default_factory=SigningKey.generate)
    bucket: int = 7
    nonce: bytes = field(default_factory=lambda: os.urandom(16))

    @property
    def public(self) -> bytes:
        return bytes(self.key.verify_key)

    @property
    def blob(self) -> bytes:
        return identifier("blob", self.bucket, self.public, self.nonce)

    def headers(self, signed: bytes) -> dict[str, str]:
        """Return the headers that prove a request."""
        return {
            "Restante-Write-Key": self.public.hex(),
            "Restante-Nonce": self.nonce.hex(),
            "Restante-Signature": self.key.sign(signed).signature.hex(),
        }


@dataclass(frozen=True)
class Answer:
    """An HTTP answer: its status, its body, or the code of the Error that the body is, and the part that it is."""

    status: int
    body: bytes = b""
    code: int | None = None
    part: str = ""


class PlainBlobs:
    """Blobs of a relay whose key is known: section 6.11."""

    def __init__(self, url: str, relay_key: bytes) -> None:
        self.url = f"{url}/v1/blobs/"
        self.relay_key = relay_key

    async def request(self, method: str, blob: bytes, headers: dict[str, str], body: bytes | None = None) -> Answer:
        """Send a request as it is."""
        async with (
            asyncio.timeout(TIMEOUT),
            aiohttp.ClientSession() as session,
            session.request(
                method,
                self.url + blob.hex(),
                headers=headers,
                data=None if body is None else io.BytesIO(body),
                expect100=body is not None,
            ) as response,
        ):
            data = await response.read()
            code = None
            if response.status >= 400 and data:
                number, request, code, detail = msgpack.unpackb(data)
                assert (number, request) == (ERROR, 0)
                assert isinstance(detail, str)
                data = b""
            return Answer(response.status, data, code, response.headers.get("Content-Range", ""))

    def put_headers(self, owner: BlobOwner, body: bytes, lifetime: int = 3600) -> dict[str, str]:
        """Return the headers of an upload."""
        numbers = lifetime.to_bytes(4, "big") + len(body).to_bytes(8, "big")
        signed = label("blob put") + self.relay_key + owner.blob + numbers + digest(body)
        return {
            "Restante-Lifetime": str(lifetime),
            "Restante-Digest": digest(body).hex(),
            **owner.headers(signed),
        }

    async def put(self, owner: BlobOwner, body: bytes, lifetime: int = 3600) -> Answer:
        """Upload."""
        return await self.request("PUT", owner.blob, self.put_headers(owner, body, lifetime), body)

    async def get(self, blob: bytes, part: str = "") -> Answer:
        """Download all, or a part such as "0-9"."""
        return await self.request("GET", blob, {"Range": f"bytes={part}"} if part else {})

    async def delete(self, owner: BlobOwner) -> Answer:
        """Delete."""
        return await self.request("DELETE", owner.blob, self.delete_headers(owner))

    def delete_headers(self, owner: BlobOwner) -> dict[str, str]:
        """Return the headers of a deletion."""
        return owner.headers(label("blob delete") + self.relay_key + owner.blob)


@dataclass
class PlainClaims:
    """Claims over HTTP: section 6.8."""

    session: aiohttp.ClientSession
    url: str

    async def post(self, body: bytes) -> tuple[int, list[Any]]:
        """Send a body as it is; return the status and the frame that came back."""
        async with asyncio.timeout(TIMEOUT), self.session.post(self.url + "/v1/claims", data=body) as response:
            return response.status, msgpack.unpackb(await response.read())

    async def claim(self, suite: int, addresses: list[bytes]) -> list[tuple[int, int, bytes]]:
        """Claim a prekey of each address: (code, number, package)."""
        status, answer = await self.post(msgpack.packb([CLAIM, 7, suite, addresses]))
        if answer[0] == ERROR:
            raise Refused(*answer[2:])
        number, request, prekeys = answer
        assert (status, number, request) == (200, CLAIMED, 7)
        return [(code, number, package) for code, number, package in prekeys]


class Refused(Exception):  # noqa: N818 -- the outcome of a request
    """The relay answered a request with an Error."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(f"{code} {detail}")
        self.code = code


class Closed(Exception):  # noqa: N818 -- the end of a connection
    """The relay closed the connection; code and detail of its Error with request 0, if there was one."""

    def __init__(self, code: int | None, detail: str, close_code: int | None) -> None:
        super().__init__(f"{code} {detail}, close code {close_code}")
        self.code = code
        self.close_code = close_code


@dataclass(frozen=True)
class Received:
    """An entry, with the sequence that its run gives it."""

    sequence: int
    message_id: bytes
    body: bytes
    fence: bytes | None


class PlainClient:
    """One connection. Use ``async with await PlainClient.connect(url, role)``.

    Attributes:
        relay_key: the relay's public key, proved in its Welcome.
        admission: who may create a mailbox: 0 anybody, 1 with a code, 2 nobody.
        level: the durability that the relay says.
        pushes: what the relay said by itself and nobody took yet: Received, or a frame as a list.
        incarnation: from Subscribed.
        owner_token: from Subscribed.
    """

    def __init__(self, session: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.session = session
        self.socket = socket
        self.nonce = os.urandom(32)
        self.relay_key = b""
        self.relay_nonce = b""
        self.admission = 0
        self.level = ""
        self.incarnation = b""
        self.owner_token = b""
        self.pushes: deque[Received | list[Any]] = deque()
        self._waiting: dict[int, int] = {}
        self._answers: dict[int, list[Any]] = {}
        self._number = 0
        self._run = (0, 0)  # the next sequence, and how many entries are still to come
        self._error: tuple[int | None, str] = (None, "")

    @classmethod
    async def connect(cls, url: str, role: int) -> Self:
        """Connect, say Hello, verify Welcome."""
        session = aiohttp.ClientSession()
        try:
            socket = await session.ws_connect(f"{url}/v1/socket", compress=0, max_msg_size=0)
            client = cls(session, socket)
            await client.send([HELLO, [1], role, client.nonce])
            welcome = await client.receive()
            assert isinstance(welcome, list), welcome
            number, version, relay_key, relay_nonce, signature, admission, level = welcome
            assert (number, version) == (WELCOME, 1)
            signed = label("welcome") + relay_key + client.nonce + relay_nonce
            VerifyKey(relay_key).verify(signed, signature)
        except BaseException:
            await session.close()
            raise
        client.relay_key, client.relay_nonce = relay_key, relay_nonce
        client.admission, client.level = admission, level
        return client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self.socket.close()
        await self.session.close()

    # Frames.

    async def send(self, frame: list[Any]) -> None:
        """Send a frame as it is."""
        await self.socket.send_bytes(msgpack.packb(frame))

    async def receive(self) -> Received | list[Any]:
        """Return the next frame; an entry with its sequence. Raises Closed."""
        async with asyncio.timeout(TIMEOUT):
            message = await self.socket.receive()
        if message.type is not aiohttp.WSMsgType.BINARY:
            raise Closed(*self._error, self.socket.close_code)
        frame: list[Any] = msgpack.unpackb(message.data)
        sequence, left = self._run
        if left:
            number, message_id, body, fence = frame
            assert number == ENTRY, "a run is followed by exactly its entries"
            self._run = sequence + 1, left - 1
            return Received(sequence, message_id, body, fence)
        assert frame[0] != ENTRY, "an entry outside a run"
        if frame[0] == RUN:
            _, first, count = frame
            self._run = first, count
        if frame[0] == ERROR and frame[1] == 0:
            self._error = frame[2], frame[3]
        return frame

    async def _take(self) -> None:
        frame = await self.receive()
        if isinstance(frame, Received) or frame[0] in (DRAINED, PREKEYS_LOW, ADDRESS_SPENT):
            self.pushes.append(frame)
        elif frame[0] != RUN and frame[1] != 0:
            self._answers[frame[1]] = frame

    async def begin(self, number: int, *fields: object) -> int:
        """Send a request; return the number under which its answer will come."""
        self._number += 1
        self._waiting[self._number] = number
        await self.send([number, self._number, *fields])
        return self._number

    async def answer(self, request: int) -> list[Any]:
        """Return the fields of an answer, after its request number. Raises Refused or Closed."""
        while request not in self._answers:
            await self._take()
        number, _, *fields = self._answers.pop(request)
        asked = self._waiting.pop(request)
        if number == ERROR:
            raise Refused(*fields)
        assert number == ANSWERS[asked], f"answer {number} to {asked}"
        return fields

    async def request(self, number: int, *fields: object) -> list[Any]:
        """Send a request and return its answer's fields. Raises Refused or Closed."""
        return await self.answer(await self.begin(number, *fields))

    async def push(self) -> Received | list[Any]:
        """Return what the relay says next by itself. Raises Closed."""
        while not self.pushes:
            await self._take()
        return self.pushes.popleft()

    async def entry(self) -> Received:
        """Return the next push, which has to be an entry."""
        push = await self.push()
        assert isinstance(push, Received), push
        return push

    async def drain(self) -> list[Received]:
        """Return the entries up to Drained."""
        entries: list[Received] = []
        while isinstance(push := await self.push(), Received):
            entries.append(push)
        assert push[0] == DRAINED, push
        return entries

    # The sender's requests.

    async def deposit(
        self,
        to: list[bytes] | int,
        body: bytes,
        *,
        message_id: bytes | None = None,
        lifetime: int = 3600,
        fence: bytes | None = None,
        flags: int = 0,
    ) -> list[tuple[int, int]]:
        """Deposit; return pairs (index, code) of the addresses that did not take it."""
        (failed,) = await self.request(DEPOSIT, message_id or os.urandom(16), to, body, lifetime, fence, flags)
        return [(index, code) for index, code in failed]

    async def list_put(self, handle: int, addresses: list[bytes]) -> None:
        await self.request(LIST_PUT, handle, addresses)

    async def list_drop(self, handle: int) -> None:
        await self.request(LIST_DROP, handle)

    async def claim(self, suite: int, addresses: list[bytes]) -> list[tuple[int, int, bytes]]:
        """Claim a prekey of each address: (code, number, package)."""
        (prekeys,) = await self.request(CLAIM, suite, addresses)
        return [(code, number, package) for code, number, package in prekeys]

    async def fence_get(self, fence: bytes) -> tuple[bytes, bytes]:
        """Return a fence's winner: message id and body, whose digest was checked."""
        message_id, told, body = await self.request(FENCE_GET, fence)
        assert digest(body) == told
        return message_id, body

    async def slot_get(self, slot: bytes) -> tuple[int, bytes]:
        """Return a slot's version and body."""
        version, body = await self.request(SLOT_GET, slot)
        return version, body

    async def published(self, name: str) -> Any:  # noqa: ANN401 -- JSON
        """Return what the operator publishes under a name, its signature verified."""
        nonce = hashlib.blake2b(name.encode(), digest_size=16, person=b"restante public").digest()
        slot = identifier("slot", 0, self.relay_key, nonce)
        version, body = await self.slot_get(slot)
        VerifyKey(self.relay_key).verify(label("public") + slot + version.to_bytes(8, "big") + body[64:], body[:64])
        return json.loads(body[64:])

    async def slot_put(self, owner: SlotOwner, version: int, body: bytes, *, lifetime: int = 86_400) -> None:
        numbers = version.to_bytes(8, "big") + lifetime.to_bytes(4, "big")
        signed = label("slot put") + self.relay_key + owner.slot + numbers + digest(body)
        signature = owner.key.sign(signed).signature
        await self.request(SLOT_PUT, owner.slot, owner.public, owner.nonce, version, lifetime, body, signature)

    async def slot_delete(self, owner: SlotOwner) -> None:
        signature = owner.key.sign(label("slot delete") + self.relay_key + owner.slot).signature
        await self.request(SLOT_DELETE, owner.slot, owner.public, owner.nonce, signature)

    # The receiver's requests.

    async def consent_put(self, purpose: str, version: bytes) -> None:
        await self.request(CONSENT_PUT, purpose, version)

    async def push_put(self, endpoint: str) -> None:
        await self.request(PUSH_PUT, endpoint)

    async def push_delete(self) -> None:
        await self.request(PUSH_DELETE)

    async def push_get(self) -> str:
        """Return where the mailbox's device is woken."""
        (endpoint,) = await self.request(PUSH_GET)
        assert isinstance(endpoint, str)
        return endpoint

    async def open(self, owner: Owner) -> None:
        """Prove a mailbox. Raises Refused(22) if it is proved but does not exist."""
        signed = label("open") + self.relay_key + owner.mailbox + self.nonce + self.relay_nonce
        await self.request(OPEN, owner.mailbox, owner.public, owner.nonce, owner.key.sign(signed).signature)

    async def create(self, admission: bytes = b"") -> tuple[bytes, bytes]:
        """Create the proved mailbox; return its incarnation and the admission receipt."""
        incarnation, receipt = await self.request(CREATE, admission)
        return incarnation, receipt

    def is_receipt(self, mailbox: bytes, receipt: bytes) -> bool:
        """Say whether the relay's key has signed an admission receipt for the mailbox."""
        try:
            VerifyKey(self.relay_key).verify(label("admission") + mailbox, receipt)
        except BadSignatureError:
            return False
        return True

    async def open_or_create(self, owner: Owner) -> None:
        """Prove a mailbox and see to it that it exists."""
        try:
            await self.open(owner)
        except Refused as refused:
            if refused.code != 22:
                raise
            await self.create()

    async def subscribe(
        self, incarnation: bytes = b"", seen: int = 0, pools: list[tuple[int, int, int]] | None = None
    ) -> tuple[int, list[list[Any]]]:
        """Subscribe; return the highest acknowledged sequence and the relay's pools."""
        fields = await self.request(SUBSCRIBE, incarnation, seen, pools or [])
        self.incarnation, self.owner_token, acknowledged, counts = fields
        return acknowledged, counts

    async def ack(self, sequence: int, exceptions: list[int] | None = None) -> None:
        await self.send([ACK, self.owner_token, self.incarnation, sequence, exceptions or []])

    async def add_address(self, owner: Owner, *, cap: int = 10_000, kind: int = 0) -> bytes:
        """Register a new address; return its id."""
        nonce = os.urandom(16)
        address = owner.address(nonce)
        await self.request(ADDRESS_PUT, [[address, nonce, cap, kind]])
        return address

    async def address_revoke(self, addresses: list[bytes]) -> None:
        await self.request(ADDRESS_REVOKE, addresses)

    async def prekeys_put(
        self, suite: int, first: int, packages: list[bytes], *, last_resort: bytes = b"", replace: bool = False
    ) -> None:
        await self.request(PREKEYS_PUT, suite, first, packages, last_resort, replace)

    async def status(self) -> tuple[int, int, int, list[list[Any]]]:
        """Return the last sequence, the entries and bytes that wait, and the pools."""
        sequence, entries, size, pools = await self.request(STATUS)
        return sequence, entries, size, pools

    async def mailbox_delete(self, mailbox: bytes) -> int:
        """Erase the mailbox; return when, after verifying the receipt."""
        erased_at, receipt = await self.request(MAILBOX_DELETE)
        VerifyKey(self.relay_key).verify(label("erased") + mailbox + erased_at.to_bytes(8, "big"), receipt)
        return int(erased_at)

    async def export(self) -> dict[tuple[str, bytes], bytes | int]:
        """Return all values that the relay holds of the mailbox, by name and key."""
        found: dict[tuple[str, bytes], bytes | int] = {}
        after = b""
        while True:
            held, after = await self.request(EXPORT, after)
            found |= {(name, key): value for name, key, value in held}
            if not after:
                return found

    # Purposes and the directory.

    async def consents(self) -> dict[str, bytes]:
        """Return the versions of what is granted."""
        (consents,) = await self.request(CONSENT_GET)
        return {purpose: version for purpose, version, _ in consents}

    async def evaluate(self, kind: int, element: bytes) -> tuple[bytes, bytes]:
        """Return an element under the PRF, and the proof."""
        (evaluated,), proof = await self.request(EVALUATE, kind, [element])
        return evaluated, proof

    async def handle_put(self, place: bytes, record: bytes) -> None:
        await self.request(HANDLE_PUT, place, record)

    async def handle_delete(self) -> None:
        await self.request(HANDLE_DELETE)

    async def number_claim(self, number: str) -> None:
        """Have a code sent to a number."""
        await self.request(NUMBER_CLAIM, number)

    async def number_confirm(self, number: str, code: str) -> None:
        await self.request(NUMBER_CONFIRM, number, code)

    async def number_put(self, record: bytes) -> None:
        await self.request(NUMBER_PUT, record)

    async def number_delete(self) -> None:
        await self.request(NUMBER_DELETE)

    async def numbers(self, bucket: int) -> dict[bytes, bytes]:
        """Return all records of a bucket by their places."""
        found: dict[bytes, bytes] = {}
        more, after = True, b""
        while more:
            records, more = await self.request(NUMBERS_GET, bucket, after)
            found |= dict(records)
            after = records[-1][0]
        return found
