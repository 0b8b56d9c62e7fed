"""Who may create a mailbox: anybody, the holder of an invite code, or only who was admitted before."""

import base64
import os
from typing import Final

from restante_crypto import primitives
from restante_protocol import ids
from restante_protocol.errors import Code
from restante_server.errors import Refused
from restante_server.services.relay import Relay

_CODE_BYTES: Final = 10  # 80 bits: no guessing over the network
_GROUP: Final = 4  # characters between dashes
_PERSON: Final = b"restante invite"


def new_code() -> str:
    """Return a random invite code such as ABCD-EFGH-IJKL-MNOP."""
    text = base64.b32encode(os.urandom(_CODE_BYTES)).decode("ascii")
    return "-".join(text[i : i + _GROUP] for i in range(0, len(text), _GROUP))


def code_hash(code: bytes) -> bytes:
    """Return what the relay keeps of a code: 32 bytes, whatever its case, dashes and spaces."""
    plain = code.upper().replace(b"-", b"").replace(b" ", b"")
    return primitives.blake2b(plain, size=ids.DIGEST_BYTES, person=_PERSON)


async def create_mailbox(relay: Relay, mailbox: bytes, receive_key: bytes, admission: bytes) -> bytes:
    """Create a proved mailbox unless it exists; return its incarnation.

    Raises:
        Refused: NOT_ADMITTED; FULL, of a bench.
    """
    if relay.meter is not None:
        relay.meter.create(mailbox)
    code: bytes | None = None
    if relay.admission != "open" and not relay.identity.admits(mailbox, admission):
        if relay.admission == "closed" and not await relay.store.has_mailbox(mailbox):
            raise Refused(Code.NOT_ADMITTED)
        code = code_hash(admission)
    incarnation = await relay.store.create_mailbox(mailbox, receive_key, code)
    if incarnation is None:
        raise Refused(Code.NOT_ADMITTED)
    return incarnation
