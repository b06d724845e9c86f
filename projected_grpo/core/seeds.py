"""Every random stream is named: a child seed is a hash of its root seed and its name, never a counter."""

import hashlib


def derive_seed(root: int, *name: str | int) -> int:
    """A 63-bit seed for the stream `name`, for example `derive_seed(41, "sampling", step)`."""
    text = "/".join(str(part) for part in (root, *name))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def derive_seeds(count: int, root: int, *name: str | int) -> list[int]:
    """One seed for each of `count` places of the stream `name`."""
    return [derive_seed(root, *name, place) for place in range(count)]
