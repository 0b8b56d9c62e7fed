"""Safety numbers: what two people compare by eye or by camera, to know that no account stands between theirs.

An account's id is its public key, and every device is certified by it, so the two ids are all there is to compare. The
number is the same on both sides: thirty digits for each account, the smaller first.
"""

from dataclasses import dataclass
from typing import Final

import segno

from restante.account import account_key
from restante_crypto import primitives

_LABEL: Final = b"restante 1 safety number\x00"
_GROUPS: Final = 6  # of five digits for each account: 99 bits, so that no other key is found that shows the same
_GROUP_BYTES: Final = 5
_GROUP_VALUES: Final = 100_000
_HALF_BYTES: Final = _GROUPS * _GROUP_BYTES
_PREFIX: Final = "restante-safety:"


@dataclass(frozen=True, slots=True)
class SafetyNumber:
    """The safety number of two accounts.

    Attributes:
        digits: twelve groups of five digits, with spaces between.
        code: what the QR code says; give the other side's to ``matches``.
    """

    digits: str
    code: str

    def matches(self, scanned: str) -> bool:
        """Say whether a scanned QR code, or digits that somebody typed or read out, are this number."""
        return scanned == self.code or "".join(scanned.split()) == "".join(self.digits.split())

    def qr_svg(self) -> str:
        """Return the QR code as an SVG element."""
        svg: str = segno.make(self.code, error="m").svg_inline(scale=4)
        return svg


def safety_number(first: str, second: str) -> SafetyNumber:
    """Return the safety number of two account ids, the same in either order.

    Raises:
        ValueError: one of them is no account id.
    """
    halves = sorted((_half(first), _half(second)))
    digits = " ".join(halves)
    return SafetyNumber(digits, _PREFIX + digits.replace(" ", ""))


def _half(account: str) -> str:
    digest = primitives.blake2b(_LABEL + account_key(account), size=_HALF_BYTES)
    groups = (digest[at : at + _GROUP_BYTES] for at in range(0, _HALF_BYTES, _GROUP_BYTES))
    return " ".join(f"{int.from_bytes(group, 'big') % _GROUP_VALUES:05}" for group in groups)
