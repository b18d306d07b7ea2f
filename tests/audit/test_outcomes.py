"""What happened to each record, as results keep it: matched by keys, rounded, and read back."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from confide.audit.areas import area, low_end
from confide.audit.judging import Found, Subject, judge
from confide.audit.outcomes import RecordOutcomes, keep_outcomes
from confide.audit.rates import mean, rate
from confide.audit.results import AuditResults, Outcomes, Ranks
from confide.audit.statistics import auc_value
from tests.report.audits import audit, measure

RNG = np.random.Generator(np.random.Philox(4))
NAMES = tuple(f"clinic-letter-{number:04d}" for number in range(40))
LABELS = RNG.random(40) < 0.5
SUBJECT = Subject(
    view="client", family="membership", attack="a", code="", population="records", labels=LABELS, records=NAMES
)


def _kept(found: Found, fingerprint: bytes = b"data") -> Outcomes:
    _, (outcomes,) = keep_outcomes([found.outcomes], fingerprint)
    assert outcomes is not None
    return outcomes


def test_a_rates_number_comes_back_from_its_outcomes() -> None:
    happened, to_base = RNG.random(40) < 0.4, RNG.random(40) < 0.1
    found = rate(SUBJECT, "exact", happened, to_base)
    kept = _kept(found)
    assert kept.kind == "flag"
    assert np.mean(kept.members) == pytest.approx(found.members.value)
    assert np.mean(kept.others) == pytest.approx(found.controls["held_out"].value)
    assert kept.base is not None
    assert np.mean(kept.base) == pytest.approx(found.controls["base"].value)
    assert set(map(type, kept.members)) == {int}


@pytest.mark.parametrize("is_share", [True, False])
def test_a_means_number_comes_back_up_to_rounding(is_share: bool) -> None:
    values = RNG.random(40) * 1e-3
    found = mean(SUBJECT, "rouge_l", values, None, most=1.0 if is_share else None, most_of_each=np.ones(40))
    kept = _kept(found)
    assert kept.kind == ("share" if is_share else "number")
    assert np.mean(kept.members) == pytest.approx(found.members.value, rel=5e-4)  # half a step of the fourth digit
    assert kept.base is None


@given(st.lists(st.integers(-3, 3), min_size=40, max_size=40), st.floats(1e-9, 1e9))
def test_an_auc_comes_back_exactly_ties_included(scores: list[int], scale: float) -> None:
    found = area(SUBJECT, np.array(scores) * scale, None)
    kept = _kept(found)
    assert kept.kind == "rank"
    assert auc_value(kept.members, kept.others) == found.members.value


def test_a_part_of_the_candidates_is_kept_as_that_part() -> None:
    part = np.arange(40) % 2 == 0
    found = area(SUBJECT, RNG.normal(size=40), None, part=part)
    asked, (kept,) = keep_outcomes([found.outcomes], b"data")
    assert kept is not None
    assert (len(kept.members), len(kept.others)) == (int((LABELS & part).sum()), int((~LABELS & part).sum()))
    assert [len(asked[kept.asked].members), len(asked[kept.asked].others)] == [len(kept.members), len(kept.others)]


def test_a_true_positive_rate_is_the_share_of_its_flags() -> None:
    found = low_end(SUBJECT, RNG.normal(size=40) + LABELS, None, max_fpr=0.1)
    assert np.mean(_kept(found).members) == pytest.approx(found.members.value)


def test_the_order_of_candidates_changes_nothing() -> None:
    order = RNG.permutation(40)
    values = RNG.random(40)
    shuffled = replace(SUBJECT, labels=LABELS[order], records=tuple(NAMES[place] for place in order))
    first = keep_outcomes([SUBJECT.outcomes("number", values)], b"data")
    assert first == keep_outcomes([shuffled.outcomes("number", values[order])], b"data")


def test_keys_are_of_the_data_and_say_no_name() -> None:
    outcomes = SUBJECT.outcomes("flag", LABELS)
    (asked,), (other,) = (keep_outcomes([outcomes], data)[0].values() for data in (b"data", b"other data"))
    keys = {*asked.members, *asked.others}
    assert len(keys) == 40
    assert not keys & {*other.members, *other.others}
    assert max(keys) < 2**53  # exact in every reader of JSON


def test_each_list_of_records_stands_once() -> None:
    values = RNG.random(40)
    part = np.arange(40) < 30
    asked, kept = keep_outcomes(
        [
            SUBJECT.outcomes("number", values),
            None,
            SUBJECT.outcomes("rank", values),
            SUBJECT.outcomes("rank", values, part=part),
        ],
        b"data",
    )
    assert len(asked) == 2
    names = [None if one is None else one.asked for one in kept]
    all_of_them, part_of_them = asked
    assert names == [all_of_them, None, all_of_them, part_of_them]


def test_without_names_nothing_is_kept_and_wrong_names_are_an_error() -> None:
    assert replace(SUBJECT, records=()).outcomes("flag", LABELS) is None
    with pytest.raises(ValueError, match="39 records are named, expected 40"):
        replace(SUBJECT, records=NAMES[1:]).outcomes("flag", LABELS)


def _results() -> AuditResults:
    found = [rate(SUBJECT, "exact", RNG.random(40) < 0.4, LABELS), area(SUBJECT, RNG.normal(size=40), None)]
    asked, outcomes = keep_outcomes([one.outcomes for one in found], b"data")
    measures = judge(found, {}, is_randomised=True)
    return audit(
        asked=asked,
        measures=[one.model_copy(update={"outcomes": kept}) for one, kept in zip(measures, outcomes, strict=True)],
    )


def test_results_read_back_as_they_were_written_a_line_for_each_list_of_numbers() -> None:
    results = _results()
    text = results.to_json()
    assert AuditResults.model_validate_json(text) == results
    assert json.loads(text) == json.loads(results.model_dump_json())
    assert (
        sum(line.lstrip().startswith(('"members": [', '"others": [', '"base": [')) for line in text.splitlines()) == 7
    )
    assert text.endswith("}\n")


def test_results_without_outcomes_can_still_be_read() -> None:
    old = json.loads(audit(measures=[measure()]).model_dump_json())
    del old["asked"], old["measures"][0]["outcomes"], old["measures"][0]["caveat"]
    (read,) = AuditResults.model_validate(old).measures
    assert read.outcomes is None


def test_ranks_read_back_and_results_from_before_there_were_any_have_none() -> None:
    exposures = SUBJECT.outcomes("number", RNG.random(40))
    assert exposures is not None
    asked, (kept,) = keep_outcomes([replace(exposures, ranks=Ranks(fewest=4, most=900))], b"data")
    results = audit(asked=asked, measures=[measure(family="exposure").model_copy(update={"outcomes": kept})])
    written = json.loads(results.to_json())
    assert written["measures"][0]["outcomes"]["ranks"] == {"fewest": 4, "most": 900}
    assert AuditResults.model_validate(written) == results
    del written["measures"][0]["outcomes"]["ranks"]
    (old,) = AuditResults.model_validate(written).measures
    assert old.outcomes is not None
    assert old.outcomes.ranks is None
    assert old.outcomes.members == written["measures"][0]["outcomes"]["members"]


def test_outcomes_of_other_records_than_listed_are_refused() -> None:
    broken = json.loads(_results().model_dump_json())
    broken["measures"][0]["outcomes"]["members"].append(1)
    with pytest.raises(ValidationError, match="as many outcomes as records were expected"):
        AuditResults.model_validate(broken)
    broken = json.loads(_results().model_dump_json())
    broken["asked"] = {}
    with pytest.raises(ValidationError, match="about records that are not listed"):
        AuditResults.model_validate(broken)


def test_a_large_audits_file_stays_small() -> None:
    names = tuple(f"record-{number}" for number in range(200))
    labels = np.arange(200) % 2 == 0
    subject = replace(SUBJECT, labels=labels, records=names)
    outcomes: list[RecordOutcomes | None] = []
    for _ in range(75):
        outcomes += [
            subject.outcomes("rank", RNG.normal(size=200)),
            subject.outcomes("flag", labels),
            subject.outcomes("flag", labels, labels),
            subject.outcomes("share", RNG.random(200), RNG.random(200)),
        ]
    asked, kept = keep_outcomes(outcomes, b"data")
    results = audit(asked=asked, measures=[measure().model_copy(update={"outcomes": one}) for one in kept])
    assert len(results.to_json()) < 600_000  # bytes, for 300 measures of 200 records


def test_results_hold_no_record_id() -> None:
    assert "clinic-letter" not in _results().to_json()
