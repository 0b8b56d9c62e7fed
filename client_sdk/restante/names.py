"""Handles and mobile numbers as the directory knows them: one spelling for everything that means the same."""

import unicodedata
from typing import Final

MIN_HANDLE: Final = 3  # characters
MAX_HANDLE: Final = 32
MAX_HANDLE_BYTES: Final = 64  # of UTF-8
_JOINERS: Final = "._-"


def handle(text: str) -> str:
    """Return the handle that everybody's spelling of it becomes. PROTOCOL.md section 6.15.

    Compatibility forms and upper and lower case are the same; letters that only look alike are not.

    Raises:
        ValueError: another length, or other characters than letters, digits, and single ``.``, ``_``, ``-`` between.
    """
    found = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text.strip()).casefold())
    if not MIN_HANDLE <= len(found) <= MAX_HANDLE or len(found.encode()) > MAX_HANDLE_BYTES:
        raise ValueError(f"a handle has {MIN_HANDLE} to {MAX_HANDLE} characters, and at most {MAX_HANDLE_BYTES} bytes")
    before = "."
    for character in found:
        kind = unicodedata.category(character)
        joins = before in _JOINERS
        if not (
            (kind.startswith("L") or character.isdecimal())
            or (not joins and (character in _JOINERS or kind.startswith("M")))
        ):
            raise ValueError("a handle has letters, digits, and single . _ - between them")
        before = character
    if before in _JOINERS:
        raise ValueError("a handle ends with a letter or digit")
    return found


def number(text: str, region: str | None = None) -> str:
    """Return a telephone number as E.164 writes it.

    Args:
        text: as people write it.
        region: the country that it is of if it has no + and country code, such as "DE".

    Raises:
        ValueError: this is no number; or the extra ``phone`` is not installed.
    """
    try:
        import phonenumbers  # noqa: PLC0415 -- an extra
    except ModuleNotFoundError:
        raise ValueError("numbers need one package more: pip install 'restante[phone]'") from None
    try:
        parsed = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        raise ValueError("not a telephone number") from None
    if not phonenumbers.is_valid_number(parsed):
        raise ValueError("not a telephone number")
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
