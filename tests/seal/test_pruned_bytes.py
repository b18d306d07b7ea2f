"""What pruning saves on the wire, on an adapter of the size of SmolLM2-135M's."""

import numpy as np
import pytest

from confide.membership.frames import FrameSpec, write_frames
from confide.membership.identity import Identity
from confide.membership.roster import Roster
from confide.parties.payload import num_sealed_values
from confide.prune.schedules import kept_count
from confide.seal.onetime import OneTimeClient
from confide.seal.profiles import get_profile
from confide.seal.scheme import SealContext

# LoRA's B of rank 16 on q_proj (576 rows) and v_proj (192 rows) of 30 layers.
NUM_VALUES = 30 * 16 * (576 + 192)


def upload_bytes(profile_name: str, sparsity: float) -> int:
    """Whole frames, with headers and signatures, of one client's update."""
    identities = [Identity.generate(name) for name in ("east", "north", "west")]
    roster = Roster([identity.public for identity in identities])
    sealing = OneTimeClient(get_profile("onetime", profile_name), roster, threshold=2)
    num_values = num_sealed_values(kept_count(NUM_VALUES, sparsity), 0, has_peaks=True)
    context = SealContext(run="r", round_number=1, client="east", num_values=num_values, limit=0.25)
    spec = FrameSpec(
        sealing_digest=sealing.digest,
        roster_digest=roster.digest,
        run="r",
        round_number=1,
        num_values=num_values,
        limit=0.25,
        chunk_values=sealing.chunk_values,
    )
    bodies = sealing.begin(context).chunks(np.zeros(num_values, np.float32))
    return sum(len(frame) for frame in write_frames(spec, 1, bodies, identities[0].sign))


@pytest.mark.parametrize("profile_name", ["compact", "precise", "ultra"])
def test_bytes_fall_with_the_values_that_are_dropped(profile_name: str) -> None:
    whole = upload_bytes(profile_name, 0.0)
    assert upload_bytes(profile_name, 0.5) == pytest.approx(whole / 2, rel=0.01)
    assert upload_bytes(profile_name, 0.9) == pytest.approx(whole / 10, rel=0.01)


def test_a_sealed_value_is_smaller_than_a_plain_one() -> None:
    assert upload_bytes("compact", 0.0) / NUM_VALUES == pytest.approx(3.5, abs=0.01)
