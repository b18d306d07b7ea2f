"""What is concluded of measured epsilons: which claim they are compared with, and at which level."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from confide.attacks.passes import Passes
from confide.audit.canary_clients import SHARE, ClientClaim
from confide.audit.document import ViewKind
from confide.audit.epsilon_bounds import Claim, EpsilonBound, EpsilonUnit
from confide.audit.judging import Findings
from confide.audit.statistics import SIGNIFICANCE, gaussian_mechanism_epsilon, threshold_bound
from confide.audit.told import Told
from confide.auditor.audited import Audited
from confide.auditor.canary_clients import CanaryClients
from confide.auditor.conclusions import conclude
from confide.canaries.canary_clients import canary_client_names

DELTA = 1e-5
NUM_METHODS = 5


def told(view: ViewKind, *, mu: float) -> Told:
    """A Gaussian mechanism's scores of 1000 canaries."""
    rng = np.random.default_rng(7)
    coins = rng.random(1000) < 0.5
    scores = mu * coins + rng.standard_normal(1000)
    return Told(view=view, population="random", attack="a", scores=scores, coins=coins)


def concluded(
    audited: Audited,
    folder: Path,
    *asked: Told,
    claim: Claim | None,
    coalition: int = 1,
    canaries: ClientClaim | None = None,
) -> list[EpsilonBound]:
    """The bounds in the results of a run that claims this, and whose canary clients are held against that."""
    privacy = audited.config.privacy.model_copy(update={"coalition": coalition})
    clients = None if canaries is None else clients_of(audited, canaries)
    changed = replace(
        audited,
        config=audited.config.model_copy(update={"privacy": privacy}),
        facts=audited.facts.model_copy(update={"claim": claim}),
        case=replace(audited.case, unseen=()),
        canary_clients=clients,
    )
    passes = Passes(audited.model, folder, batch_size=1, schemes=())
    return conclude(changed, Findings(told=list(asked)), [], passes, 1.0).epsilons


def clients_of(audited: Audited, claim: ClientClaim) -> CanaryClients:
    names = canary_client_names(10)
    return CanaryClients(everyone=names, in_every_round=names, trained=audited.model.layout, claim=claim, seed=0)


@pytest.mark.parametrize(
    ("unit", "coalition", "compared"),
    [("client", 1, {"client"}), ("client", 2, {"client", "coalition"}), ("example", 1, {"client", "coalition"})],
)
def test_a_coalition_larger_than_a_clients_claim_covers_is_not_compared_with_it(
    unit: EpsilonUnit, coalition: int, compared: set[str], audited: Audited, tmp_path: Path
) -> None:
    assert len(audited.attackers.together) == 2
    asked = [told("client", mu=4.0), told("coalition", mu=4.0)]
    claim = Claim(unit=unit, epsilon=1.0, delta=DELTA)
    bounds = concluded(audited, tmp_path, *asked, claim=claim, coalition=coalition)
    assert {one.view for one in bounds} == {"client", "coalition"}
    assert {one.view for one in bounds if one.claimed is not None} == compared
    assert {one.view for one in bounds if one.verdict == "above the claim"} == compared
    assert {one.view for one in bounds if "(privacy.coalition)" in one.note} == {"client", "coalition"} - compared


@pytest.mark.parametrize(("seeded", "compared"), [(False, {"client", "server", "sealed-server"}), (True, {"client"})])
def test_nothing_is_claimed_against_a_server_that_chose_the_seed_of_the_noise(
    seeded: bool, compared: set[str], audited: Audited, tmp_path: Path
) -> None:
    views: tuple[ViewKind, ...] = ("client", "server", "sealed-server")
    claim = Claim(unit="example", epsilon=1.0, delta=DELTA, seeded_noise=seeded)
    bounds = concluded(audited, tmp_path, *[told(view, mu=4.0) for view in views], claim=claim)
    assert {one.view for one in bounds} == set(views)
    assert {one.view for one in bounds if one.claimed is not None} == compared
    assert {one.view for one in bounds if one.verdict == "above the claim"} == compared
    assert {one.view for one in bounds if "The server chose the seed" in one.note} == set(views) - compared


def test_bounds_on_records_leave_their_share_to_canary_clients_that_are_compared(
    audited: Audited, tmp_path: Path
) -> None:
    """The claim lies between what the gaussian method shows with all of the significance and with its share."""
    one = told("client", mu=2.0)

    def low(share: float) -> float:
        members, others = one.scores[one.coins], one.scores[~one.coins]
        level = share * SIGNIFICANCE / NUM_METHODS
        return threshold_bound(members, others, gaussian_mechanism_epsilon, delta=DELTA, significance=level).epsilon

    assert low(1 - SHARE) < low(1.0)
    claim = Claim(unit="example", epsilon=(low(1 - SHARE) + low(1.0)) / 2, delta=DELTA)

    def verdict(canaries: ClientClaim | None) -> str:
        bounds = concluded(audited, tmp_path, one, claim=claim, canaries=canaries)
        return next(bound.verdict for bound in bounds if bound.method == "gaussian")

    assert verdict(None) == "above the claim"
    assert verdict(ClientClaim(epsilon=3.0, delta=DELTA, coalition=1)) == "undecided"
    assert verdict(ClientClaim(epsilon=None, delta=DELTA, coalition=1)) == "above the claim"


def test_bounds_stand_at_the_delta_of_the_run_where_nothing_is_claimed(audited: Audited, tmp_path: Path) -> None:
    bounds = concluded(audited, tmp_path, told("client", mu=1.0), claim=None)
    assert {(one.delta, one.verdict) for one in bounds} == {(audited.config.privacy.delta, "no claim")}
    bounds = concluded(audited, tmp_path, told("client", mu=1.0), claim=Claim(unit="example", epsilon=2.0, delta=1e-3))
    assert {one.delta for one in bounds} == {1e-3}
