"""What one mailbox may hold."""

from dataclasses import dataclass

from restante_protocol import limits


@dataclass(frozen=True, slots=True)
class Quotas:
    """What one mailbox may hold; see ``restante_protocol.limits`` for the reasons.

    Attributes:
        entries: waiting.
        size: bytes of their bodies.
        large_size: of these, of bodies that were deposited as large.
        addresses: registered.
        prekeys: one-time packages per pool.
    """

    entries: int = limits.MAILBOX_ENTRIES
    size: int = limits.MAILBOX_BYTES
    large_size: int = limits.MAILBOX_LARGE_BYTES
    addresses: int = limits.MAILBOX_ADDRESSES
    prekeys: int = limits.MAILBOX_PREKEYS

    @property
    def invite_entries(self) -> int:
        """Entries that came through invites."""
        return self.entries // limits.INVITE_SHARE
