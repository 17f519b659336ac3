"""Seeds depend on names, never on the order of draws: no generator has to be saved, and paired runs share seeds."""

import hashlib


def seed(purpose: str, *names: object) -> int:
    """A seed in [0, 2**63) for one purpose, e.g. `seed("views", "digits", repetition, step)`.

    Names are compared by their repr: `1` and `"1"` are different names.
    """
    digest = hashlib.blake2b(repr((purpose, *names)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
