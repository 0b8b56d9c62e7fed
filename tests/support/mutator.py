"""A seeded mutator of bytes: what it makes repeats from the seed, on every machine."""

from collections.abc import Iterator, Sequence
from random import Random

INTERESTING = (0x00, 0x01, 0x3F, 0x40, 0x7F, 0x80, 0xBF, 0xC0, 0xFF)  # edges of numbers and of length prefixes
MAX_BYTES = 16 * 1024


def mutated(random: Random, corpus: Sequence[bytes]) -> bytes:
    """Return one of the corpus after one to four changes."""
    data = bytearray(random.choice(corpus))
    for _ in range(random.randint(1, 4)):
        if not data:
            data.extend(random.randbytes(random.randint(1, 8)))
        at = random.randrange(len(data))
        size = random.choice((1, 1, 2, 4, 16, 64))
        match random.randrange(8):
            case 0:
                data[at] ^= 1 << random.randrange(8)
            case 1:
                data[at] = random.choice(INTERESTING)
            case 2:
                data[at : at + size] = random.randbytes(size)
            case 3:
                del data[at : at + size]
            case 4:
                data[at:at] = random.randbytes(size)
            case 5:
                data[at:at] = data[at : at + size]
            case 6:
                other = random.choice(corpus)
                start = random.randrange(len(other) + 1)
                data[at:] = other[start:]
            case _:
                del data[at:]
    return bytes(data[:MAX_BYTES])


def inputs(seed: int, corpus: Sequence[bytes], count: int) -> Iterator[bytes]:
    """Yield the corpus, then random bytes and mutations."""
    yield from corpus
    random = Random(seed)
    for number in range(count):
        yield random.randbytes(random.randint(0, 200)) if number % 16 == 0 else mutated(random, corpus)
