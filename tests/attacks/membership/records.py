"""Candidates made of random numbers, for tests: how much training helped members is known, and may be nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from confide.attacks.membership.seen import Seen, Shadows
from confide.attacks.token_stats import TokenStats

NUM_ROUNDS = 4
NUM_SHADOWS = 8
OWNERS = ("north", "east", "south")


@dataclass(frozen=True, kw_only=True)
class Made:
    """What an attack gets, and the truth."""

    seen: Seen
    is_member: npt.NDArray[np.bool_]


def token_stats(
    logp: npt.ArrayLike,
    *,
    is_top: npt.ArrayLike = False,
    mean: npt.ArrayLike = -1.0,
    std: npt.ArrayLike = 1.0,
    is_target: npt.ArrayLike = True,
) -> TokenStats:
    """Statistics written out, shape (num_tokens,); otherwise every token is a target and none is the likeliest."""
    shape = np.shape(logp)
    return TokenStats(
        logp=np.array(logp, np.float32),
        is_top=np.broadcast_to(np.array(is_top, np.bool_), shape),
        rank=np.zeros(shape, np.int32),
        mean=np.broadcast_to(np.array(mean, np.float32), shape),
        std=np.broadcast_to(np.array(std, np.float32), shape),
        is_target=np.broadcast_to(np.array(is_target, np.bool_), shape),
    )


def seen_of(final: Sequence[TokenStats], base: Sequence[TokenStats], texts: Sequence[str] | None = None) -> Seen:
    """Only a final and a base model."""
    return Seen(final=final, base=base, texts=texts or ["text"] * len(final), owners=["north"] * len(final))


def make(seed: int, *, num_candidates: int = 60, num_population: int = 60, effect: float = 0.0) -> Made:
    """Makes candidates, half of them members, under a base model, four rounds and eight shadows.

    A model's loss on a token is that of the model before, times the exponential of noise; for a member also times
    exp(-effect) in every round. So with effect 0 members and others are drawn from one distribution.
    """
    rng = np.random.default_rng(seed)
    is_member = rng.permutation(np.arange(num_candidates) % 2 == 0)
    candidates = [_base(rng) for _ in range(num_candidates)]
    population = [_base(rng) for _ in range(num_population)]
    rounds, population_rounds = {0: candidates}, {0: population}
    for number in range(1, NUM_ROUNDS + 1):
        rounds[number] = [
            _trained(stats, effect * member, rng) for stats, member in zip(rounds[number - 1], is_member, strict=True)
        ]
        population_rounds[number] = [_trained(stats, 0.0, rng) for stats in population_rounds[number - 1]]
    trained_on = rng.permuted(np.tile(np.arange(NUM_SHADOWS) % 2 == 0, (num_candidates, 1)), axis=1).T
    shadows = Shadows(
        stats=[
            [_trained(stats, NUM_ROUNDS * effect * member, rng) for stats, member in zip(candidates, row, strict=True)]
            for row in trained_on
        ],
        population=[[_trained(stats, 0.0, rng) for stats in population] for _ in range(NUM_SHADOWS)],
        trained_on=trained_on,
    )
    seen = Seen(
        final=rounds[NUM_ROUNDS],
        base=candidates,
        rounds=rounds,
        population_rounds=population_rounds,
        lower=[_base(rng) for _ in range(num_candidates)],
        texts=["".join(rng.choice(list("abcdefgh "), size=4 * stats.logp.size)) for stats in candidates],
        owners=list(rng.choice(OWNERS, size=num_candidates)),
        shadows=shadows,
    )
    return Made(seen=seen, is_member=is_member)


def permuted(seen: Seen, order: npt.NDArray[np.int64]) -> Seen:
    """The same candidates in another order."""
    assert seen.lower is not None
    assert seen.shadows is not None
    return replace(
        seen,
        final=[seen.final[place] for place in order],
        base=[seen.base[place] for place in order],
        rounds={number: [records[place] for place in order] for number, records in seen.rounds.items()},
        lower=[seen.lower[place] for place in order],
        texts=[seen.texts[place] for place in order],
        owners=[seen.owners[place] for place in order],
        shadows=replace(
            seen.shadows,
            stats=[[records[place] for place in order] for records in seen.shadows.stats],
            trained_on=seen.shadows.trained_on[:, order],
        ),
    )


def with_final(seen: Seen, final: Sequence[TokenStats]) -> Seen:
    """The same with another final model, which is the last round's too."""
    return replace(seen, final=final, rounds={**seen.rounds, max(seen.rounds): final})


def without_training(seen: Seen) -> Seen:
    """The same with the base model for the final one and for every round's."""
    return replace(
        seen,
        final=seen.base,
        rounds=dict.fromkeys(seen.rounds, seen.base),
        population_rounds=dict.fromkeys(seen.population_rounds, seen.population_rounds[0]),
    )


def _base(rng: np.random.Generator) -> TokenStats:
    """A record of 14 to 60 predicted tokens, the first 4 to 10 of them the prompt's, at about 2.4 nats each."""
    prompt, response = int(rng.integers(4, 11)), int(rng.integers(10, 51))
    size = prompt + response
    stats = token_stats(
        -rng.gamma(4.0, 0.6, size).clip(1e-3),
        mean=-rng.gamma(4.0, 0.5, size),
        std=rng.gamma(4.0, 0.4, size),
        is_target=np.arange(size) >= prompt,
    )
    return replace(stats, is_top=_is_top(stats))


def _trained(stats: TokenStats, effect: float, rng: np.random.Generator) -> TokenStats:
    noise = rng.normal(0.0, 0.03) + rng.normal(0.0, 0.2, stats.logp.size)
    moved = replace(stats, logp=(stats.logp * np.exp(-effect - noise)).astype(np.float32))
    return replace(moved, is_top=_is_top(moved))


def _is_top(stats: TokenStats) -> npt.NDArray[np.bool_]:
    """A token of probability a half or more is the likeliest one; take the others for not."""
    mask: npt.NDArray[np.bool_] = stats.logp > -np.log(2.0)
    return mask
