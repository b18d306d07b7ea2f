"""What a server without a key reads: everything where nothing is sealed, nothing where it is."""

import numpy as np
import pytest

from confide.attacks.updates.sealed import guess_values
from confide.membership.frames import FrameSpec, write_frames
from confide.membership.identity import Identity
from confide.membership.roster import Roster
from confide.seal.adder import write_chunk
from confide.seal.fixedpoint import pack, quantize
from confide.seal.onetime import OneTimeClient
from confide.seal.plain import PlainClient
from confide.seal.profiles import get_profile
from confide.seal.scheme import ClientSealing, SealContext
from confide.seal.shared import SharedClient, new_shared_keys
from confide.update import Vector

NAMES = ("east", "north", "west")
IDENTITIES = [Identity.generate(name) for name in NAMES]
ROSTER = Roster([identity.public for identity in IDENTITIES])
NUM_VALUES = 20_001
VALUES = (0.01 * np.random.default_rng(0).standard_normal(NUM_VALUES)).astype(np.float32)
LIMIT = 0.1


def frames_of(client: ClientSealing, bodies: list[bytes] | None = None) -> bytes:
    context = SealContext(run="guess", round_number=1, client="east", num_values=NUM_VALUES, limit=LIMIT)
    spec = FrameSpec(
        sealing_digest=client.digest,
        roster_digest=ROSTER.digest,
        run="guess",
        round_number=1,
        num_values=NUM_VALUES,
        limit=LIMIT,
        chunk_values=client.chunk_values,
    )
    sealed = client.begin(context).chunks(VALUES) if bodies is None else iter(bodies)
    return b"".join(write_frames(spec, 1, sealed, IDENTITIES[0].sign))


def sealed_clients() -> list[ClientSealing]:
    return [
        *(OneTimeClient(get_profile("onetime", name), ROSTER, 2) for name in ("compact", "precise", "ultra")),
        *(
            SharedClient(get_profile("shared", name), new_shared_keys(get_profile("shared", name)))
            for name in ("compact", "precise")
        ),
    ]


def correlation(guess: Vector) -> float:
    return float(np.corrcoef(guess, VALUES)[0, 1])


def test_an_update_that_is_not_sealed_is_read() -> None:
    assert (guess_values(frames_of(PlainClient())) == VALUES).all()


@pytest.mark.parametrize("profile", ["compact", "precise", "ultra"])
def test_the_reader_would_read_a_ring_element_without_its_key(profile: str) -> None:
    """The positive control: the same bytes with nothing added for the key give the values away."""
    parameters = get_profile("onetime", profile)
    plain = pack(quantize(VALUES, LIMIT, parameters).levels, parameters)
    body = write_chunk([plain * np.uint64(parameters.message_scale)], parameters)
    guess = guess_values(frames_of(OneTimeClient(parameters, ROSTER, 2), [body]))
    # Only rounding to levels is between them: of 11 bits over a range of ten standard deviations at the coarsest.
    assert correlation(guess) > 0.999


@pytest.mark.parametrize("client", sealed_clients(), ids=lambda client: f"{client.name}/{client.profile_name}")
def test_a_sealed_update_tells_nothing(client: ClientSealing) -> None:
    guess = guess_values(frames_of(client))
    assert guess.shape == VALUES.shape
    assert np.isfinite(guess).all()
    # Of 20,001 values, a correlation by chance has the standard deviation 0.007: five of these, one in two million.
    assert abs(correlation(guess)) < 5 / np.sqrt(NUM_VALUES)
