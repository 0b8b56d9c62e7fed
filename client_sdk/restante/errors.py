"""What the SDK raises.

::

    RestanteError
    ├── FileError                 the client's file
    │   ├── WrongPassphrase       it does not open
    │   ├── AlreadyOpen           another process, or another Client in this one, holds it
    │   └── FileDamaged           something in it fails its seal, or a newer version wrote it; nothing was changed
    ├── RelayError                the relay
    │   ├── RelayChanged          it has another key than the pinned one
    │   ├── NotAdmitted           it takes no new mailbox without (another) invite code
    │   ├── HandleTaken           another account has this handle in its directory
    │   ├── PolicyDeclined        its privacy policy was not agreed to: there is no mailbox
    │   └── Refused               it refused a request; ``code`` says why
    ├── ConsentNeeded             an optional purpose is not granted that this is for: nothing was sent
    ├── InviteError               an invite that is malformed, expired, revoked, forged, or of another relay
    ├── ConversationError         this cannot be done in this conversation
    │   ├── NotAMember            this account has left it or was removed, or the other account is not in it
    │   └── MessageTooLarge       above 64 KiB
    ├── Queued                    not sent yet, and it stays in the outbox; ``id`` is the message's
    └── Closed                    the client is closed, or was replaced by a newer connection
"""

from typing import Final

MAX_CONTENT_BYTES: Final = 64 * 1024
"""Largest text (in UTF-8) or byte string of one message; larger things are attachments."""


class RestanteError(Exception):
    """Base of all errors of the SDK."""


class FileError(RestanteError):
    """The client's file cannot be used."""


class WrongPassphrase(FileError):  # noqa: N818 -- says what is the case
    """The passphrase does not open the file."""


class AlreadyOpen(FileError):  # noqa: N818 -- the same
    """Another process, or another Client in this one, holds the file."""


class FileDamaged(FileError):  # noqa: N818 -- the same
    """Something in the file fails its seal, or a newer version wrote it."""


class RelayError(RestanteError):
    """The relay refused, or is not the one it was."""


class RelayChanged(RelayError):  # noqa: N818 -- the same
    """The relay has another key than the one pinned in the file."""


class NotAdmitted(RelayError):  # noqa: N818 -- the same
    """The relay takes no new mailbox from this client."""


class PolicyDeclined(RelayError):  # noqa: N818 -- the same
    """The relay's privacy policy was not agreed to, so no mailbox was created."""


class Refused(RelayError):  # noqa: N818 -- the same
    """The relay refused a request.

    Attributes:
        code: a ``restante_protocol.errors.Code``.
    """

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class HandleTaken(RelayError):  # noqa: N818 -- the same
    """Another account has this handle in the relay's directory."""


class ConsentNeeded(RestanteError):  # noqa: N818 -- the same
    """An optional purpose is not granted that this is for: nothing was sent."""


class InviteError(RestanteError):
    """The invite is malformed, expired, revoked, forged, or leads to another relay."""


class ConversationError(RestanteError):
    """This cannot be done in this conversation."""


class NotAMember(ConversationError):  # noqa: N818 -- the same
    """This account is no longer in the conversation, or the account named is not in it."""


class MessageTooLarge(ConversationError):  # noqa: N818 -- the same
    """The content is above MAX_CONTENT_BYTES."""


class Queued(RestanteError):  # noqa: N818 -- the same
    """The message is not at the relay yet; it stays in the outbox and goes out by itself.

    Attributes:
        id: the message's id, as its Receipt and its receivers will name it.
    """

    def __init__(self, id: str) -> None:  # noqa: A002 -- the field's name everywhere
        super().__init__("not sent yet; the message stays in the outbox")
        self.id = id


class Closed(RestanteError):  # noqa: N818 -- the same
    """The client is closed."""
