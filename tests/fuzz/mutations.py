"""Files with random damage, each the same whenever its number is asked for."""

import random
import re

_INSIDES = re.compile(r"0x[0-9a-fA-F]{6,}|<_io|Traceback|site-packages")


def mutated(data: bytes, number: int) -> bytes:
    """One to seven bytes changed, most of them near the start; sometimes cut short, lengthened, or a run repeated."""
    draw = random.Random(number)
    out = bytearray(data)
    for _ in range(draw.randint(1, 7)):
        near = draw.random() < 0.5
        place = draw.randrange(min(len(out), 128) if near else len(out))
        out[place] = draw.choice((draw.randrange(256), 0, 0xFF, out[place] ^ 1 << draw.randrange(8)))
    kind = draw.random()
    place = draw.randrange(len(out))
    if kind < 0.1:
        del out[place:]
    elif kind < 0.2:
        out[place:place] = draw.randbytes(draw.randint(1, 64))
    elif kind < 0.25:
        out[place:place] = out[place : place + draw.randint(1, 256)]
    return bytes(out)


def leak(message: str) -> str | None:
    """What of our insides an error message shows, if anything."""
    found = _INSIDES.search(message)
    return f"the message shows {found[0]!r}: {message}" if found else None
