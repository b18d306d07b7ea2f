import math

import numpy as np
import pytest
from scipy.stats import binomtest

from confide.audit.results import Asked, AuditResults, Estimate, Ranks
from confide.audit.statistics import holm
from confide.report.differences import Change, compare, difference, notes_on_changes, other_ranks, other_records
from confide.report.pairing import paired
from tests.report.audits import audit, estimate, measure, paired_audits, ranked_audit


def _wilson(count: int, num: int) -> Estimate:
    """Wilson's interval for a share, solved from |count / num - share| = 1.96 sqrt(share (1 - share) / num)."""
    z = 1.959964
    middle = (count + z**2 / 2) / (num + z**2)
    half = z * math.sqrt(count * (num - count) / num + z**2 / 4) / (num + z**2)
    return Estimate(value=count / num, low=middle - half, high=middle + half, num=num)


def test_the_difference_of_two_shares_is_newcombes() -> None:
    # Newcombe 1998, table II, contrast (a), 56/70 - 48/80, method 10: 0.0524 to 0.3339
    shown = difference(_wilson(48, 80), _wilson(56, 70))
    assert shown.value == pytest.approx(0.2)
    assert shown.low == pytest.approx(0.0524, abs=5e-5)
    assert shown.high == pytest.approx(0.3339, abs=5e-5)
    assert shown.num == 70


def test_swapping_the_runs_changes_the_sign() -> None:
    first, second = _wilson(3, 24), _wilson(15, 31)
    forth, back = difference(first, second), difference(second, first)
    assert (back.value, back.low, back.high) == pytest.approx((-forth.value, -forth.high, -forth.low))


def test_the_interval_covers_the_true_difference_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    num, shares = 60, (0.15, 0.4)
    hits = 0
    for counts in rng.binomial(num, shares, size=(2000, 2)):
        shown = difference(_wilson(int(counts[0]), num), _wilson(int(counts[1]), num))
        hits += shown.low <= shares[1] - shares[0] <= shown.high
    assert hits / 2000 == pytest.approx(0.95, abs=0.02)  # four standard errors of 0.005


def test_measures_are_matched_by_their_names_in_the_order_they_appear() -> None:
    first = audit(measures=[measure(attack="a", members=estimate(0.2)), measure(attack="b")])
    second = audit(measures=[measure(attack="c"), measure(attack="a", members=estimate(0.5))])
    rows = compare([first, second])
    assert [row.key.split(".")[2] for row in rows] == ["a", "b", "c"]
    assert rows[0].changes[0] is not None
    assert rows[0].changes[0].members.value == pytest.approx(0.3)
    assert not rows[0].changes[0].is_paired
    assert rows[0].changes[0].p_adjusted is None
    assert rows[1].measures[1] is None
    assert rows[1].changes == (None,)
    assert rows[2].changes == (None,)


def test_measures_with_one_name_are_matched_in_their_order() -> None:
    twice = audit(measures=[measure(members=estimate(0.2)), measure(members=estimate(0.4))])
    rows = compare([twice, twice])
    assert [row.changes[0].members.value for row in rows if row.changes[0]] == [0.0, 0.0]
    assert len(rows) == 2


def test_the_same_results_twice_differ_by_nothing_record_by_record() -> None:
    for results in paired_audits():
        for row in compare([results, results]):
            (change,) = row.changes
            assert change is not None
            assert change.is_paired
            assert (change.members.value, change.p_adjusted) == (0.0, 1.0)
            assert change.excess is None or (change.excess.value, change.excess_p_adjusted) == (0.0, 1.0)


def test_what_is_paired_is_known_better() -> None:
    first, second = paired_audits()
    (pairs, _), (alone, _) = (
        compare([first, second]),
        compare(
            [
                first,
                second.model_copy(
                    update={"measures": [one.model_copy(update={"outcomes": None}) for one in second.measures]}
                ),
            ]
        ),
    )
    (paired_change,), (alone_change,) = pairs.changes, alone.changes
    assert paired_change is not None
    assert alone_change is not None
    assert (paired_change.is_paired, alone_change.is_paired) == (True, False)
    assert paired_change.members.value == pytest.approx(alone_change.members.value)
    assert paired_change.p_adjusted is not None
    assert paired_change.p_adjusted < 0.01
    assert alone_change.p_adjusted is None


def test_p_values_are_corrected_over_all_paired_measures_of_two_runs() -> None:
    first, second = paired_audits()
    alone, *_ = compare([one.model_copy(update={"measures": one.measures[:1]}) for one in (first, second)])
    of_two, _ = compare([first, second])
    single, corrected = (row.changes[0].p_adjusted for row in (alone, of_two) if row.changes[0] is not None)
    raw = binomtest(0, 12).pvalue  # twelve of twenty records came out before and do not now
    assert single == pytest.approx(raw)
    assert corrected in (pytest.approx(raw), pytest.approx(2 * raw))  # the larger of two, or the smaller
    other = paired((first.measures[1], first.asked), (second.measures[1], second.asked))
    assert other is not None
    assert corrected == pytest.approx(holm([raw, other.members.p_value])[0])


