"""The table on updates: what is high on one client's own update gets lost in means and under a seal."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from confide.attacks.passes import Passes
from confide.attacks.updates.similarity import MEASURES
from confide.attacks.updates.what_if import mean_of
from confide.attacks.view import SeenUpdate, View
from confide.audit.judging import Findings, Found, judge, raw_p_value
from confide.audit.truth import Population, Truth
from confide.audit.updates import Row, audit_updates, rows_of
from confide.errors import NonFiniteUpdateError
from confide.membership.frames import FrameSpec, write_frames
from confide.membership.identity import Identity
from confide.membership.roster import Roster
from confide.model.lora import AdaptedModel
from confide.seal.onetime import OneTimeClient
from confide.seal.profiles import get_profile
from confide.seal.scheme import SealContext
from confide.update import Layout, Vector
from tests.audit.overtrained import NAMES, make_candidate, start_vector, train

CLIENTS = ("east", "north", "west")
ALONE, EVERYONE, OTHERS, SEALED = (
    "one client's update",
    "mean of all clients",
    "mean without one's own part",
    "sealed updates",
)
SHARES = dict(zip(CLIENTS, (0.25, 0.35, 0.4), strict=True))


@dataclass(frozen=True, kw_only=True)
class Federation:
    """Three clients that each trained for one round on eight of 24 records, until it knew them well."""

    passes: Passes
    population: Population
    truth: Truth
    start: Vector = field(repr=False)
    updates: Mapping[str, SeenUpdate] = field(repr=False)

    @property
    def layout(self) -> Layout:
        return self.passes.model.layout

    def without(self, name: str) -> "Federation":
        """The two others alone, with their shares made whole."""
        left = {other: seen for other, seen in self.updates.items() if other != name}
        total = sum(seen.share for seen in left.values())
        return replace(
            self,
            updates={other: replace(seen, share=seen.share / total) for other, seen in left.items()},
            population=replace(
                self.population, candidates=tuple(one for one in self.population.candidates if one.owner != name)
            ),
        )

    def single(self) -> View:
        return View(name="server", party="a server", layout=self.layout, client_updates={1: self.updates})

    def client(self, name: str) -> View:
        mean = mean_of([seen.vector for seen in self.updates.values()], [seen.share for seen in self.updates.values()])
        return View(
            name="client",
            party=name,
            layout=self.layout,
            own_clients=frozenset({name}),
            mean_updates={1: SeenUpdate(layout=self.layout, vector=mean, share=1.0)},
            own_updates={1: {name: self.updates[name]}},
        )

    def sealed(self) -> View:
        identities = [Identity.generate(name) for name in CLIENTS]
        roster = Roster([identity.public for identity in identities])
        uploads = {}
        for place, (name, seen) in enumerate(self.updates.items()):
            client = OneTimeClient(get_profile("onetime", "compact"), roster, 2)
            limit = float(np.abs(seen.vector).max())
            context = SealContext(run="t", round_number=1, client=name, num_values=seen.vector.size, limit=limit)
            spec = FrameSpec(
                sealing_digest=client.digest,
                roster_digest=roster.digest,
                run="t",
                round_number=1,
                num_values=seen.vector.size,
                limit=limit,
                chunk_values=client.chunk_values,
            )
            chunks = client.begin(context).chunks(seen.vector)
            uploads[name] = b"".join(write_frames(spec, place + 1, chunks, identities[place].sign))
        return View(name="sealed-server", party="the server", layout=self.layout, uploads={1: uploads})

    def rows(self, attacker: str = "west", *, sealed: View | None = None) -> list[Row]:
        return rows_of(
            self.single(), sealed, self.client(attacker), is_sealed=sealed is not None, seed=0, most_rounds=3
        )

    def audit(self, rows: list[Row]) -> Findings:
        return audit_updates(rows, self.passes, {1: self.start}, self.population, self.truth, seed=0)


@pytest.fixture(scope="module")
def federation(model: AdaptedModel) -> Federation:
    rng = np.random.default_rng(3)
    candidates, members = [], {}
    for client in CLIENTS:
        for place, word in enumerate(rng.choice(NAMES, 24, replace=False)):
            name = f"{client}-{place}"
            candidates.append(make_candidate(model, f"{word} {rng.integers(100, 1000)}", client, name=name))
            members[name] = place % 3 == 0
    start = start_vector(model)
    updates = {}
    for client in CLIENTS:
        own = [one.example for one in candidates if one.owner == client and members[one.candidate_id]]
        vector = train(model, start, own, keep=(60,))[60] - start
        updates[client] = SeenUpdate(layout=model.layout, vector=vector, share=SHARES[client])
    return Federation(
        passes=Passes(model, None),
        population=Population(name="records", candidates=tuple(candidates)),
        truth=Truth(members=members, is_randomised=True),
        start=start,
        updates=updates,
    )


@pytest.fixture(scope="module")
def table(federation: Federation) -> Findings:
    return federation.audit(federation.rows(sealed=federation.sealed()))


def of(findings: Findings, row: str, measure: str = "cosine") -> Found:
    (found,) = (one for one in findings.found if (one.population, one.attack) == (row, measure))
    return found


def test_a_single_update_tells_its_members_and_a_mean_less(table: Findings) -> None:
    alone, everyone = of(table, ALONE).members, of(table, EVERYONE).members
    assert alone.value > 0.9
    assert 0.5 < everyone.value < alone.value
    assert everyone.value < of(table, OTHERS).members.value < alone.value


def test_sealed_updates_are_at_chance(federation: Federation) -> None:
    """Sealing is random, and one interval in twenty misses 0.5: of nine, five never do."""
    sealings = [
        replace(row, name=str(number))
        for number in range(9)
        for row in federation.rows(sealed=federation.sealed())
        if row.name == SEALED
    ]
    found = federation.audit(sealings).found
    for measure in ("cosine", "layer cosine"):
        at_chance = [one.members.covers(0.5) for one in found if one.attack == measure]
        assert len(at_chance) == 9
        assert sum(at_chance) >= 5, measure


def test_only_single_updates_are_a_what_if_and_sealed_ones_are_the_sealed_servers(table: Findings) -> None:
    views = {one.population: one.view for one in table.found}
    assert views[ALONE] == "server"
    assert views[EVERYONE] == views[OTHERS] == "client"
    assert views[SEALED] == "sealed-server"
    assert of(table, ALONE).note == "What if the run were not sealed."
    assert "What if" not in of(table, SEALED).note


def test_every_row_stands_beside_the_blind_baseline_and_the_first_row(table: Findings) -> None:
    for one in table.found:
        assert one.controls.keys() == {"chance", "blind"}
        assert ("On the same" in one.note) == (one.population != ALONE)
    assert "On the same 72 records the AUC is" in of(table, SEALED).note
    assert "lower than from one client's update" in of(table, SEALED).note
    assert "On the same 48 records" in of(table, OTHERS).note  # the attacker's own are not asked about


def test_verdicts_follow_what_can_be_told(table: Findings) -> None:
    adjusted = {place: raw_p_value(one) or 0.0 for place, one in enumerate(table.found)}
    verdicts = {(one.population, one.attack): one.verdict for one in judge(table.found, adjusted, is_randomised=True)}
    assert verdicts[ALONE, "cosine"] == "leak"
    assert verdicts[SEALED, "cosine"] != "leak"


@pytest.mark.parametrize("attacker", ["north", "west"])
def test_subtracting_oneself_from_the_mean_of_two_gives_the_others_scores(
    federation: Federation, attacker: str
) -> None:
    pair = federation.without("east")
    (victim,) = set(pair.updates) - {attacker}
    rows = {row.name: row for row in pair.rows(attacker)}
    both = {ALONE: Row(name=ALONE, view="server", targets={1: {victim: pair.updates[victim]}}), OTHERS: rows[OTHERS]}
    found = pair.audit(list(both.values()))
    np.testing.assert_allclose(rows[OTHERS].targets[1][victim].vector, pair.updates[victim].vector, atol=1e-6)
    for measure in MEASURES:
        assert of(found, OTHERS, measure).members.value == pytest.approx(of(found, ALONE, measure).members.value)
    assert "mean of 2 clients" not in rows


def test_one_client_alone_gives_only_its_own_update(federation: Federation) -> None:
    alone = federation.without("east").without("north")
    assert not {EVERYONE, OTHERS} & {row.name for row in alone.rows("west")}


def test_gradients_are_taken_once_for_each_candidate_whatever_the_number_of_rows(federation: Federation) -> None:
    counting = replace(federation, passes=Passes(federation.passes.model, None))
    counting.audit(federation.rows(sealed=federation.sealed()))
    assert counting.passes.num_passes == len(federation.population.candidates)


def test_noise_of_the_same_seed_is_the_same(federation: Federation) -> None:
    noised = [
        row.targets[1]["east"].vector for _ in range(2) for row in federation.rows() if row.name.endswith("own norm")
    ]
    assert np.array_equal(noised[0], noised[1])


def test_rounds_are_spread_and_the_last_is_among_them(federation: Federation) -> None:
    many = replace(federation.single(), client_updates=dict.fromkeys(range(1, 11), federation.updates))
    for most, expected in ((1, {10}), (3, {1, 5, 10}), (20, set(range(1, 11)))):
        rows = rows_of(many, None, federation.client("west"), is_sealed=False, seed=0, most_rounds=most)
        found = {number for row in rows for number in row.targets}
        assert found == expected


def test_shuffled_coins_and_a_wrong_update_tell_nothing(federation: Federation) -> None:
    rng = np.random.default_rng(0)
    names = [one.candidate_id for one in federation.population.candidates]
    shuffled = dict(
        zip(names, rng.permutation([federation.truth.members[name] for name in names]).tolist(), strict=True)
    )
    found = replace(federation, truth=replace(federation.truth, members=shuffled)).audit(federation.rows()[:1])
    assert of(found, ALONE).members.covers(0.5)
    wrong = {
        "east": federation.updates["north"],
        "north": federation.updates["west"],
        "west": federation.updates["east"],
    }
    found = federation.audit([Row(name=ALONE, view="server", targets={1: wrong})])
    assert of(found, ALONE).members.low < 0.5


def test_an_update_with_nan_stops_the_audit(federation: Federation) -> None:
    broken = np.full_like(federation.updates["east"].vector, np.nan)
    row = Row(name=ALONE, view="server", targets={1: {"east": replace(federation.updates["east"], vector=broken)}})
    with pytest.raises(NonFiniteUpdateError):
        federation.audit([row])


def test_one_sided_owners_are_reported_and_not_measured(federation: Federation) -> None:
    everybody = dict.fromkeys(federation.truth.members, True)
    found = replace(federation, truth=replace(federation.truth, members=everybody)).audit(federation.rows()[:1])
    assert found.found == []
    assert "72 members and 0 others" in found.warnings[0]
