"""What is said of too few records, and of losses that speak against what the user said."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import pytest

from confide.attacks.candidates import Candidate
from confide.attacks.passes import Passes
from confide.attacks.token_stats import TokenStats
from confide.audit.truth import Population, Truth
from confide.auditor.case import Case
from confide.auditor.evidence import doubts, few_records
from confide.data.examples import TokenizedExample
from confide.errors import DataError
from confide.seeds import stream
from confide.update import Vector

ADAPTER = np.zeros(1, np.float32)


def example(record_id: str) -> TokenizedExample:
    return TokenizedExample(record_id=record_id, input_ids=np.arange(4), loss_mask=np.array([False, False, True, True]))


def case_of(num_members: int, num_others: int, *, is_randomised: bool = True, kind: str = "records") -> Case:
    ids = [f"in-{number}" for number in range(num_members)] + [f"out-{number}" for number in range(num_others)]
    candidates = tuple(Candidate(candidate_id=one, example=example(one), text=one, owner="north") for one in ids)
    return Case(
        populations=(Population(name=kind, candidates=candidates),) if ids else (),
        truth=Truth(members={one: one.startswith("in") for one in ids}, is_randomised=is_randomised),
        held_out=(),
        unseen=(),
        counts={f"{kind}: members": num_members, f"{kind}: others": num_others},
    )


class FakePasses:
    """A model whose base has a loss of 5 everywhere, and that learnt members and others by so much, and some noise."""

    def __init__(self, members: float, others: float, noise: float = 0.1) -> None:
        self.fall = {"in": members, "out": others}
        self.noise = noise

    def stats(self, adapter: Vector | None, examples: Sequence[TokenizedExample]) -> list[TokenStats]:
        rng = stream(0, "test noise")
        found = []
        for one in examples:
            fall = 0.0 if adapter is None else self.fall[one.record_id.split("-")[0]] + self.noise * rng.normal()
            # The first token is no target: what it says must not count.
            logp = np.array([-100.0 if adapter is None else 0.0, -5 + fall - 1, -5 + fall + 1], np.float32)
            found.append(
                TokenStats(
                    logp=logp,
                    is_top=np.zeros(3, np.bool_),
                    rank=np.ones(3, np.int64),
                    mean=logp,
                    std=np.ones(3, np.float32),
                    is_target=one.loss_mask[1:],
                    decoded={},
                )
            )
        return found


def said_of(case: Case, members: float, others: float) -> tuple[list[str], list[str]]:
    """Warnings that are no doubts, and doubts, which have to be warnings too."""
    found = doubts(cast(Passes, FakePasses(members, others)), ADAPTER, case)
    assert set(found.doubts) <= set(found.warnings)
    return [one for one in found.warnings if one not in found.doubts], found.doubts


def test_members_that_were_learnt_raise_no_doubt() -> None:
    assert said_of(case_of(20, 20), members=0.5, others=0.1) == ([], [])


def test_members_whose_loss_fell_no_more_than_that_of_others_are_warned_of_and_not_doubted() -> None:
    """So it is with a model that a good defence keeps from learning by heart, and a gate has to pass on that."""
    (found,), no_doubts = said_of(case_of(20, 20), members=0.3, others=0.3)
    assert no_doubts == []
    assert "nothing shows that they were trained on" in found
    assert "over 20 and 20 records" in found
    # Means of 20 values with a spread of 0.1 are known to 0.05 on each side.
    assert any(f"fell by 0.{digits}" in found for digits in range(250, 351))


def test_it_is_said_what_so_many_records_would_have_shown_and_what_else_may_explain_it() -> None:
    (found,), _ = said_of(case_of(20, 20), members=0.3, others=0.3)
    # By Hanley and McNeil, 20 and 20 records find an AUC of 0.75 four times in five.
    assert "so many records would as a rule show it from an AUC of 0.7" in found
    assert "Either the model learnt this kind of text" in found
    (found,), _ = said_of(case_of(200, 200), members=0.3, others=0.3)
    assert "from an AUC of 0.5" in found


@pytest.mark.parametrize(("num_members", "num_others"), [(3, 3), (9, 200), (19, 19)])
def test_too_few_records_to_show_it_raise_no_doubt(num_members: int, num_others: int) -> None:
    assert said_of(case_of(num_members, num_others), members=0.3, others=0.3) == ([], [])


def test_without_coins_the_membership_audit_says_it_and_not_this() -> None:
    assert said_of(case_of(20, 20, is_randomised=False), members=0.3, others=0.3) == ([], [])


@pytest.mark.parametrize("is_randomised", [True, False])
@pytest.mark.parametrize(("num_members", "num_others"), [(20, 20), (8, 8)])
def test_others_that_were_learnt_better_than_members_are_a_doubt(
    num_members: int, num_others: int, is_randomised: bool
) -> None:
    """Lists that were swapped: no defence makes a model learn what it was not trained on better."""
    case = case_of(num_members, num_others, is_randomised=is_randomised)
    no_more, (found,) = said_of(case, members=0.1, others=0.9)
    assert no_more == []
    assert "the others were learnt better than the members" in found
    assert f"over {num_members} and {num_others} records" in found


@pytest.mark.parametrize("is_randomised", [True, False])
def test_an_adapter_that_makes_its_members_less_likely_is_taken_for_another_base_s(is_randomised: bool) -> None:
    no_more, (found,) = said_of(case_of(20, 20, is_randomised=is_randomised), members=-2.0, others=-2.0)
    assert no_more == []
    assert "It is of another base model" in found
    assert "fell by -2." in found or "fell by -1.9" in found


def test_too_few_to_say_anything_raise_no_doubt() -> None:
    assert said_of(case_of(1, 20), members=0.0, others=0.0) == ([], [])


@pytest.mark.parametrize(("num_members", "num_others"), [(9, 30), (30, 9), (2, 2)])
def test_too_few_records_are_said_with_how_many_are_needed(num_members: int, num_others: int) -> None:
    (found,) = few_records(case_of(num_members, num_others))
    assert found.startswith("records: too few records for a conclusion from rankings (membership): ")
    assert found.endswith("more are needed, as each measure says.")
    assert f"{num_members} members and {num_others} non-members" in found
    assert "20 of each are needed" in found  # by Hanley and McNeil, for an AUC of 0.75


def test_enough_records_are_not_remarked_upon() -> None:
    assert few_records(case_of(20, 20)) == []


@pytest.mark.parametrize(("num_members", "num_others"), [(0, 0), (40, 0), (0, 40), (1, 40), (40, 1)])
def test_with_nothing_to_compare_there_is_no_audit(num_members: int, num_others: int) -> None:
    with pytest.raises(DataError, match=r"nothing to compare.*at least 2 of each, and 20 of each.*audit\.canaries"):
        few_records(case_of(num_members, num_others))
