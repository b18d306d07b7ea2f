import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.audit.area_samples import NEEDS_BLIND, AreaSample
from confide.audit.results import Estimate
from confide.report.wording import (
    counted,
    in_words,
    interval,
    metric_name,
    need,
    number,
    p_value,
    records_needed,
    run_names,
    tpr_target,
    with_minus_signs,
)
from tests.report.audits import audit, estimate, facts, measure, too_few

MINUS = "\N{MINUS SIGN}"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (0.4171, "0.417"),
        (-0.0234, f"{MINUS}0.023"),
        (8.4, "8.40"),
        (12.345, "12.3"),
        (1234.6, "1,235"),
        (0.00004, f"4.0e{MINUS}05"),
        (2.2e-308, "0"),
    ],
)
def test_numbers_keep_three_digits_that_count(value: float, shown: str) -> None:
    assert number(value) == shown


@given(st.floats(min_value=-12, max_value=6), st.sampled_from([-1, 1]))
def test_a_number_reads_back_within_the_digits_it_shows(power: float, sign: int) -> None:
    value = sign * 10**power
    read = float(number(value).replace(MINUS, "-").replace(",", ""))
    # two digits below 0.001, three decimals below 1, else three digits or whole numbers; each rounded by half a step
    allowed = 0.05 * abs(value) if abs(value) < 0.001 else max(0.0005, 0.005 * abs(value))
    assert abs(read - value) <= allowed * (1 + 1e-9)


def test_a_value_comes_with_its_interval_and_sample_size() -> None:
    shown = counted(Estimate(value=0.417, low=0.221, high=0.634, num=24)).replace("\N{NO-BREAK SPACE}", " ")
    assert shown == "0.417 [0.221, 0.634], n = 24"
    assert counted(Estimate(value=0.0, low=0.0, high=0.0, num=0)) == "0, by construction"
    assert " " not in interval(estimate(0.4))  # no line breaks inside an interval


def test_sentences_give_shares_in_percent_and_their_differences_in_points() -> None:
    share = Estimate(value=0.417, low=-0.00001, high=0.634, num=1024)
    assert in_words("exact", share).replace("\N{NO-BREAK SPACE}", " ") == "41.7 % (0.0 to 63.4, n = 1,024)"
    assert in_words("tpr@0.01", share, is_difference=True).startswith("41.7 percentage points (")
    assert in_words("auc", share).startswith("0.417 (")
    assert in_words("exposure", estimate(8.4, 1.0)).startswith("8.40 bits (7.40 to 9.40, ")
    assert in_words("near", estimate(-0.05)).startswith(f"{MINUS}5.0\N{NO-BREAK SPACE}% ({MINUS}15.0 to 5.0")


def test_metrics_are_named_and_unknown_ones_keep_their_name() -> None:
    assert metric_name("tpr@0.001") == "true positives at 0.1 % false positives"
    assert metric_name("auc") == "AUC"
    assert metric_name("new_metric") == "new_metric"
    assert (tpr_target("tpr@x"), tpr_target("auc"), tpr_target("tpr@0.05")) == (None, None, 0.05)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("(difference -0.28, -0.60 to +0.01)", f"(difference {MINUS}0.28, {MINUS}0.60 to +0.01)"),
        ("[-3, -.5]", f"[{MINUS}3, {MINUS}.5]"),
        ("partial-80 on 2026-11-22 with --top-p -k", "partial-80 on 2026-11-22 with --top-p -k"),
        ("tau 1e-05", f"tau 1e{MINUS}05"),
        ("1-2 of 3", "1-2 of 3"),
    ],
)
def test_negative_numbers_in_texts_get_minus_signs_and_words_keep_their_hyphens(text: str, shown: str) -> None:
    assert with_minus_signs(text) == shown


def test_p_values_are_never_shown_as_zero() -> None:
    assert (p_value(0.0), p_value(0.0421), p_value(None)) == ("< 0.001", "0.042", "\N{EN DASH}")


def test_runs_that_are_called_alike_get_names_of_their_own() -> None:
    runs = [audit(run=facts(name=name)) for name in ("a", "b", "a", "a", "a (2)")]
    assert run_names(runs) == ["a", "b", "a (2)", "a (3)", "a (2) (2)"]


@pytest.mark.parametrize(("metric", "needed"), [("tpr@0.1", 100), ("tpr@0.01", 1_000), ("tpr@0.001", 10_000)])
def test_a_threshold_needs_ten_records_beyond_it(metric: str, needed: int) -> None:
    assert records_needed(measure(metric=metric)) == needed


def test_the_records_needed_make_a_shares_interval_narrow_enough() -> None:
    num = records_needed(measure(metric="exact", members=Estimate(value=0.5, low=0.36, high=0.64, num=49)))
    half = 1.96 * math.sqrt(0.5 * 0.5 / num)  # a share's, by the normal approximation
    assert half == pytest.approx(0.05, abs=0.001)


def test_more_records_are_needed_than_there_are() -> None:
    assert records_needed(measure(members=estimate(0.5, 0.01, 49))) == 50
    assert records_needed(measure(members=estimate(0.5, 0.0, 0))) == 385
    assert records_needed(measure(metric="exposure", members=estimate(3.0, 2.0, 10))) == 40


def test_too_few_records_always_come_with_a_number() -> None:
    assert need(too_few()) == "at least 1,000 records that were not trained on are needed"
    assert need(too_few(note="such controls about 22 of each are needed.")) == (
        "about 22 records that were trained on and as many others are needed"
    )
    assert need(too_few(note="8 members; to find an AUC of 0.75, 20 of each are needed.")) == (
        "at least 20 records that were trained on and as many others are needed"
    )
    assert need(too_few(caveat="For more, about 80 members and 90 others are needed.", note="Of 7 of each.")) == (
        "about 80 records that were trained on and 90 others are needed"
    )
    assert need(measure(members=estimate(0.5, 0.01, 49))) == "about 50 records are needed"
    assert need(too_few(caveat=NEEDS_BLIND)) == (
        "at least 10 records that were trained on and as many others are needed"
    )


def test_a_caveat_that_asks_for_no_records_is_the_clause_itself() -> None:
    caveat = "The texts alone find 60% of the members; a model's part cannot be told from that."
    assert need(too_few(caveat=caveat)) == "the texts alone find 60% of the members"


def test_the_sentence_asks_for_what_the_caveat_of_a_half_of_the_records_does() -> None:
    """24 members and 24 others, of which one half chose the attack: a gate says the caveat, and the page `need`."""
    caveat = AreaSample(num_members=12, num_others=12, blind=None, is_half=True).shortage(1)
    assert need(too_few(metric="auc", attack="best", caveat=caveat)) == (
        "at least 40 records that were trained on and as many others are needed"
    )
    assert "40 of each are needed in the two halves" in caveat
