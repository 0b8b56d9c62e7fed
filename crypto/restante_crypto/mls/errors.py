"""What the MLS package raises.

::

    MLSError
    ├── DecodeError          bytes are not what they should be                            common
    ├── UnprotectError       AEAD or signature of a message fails                         common
    │   └── GenerationUsed   its key was used or deleted: a replay, or too late
    ├── ValidationError      a named public check of RFC 9420 failed                      common
    │   └── CredentialError  raised by the caller's ``authenticate``                      common
    ├── PathError            path secret or confirmation tag is wrong for this member
    └── StateError           no longer a member, something is missing here: the caller's use
        ├── ForeignMessage   a message of another epoch or group, or of none                  common
        └── OwnMessage       a message of this very member

*Common* errors are verdicts that every member reaches from the same bytes: only they may void a Commit for all.
"""

from typing import ClassVar


class MLSError(Exception):
    """Base of all errors of this package.

    Attributes:
        common: whether every member computes the same verdict.
    """

    common: ClassVar[bool] = False


class DecodeError(MLSError):
    """The bytes are not a valid encoding (RFC 9420 section 2.1)."""

    common = True


class UnprotectError(MLSError):
    """Decryption or signature of a message fails (section 6)."""

    common = True


class GenerationUsed(UnprotectError):  # noqa: N818 -- says what is the case
    """The key of this generation was used, deleted, or is too far ahead (section 9.1)."""

    common = False


class ValidationError(MLSError):
    """A check of sections 7.3, 8, 10.1 or 12 failed.

    Attributes:
        rule: a constant name of the rule.
    """

    common = True

    def __init__(self, rule: str) -> None:
        """Name the rule."""
        super().__init__(rule)
        self.rule = rule


class CredentialError(ValidationError):
    """A credential is not the application's (section 5.3.1)."""


class PathError(MLSError):
    """The path secret meant for this member, or the confirmation tag, does not fit (sections 7.5, 6.1)."""


class StateError(MLSError):
    """The call does not fit the state: no member any more, or a secret or proposal that is not here."""


class ForeignMessage(StateError):  # noqa: N818 -- says what is the case
    """The message is not one of this group and epoch, whoever looks at it from this epoch."""

    common = True


class OwnMessage(StateError):  # noqa: N818 -- says what is the case
    """The message is this member's own; it cannot be opened by its sender.

    Attributes:
        sender: the own leaf index.
    """

    def __init__(self, sender: int) -> None:
        """Keep the index."""
        super().__init__("own message")
        self.sender = sender
