"""The laws of every membership attack: a new one is tested by being in the registry."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import kstest, mannwhitneyu

from confide.attacks.membership.positions import Positions, Scores
from confide.attacks.membership.registry import MEMBERSHIP_ATTACKS, MembershipAttack
from confide.attacks.membership.seen import Seen
from confide.attacks.token_stats import TokenStats
from confide.errors import DataError, RunError
from tests.attacks.membership.records import make, permuted, seen_of, token_stats, with_final, without_training

every_attack = pytest.mark.parametrize("attack", MEMBERSHIP_ATTACKS.values(), ids=MEMBERSHIP_ATTACKS)

TRAINED = make(1, effect=0.15)
UNTRAINED = make(2)
# RMIA cannot tell records apart that exceed the whole population: with 400, one of 30 others does so in 1 of 13 sets.
OVERTRAINED = make(3, num_population=400, effect=1.5)


def shrunk(stats: TokenStats, factor: float, mask: npt.NDArray[np.bool_] | None = None) -> TokenStats:
    """The same record with its losses times `factor` where `mask` says so."""
    mask = np.ones_like(stats.is_target) if mask is None else mask
    return replace(stats, logp=np.where(mask, stats.logp * np.float32(factor), stats.logp))


def test_names_are_keys_for_configuration_and_gates() -> None:
    assert all(name == attack.name and name.isidentifier() for name, attack in MEMBERSHIP_ATTACKS.items())


@every_attack
@pytest.mark.parametrize("positions", ["targets", "all"])
@pytest.mark.parametrize("seen", [TRAINED.seen, UNTRAINED.seen, OVERTRAINED.seen], ids=["little", "none", "much"])
def test_every_candidate_has_one_finite_score(attack: MembershipAttack, positions: Positions, seen: Seen) -> None:
    scores = attack.scores(seen, positions)
    assert scores.shape == (seen.num_candidates,)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()


@every_attack
def test_a_score_does_not_depend_on_the_records_place(attack: MembershipAttack) -> None:
    order = np.random.default_rng(0).permutation(TRAINED.seen.num_candidates)
    found = attack.scores(permuted(TRAINED.seen, order))
    # LiRA pools a spread over all candidates: a sum of 240 squares in two orders, off by less than 240 * 2**-52.
    np.testing.assert_allclose(found, attack.scores(TRAINED.seen)[order], rtol=1e-11, atol=1e-11)


@every_attack
def test_a_record_that_became_likelier_rises(attack: MembershipAttack) -> None:
    seen = UNTRAINED.seen
    before = attack.scores(seen)
    place = int(np.argsort(before)[seen.num_candidates // 2])
    final = [shrunk(stats, 0.5) if number == place else stats for number, stats in enumerate(seen.final)]
    after = attack.scores(with_final(seen, final))
    assert after[place] > before[place]
    others = np.arange(seen.num_candidates) != place
    assert np.array_equal(after[others], before[others])


@every_attack
def test_where_nothing_was_trained_attacks_with_a_reference_see_nothing(attack: MembershipAttack) -> None:
    found = attack.scores(without_training(TRAINED.seen))
    if attack.needs & {"base", "rounds"}:
        assert np.ptp(found) == 0
    else:
        assert np.ptp(found) > 0  # it ranks texts, which is no sign of training


@every_attack
def test_only_the_targets_are_read_unless_all_positions_are_asked_for(attack: MembershipAttack) -> None:
    seen = TRAINED.seen
    changed = with_final(seen, [shrunk(stats, 5.0, ~stats.is_target) for stats in seen.final])
    assert np.array_equal(attack.scores(changed), attack.scores(seen))
    assert not np.array_equal(attack.scores(changed, "all"), attack.scores(seen, "all"))


@every_attack
def test_with_shuffled_coins_p_values_are_uniform(attack: MembershipAttack) -> None:
    rng = np.random.default_rng(5)
    scores = attack.scores(TRAINED.seen)
    p_values = []
    for _ in range(200):
        coins = rng.permutation(TRAINED.is_member)
        p_values.append(float(mannwhitneyu(scores[coins], scores[~coins], method="asymptotic").pvalue))
    # 200 values tell a distribution function that is off by 0.14 anywhere; one in a thousand fair sets would fail.
    assert kstest(p_values, "uniform").pvalue > 1e-3


@every_attack
def test_overtrained_members_are_found(attack: MembershipAttack) -> None:
    assert auc(attack.scores(OVERTRAINED.seen), OVERTRAINED.is_member) > 0.99


@every_attack
def test_members_by_no_effect_are_not_found(attack: MembershipAttack) -> None:
    found = mannwhitneyu(*split(attack.scores(UNTRAINED.seen), UNTRAINED.is_member), method="asymptotic")
    # One set of 30 and 30 records per attack; all attacks read the same one, so this is one draw and not sixteen.
    assert found.pvalue > 1e-3


@every_attack
def test_what_is_missing_is_named(attack: MembershipAttack) -> None:
    bare = seen_of(TRAINED.seen.final, TRAINED.seen.base, TRAINED.seen.texts)
    missing = attack.needs - {"base"}
    assert attack.missing(bare) == missing
    if missing:
        with pytest.raises(ValueError, match=f"the attack '{attack.name}' needs {', '.join(sorted(missing))}"):
            attack.scores(bare)
    else:
        assert np.isfinite(attack.scores(bare)).all()


@every_attack
def test_a_record_of_one_token_has_a_score(attack: MembershipAttack) -> None:
    one = token_stats([-1.0], mean=[-0.5], std=[0.0])
    found = attack.scores(with_record(TRAINED.seen, one, token_stats([-2.0])))
    assert np.isfinite(found).all()


@every_attack
def test_a_record_predicted_perfectly_has_a_finite_score(attack: MembershipAttack) -> None:
    perfect = token_stats([0.0] * 5, is_top=[True] * 5, mean=[0.0] * 5, std=[0.0] * 5)
    found = attack.scores(with_record(TRAINED.seen, perfect, token_stats([-2.0] * 5)))
    assert np.isfinite(found).all()
    if attack.name != "lira_online":  # its likelihood ratio may fall again above both of its Gaussians
        assert found[0] >= np.median(found)


@every_attack
def test_a_record_without_a_target_is_refused(attack: MembershipAttack) -> None:
    none = token_stats([-1.0, -1.0], is_target=[False, False])
    seen = with_record(TRAINED.seen, none, none)
    with pytest.raises(DataError, match=r"a record of 2 predicted tokens has none to read \(positions: targets\)"):
        attack.scores(seen)
    assert np.isfinite(attack.scores(seen, "all")).all()


def test_a_score_that_is_no_number_is_never_replaced() -> None:
    def broken(seen: Seen, positions: Positions) -> Scores:
        return np.array([0.0, np.nan, *[1.0] * (seen.num_candidates - 2)])

    attack = MembershipAttack(name="broken", code="M0", title="", source="", function=broken)
    with pytest.raises(RunError, match="the attack 'broken' scored record 1 of 60 with nan"):
        attack.scores(TRAINED.seen)


def with_record(seen: Seen, final: TokenStats, before: TokenStats) -> Seen:
    """The same with another first candidate: so before training and under every shadow, otherwise at the end."""
    before = replace(before, is_target=final.is_target)
    assert seen.shadows is not None
    assert seen.lower is not None
    last = max(seen.rounds)
    return replace(
        seen,
        final=[final, *seen.final[1:]],
        base=[before, *seen.base[1:]],
        rounds={number: [final if number == last else before, *records[1:]] for number, records in seen.rounds.items()},
        lower=[before, *seen.lower[1:]],
        shadows=replace(seen.shadows, stats=[[before, *records[1:]] for records in seen.shadows.stats]),
    )


def split(scores: Scores, is_member: npt.NDArray[np.bool_]) -> tuple[Scores, Scores]:
    return scores[is_member], scores[~is_member]


def auc(scores: Scores, is_member: npt.NDArray[np.bool_]) -> float:
    """The share of pairs that are in order, ties counting half, by its definition."""
    members, others = split(scores, is_member)
    return float(np.mean((members[:, None] > others) + 0.5 * (members[:, None] == others)))