def test_other_coins_are_not_paired() -> None:
    first, second = paired_audits()
    asked = second.asked["all"]
    turned = Asked(members=asked.others, others=asked.members)
    for row in compare([first, second.model_copy(update={"asked": {"all": turned}})]):
        (change,) = row.changes
        assert change is not None
        assert not change.is_paired
        assert change.p_adjusted is None
        assert change.excess is None


def test_it_is_said_where_runs_were_not_asked_about_the_same_records() -> None:
    first, second = paired_audits()
    names = ["a", "b", "c"]
    asked = second.asked["all"]
    others = Asked(members=[key + 1000 for key in asked.members], others=[key + 1000 for key in asked.others])
    (said,) = other_records([first, second, second.model_copy(update={"asked": {"all": others}})], names)
    assert said.startswith("c was not asked about the same records as a (0 of 40 records): the data, or what")
    # Other coins over the same records are the same data.
    turned = Asked(members=asked.others, others=asked.members)
    assert other_records([first, second.model_copy(update={"asked": {"all": turned}})], names[:2]) == []
    (unknown,) = other_records([first, audit(measures=[measure()])], names[:2])
    assert unknown.startswith("b is not known to have been asked about the same records as a.")
    assert other_records([first], names[:1]) == other_records([first, audit()], names[:2]) == []


def test_half_of_either_runs_records_make_them_the_same() -> None:
    first, _ = paired_audits()  # 40 records
    for num_shared, is_said in ((20, False), (19, True)):
        keys = [*range(num_shared), *range(1000, 1040 - num_shared)]
        later = first.model_copy(update={"asked": {"all": Asked(members=keys[::2], others=keys[1::2])}})
        assert bool(other_records([first, later], ["a", "b"])) == is_said


def _change(first: AuditResults, later: AuditResults) -> Change | None:
    """Of the one measure that both have."""
    (row,) = compare([first, later])
    assert None not in row.measures
    return row.changes[0]


def test_exposures_among_other_numbers_of_values_are_not_compared_and_it_is_said() -> None:
    """The same model and records: 5 bits among 32 values are all there is, and so are 9.81 among 900."""
    few, many = ranked_audit(4.7, Ranks(fewest=32, most=32)), ranked_audit(9.5, Ranks(fewest=900, most=900))
    assert _change(few, many) is None
    assert _change(many, few) is None
    (said,) = other_ranks([few, few, many], ["a", "b", "c"])
    assert said.startswith(
        "c ranked planted secrets among other numbers of values than a (E10 rank, planted personal data: 900 against "
        "32). Exposure goes no further than that, so no change of it from a is given."
    )
    assert notes_on_changes([few, few, many], ["a", "b", "c"]) == [said]
    change = _change(many, ranked_audit(9.0, Ranks(fewest=900, most=900)))
    assert change is not None
    assert change.is_paired
    assert change.members.value == pytest.approx(-0.5)


def test_a_secret_with_fewer_values_than_the_others_makes_another_range() -> None:
    alike, mixed = ranked_audit(5.0, Ranks(fewest=900, most=900)), ranked_audit(5.0, Ranks(fewest=4, most=900))
    assert _change(alike, mixed) is None
    (said,) = other_ranks([alike, mixed], ["a", "b"])
    assert "4 to 900 against 900" in said
    assert _change(mixed, mixed) is not None
    # Settings that differ where the values do not, as a larger bound on a smaller form, change nothing.
    assert _change(mixed, mixed.model_copy(update={"settings": {"full_ranking": 9}})) is not None


@pytest.mark.parametrize("known", [None, Ranks(fewest=32, most=32)])
def test_exposures_of_earlier_versions_are_compared_only_if_ranked_under_the_same_settings(known: Ranks | None) -> None:
    old = ranked_audit(4.0, None, full_ranking=0, alternatives=31)
    assert _change(old, ranked_audit(4.5, known, full_ranking=0, alternatives=31)) is not None
    for settings in ({"full_ranking": 900, "alternatives": 31}, {"full_ranking": 0, "alternatives": 64}, {}):
        later = ranked_audit(4.5, known, **settings)
        assert _change(old, later) is None
        (said,) = other_ranks([old, later], ["a", "b"])
        assert said.startswith("b is not known to have ranked planted secrets among as many values as a. ")


def test_what_is_no_exposure_is_compared_however_secrets_were_ranked() -> None:
    first, second = paired_audits()
    second = second.model_copy(update={"settings": {**second.settings, "full_ranking": 9}})
    assert all(row.changes[0] is not None for row in compare([first, second]))
    assert notes_on_changes([first, second], ["a", "b"]) == []
