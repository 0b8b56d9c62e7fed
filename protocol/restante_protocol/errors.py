"""What can go wrong on the wire.

::

    ProtocolError(code, detail)
    ├── LocalError     we broke the rules: a bug on this side
    └── RemoteError    the peer broke the rules or refused: its code says what to do

Codes are numbers on the wire and never carry data of a user; details are constant strings.
"""

from enum import IntEnum, unique


@unique
class Code(IntEnum):
    """The code of an Error frame, and of an index that a deposit or claim could not serve. PROTOCOL.md section 7."""

    # The connection is closed after these.
    MALFORMED = 1  # not a frame of this protocol
    UNEXPECTED = 2  # a frame that this state or role does not allow
    VERSION = 3  # no version in common
    TOO_LARGE = 4  # a frame above its limit
    TIMEOUT = 5  # no handshake, or pings unanswered
    OVERLOADED = 6  # the relay has no room for this connection: come back later
    GOING_AWAY = 7  # the relay is shutting down: reconnect
    REPLACED = 8  # a newer connection owns the mailbox: do not reconnect by yourself

    # The request failed, nothing changed, the connection goes on.
    LIMIT = 20  # a list longer, a body larger or a lifetime other than allowed
    UNAUTHORIZED = 21  # the proof does not fit the mailbox or slot; says nothing about whether it exists
    NO_MAILBOX = 22  # proved, but the relay holds no such mailbox: create it
    NOT_ADMITTED = 23  # the relay takes no such new mailbox
    CONFLICT = 24  # another deposit won this fence, or the slot or blob is another
    NOT_FOUND = 25  # no such slot, blob, fence or list handle
    FULL = 26  # a quota or the disk is full: reading and acknowledging go on
    STALE = 27  # owner token or incarnation is not the current one
    UNAVAILABLE = 28  # the store did not answer: whether it happened is unknown, retry the same id
    NO_CONSENT = 29  # the mailbox has not granted the purpose as it is offered now
    BUDGET = 30  # so much was asked that no more is given for now

    # Only as the outcome of one index of a deposit or claim.
    GONE = 40  # unknown, revoked or deleted: alike on purpose
    EMPTY = 41  # no prekey in this pool


FATAL_CODES = frozenset(code for code in Code if code < Code.LIMIT)


class ProtocolError(Exception):
    """Base of this package's errors.

    Attributes:
        code: what went wrong.
        detail: a constant string for developers; never user data.
    """

    def __init__(self, code: Code, detail: str = "") -> None:
        super().__init__(f"{code.name.lower()}: {detail}" if detail else code.name.lower())
        self.code = code
        self.detail = detail


class LocalError(ProtocolError):
    """This side tried to send what the protocol does not allow."""


class RemoteError(ProtocolError):
    """The peer sent what the protocol does not allow, or refused a request."""
