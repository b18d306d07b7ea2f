"""Three members with fixed keys, so that what they sign is the same in every run."""

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from confide.membership.identity import Identity
from confide.membership.roster import Roster


def fixed_identity(name: str) -> Identity:
    secrets = [hashlib.sha256(f"{name} {purpose}".encode()).digest() for purpose in ("signing", "envelope")]
    return Identity(
        name, Ed25519PrivateKey.from_private_bytes(secrets[0]), X25519PrivateKey.from_private_bytes(secrets[1])
    )


@pytest.fixture(scope="session")
def identities() -> dict[str, Identity]:
    return {name: fixed_identity(name) for name in ("north", "south", "wést")}


@pytest.fixture(scope="session")
def roster(identities: dict[str, Identity]) -> Roster:
    return Roster(identity.public for identity in identities.values())
