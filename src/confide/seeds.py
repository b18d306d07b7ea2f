"""Named random streams, each derived from (seed, purpose, and whatever tells two draws apart).

No module draws from a global generator, so that the order of clients, parallelism and resume change nothing. These
streams are for experiments and for public choices (shuffles, cohorts, dropout). Keys and the noise a privacy guarantee
rests on never come from here.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


def derive_seed(seed: int, purpose: str, *parts: str | int) -> int:
    """Gives the 64-bit seed of one named stream.

    Args:
        seed: the run's seed.
        purpose: what the stream is for, e.g. "order" or "dropout"; part of the name.
        parts: what tells this draw from others of the same purpose, e.g. round and client.

    Returns:
        An integer in [0, 2**63), the first 63 bits of SHA-256 over the unambiguous name. Two different names give
        unrelated seeds; the same name gives the same seed on every machine.
    """
    name = repr((int(seed), purpose, *parts)).encode()
    return int.from_bytes(hashlib.sha256(name).digest()[:8], "big") >> 1


def stream(seed: int, purpose: str, *parts: str | int) -> np.random.Generator:
    """Gives a numpy generator (Philox, the same on every machine) for one named stream; see `derive_seed`."""
    return np.random.Generator(np.random.Philox(derive_seed(seed, purpose, *parts)))


@contextmanager
def torch_stream(seed: int, purpose: str, *parts: str | int) -> Iterator[None]:
    """Runs the body with torch's generators (CPU and current CUDA device) seeded for one named stream.

    Dropout layers can only draw from torch's global generator; this gives it a named seed and puts the old state back.
    """
    import torch  # here, as who only needs names and numbers should not wait for it

    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(derive_seed(seed, purpose, *parts))
        yield
