"""GREASE (RFC 9420 section 13.5): unknown values, sent so that all keep ignoring what they do not know.

They are drawn from the randomness given, and nothing here treats them specially when they come from others.
"""

from dataclasses import replace
from typing import Final

from restante_crypto.mls.extensions import Capabilities, Extension, Extensions
from restante_crypto.primitives import Random

VALUES: Final = tuple(range(0x0A0A, 0xEAEA + 1, 0x1010))
"""The 15 values that the registries of suites, extensions, proposals and credentials set aside."""

MAX_DATA: Final = 15  # bytes of a GREASE extension: enough for every receiver to see that they are skipped


def value(random: Random) -> int:
    """Return one of the values."""
    return VALUES[random(1)[0] % len(VALUES)]


def extension(random: Random) -> Extension:
    """Return an extension of such a type with up to MAX_DATA bytes."""
    return Extension(value(random), random(random(1)[0] % (MAX_DATA + 1)))


def without(extensions: Extensions) -> Extensions:
    """Return the extensions that mean something."""
    return tuple(each for each in extensions if each.type not in VALUES)


def meant(capabilities: Capabilities) -> Capabilities:
    """Return the capabilities that mean something."""

    def known(values: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(each for each in values if each not in VALUES)

    return replace(
        capabilities,
        suites=known(capabilities.suites),
        extensions=known(capabilities.extensions),
        proposals=known(capabilities.proposals),
        credentials=known(capabilities.credentials),
    )


def leaf(capabilities: Capabilities, extensions: Extensions, random: Random) -> tuple[Capabilities, Extensions]:
    """Return what a new leaf says of itself, with one value in each field that may have one.

    The extension is among the capabilities, as section 7.3 demands. Values that are there already, from a leaf of
    another group, are replaced.
    """
    extra, said = extension(random), meant(capabilities)

    def with_one(known: tuple[int, ...], one: int) -> tuple[int, ...]:
        at = random(1)[0] % (len(known) + 1)
        return (*known[:at], one, *known[at:])

    said = replace(
        said,
        suites=with_one(said.suites, value(random)),
        extensions=with_one(said.extensions, extra.type),
        proposals=with_one(said.proposals, value(random)),
        credentials=with_one(said.credentials, value(random)),
    )
    return said, (*without(extensions), extra)
