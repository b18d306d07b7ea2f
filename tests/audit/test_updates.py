"""The table on updates: what is high on one client's own update gets lost in means and under a seal."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
import torch.nn.utils.prune
from scipy.stats import binom
from scipy.stats import t as student_t

from confide.attacks.passes import Passes
from confide.attacks.updates.similarity import MEASURES
from confide.attacks.updates.what_if import mean_of
from confide.attacks.view import KnownRound, SeenUpdate, View
from confide.audit.judging import Findings, Found, judge, raw_p_value
from confide.audit.statistics import auc
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
ALONE, EVERYONE, OTHERS, TOGETHER, SEALED = (
    "one client's update",
    "mean of all clients",
    "mean without one's own part",
    "mean without their own parts",
    "sealed updates",
)
SHARES = dict(zip(CLIENTS, (0.25, 0.35, 0.4), strict=True))
NUM_SEALINGS = 60
ERROR_RATE = 1e-6


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
        return View(
            name="server",
            party="a server",
            layout=self.layout,
            client_updates={1: self.updates},
            known=self.known,
            starts={1: lambda: self.start},
        )

    @property
    def known(self) -> dict[int, KnownRound]:
        return {1: KnownRound(layout=self.layout, members=frozenset(self.updates))}

    def client(self, *names: str) -> View:
        mean = mean_of([seen.vector for seen in self.updates.values()], [seen.share for seen in self.updates.values()])
        return View(
            name="client" if len(names) == 1 else "coalition",
            party=" and ".join(names),
            layout=self.layout,
            own_clients=frozenset(names),
            known=self.known,
            starts={1: lambda: self.start},
            mean_updates={1: SeenUpdate(layout=self.layout, vector=mean, share=1.0)},
            own_updates={1: {name: self.updates[name] for name in names}},
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
        return View(
            name="sealed-server", party="the server", layout=self.layout, uploads={1: uploads}, known=self.known
        )

    def rows(self, attacker: str = "west", *, sealed: View | None = None) -> list[Row]:
        return rows_of(
            self.single(),
            sealed,
            [self.client(attacker)],
            is_sealed=sealed is not None,
            seed=0,
            most_rounds=3,
        )

    def audit(self, rows: list[Row]) -> Findings:
        return audit_updates(rows, self.passes, self.population, self.truth, seed=0)

    def row(self, updates: Mapping[str, SeenUpdate]) -> Row:
        """Single updates of the one round, whoever's they are."""
        return Row(name=ALONE, view="server", targets={1: updates}, starts={1: self.start})


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


@pytest.mark.parametrize("percent", [20, 50])
def test_pruning_weights_as_fedshield_publishes_it_does_not_hide_members(table: Findings, percent: int) -> None:
    """The bound is that of the whole update: what half of every tensor's weights tell is enough."""
    found = of(table, f"one client's update, FedShield's pruning, {percent} %")
    assert found.members.value > 0.9
    assert found.members.low > 0.5
    assert "weights of every tensor are set to zero" in found.note


@pytest.mark.parametrize("percent", [20, 50])
def test_fedshields_rows_hold_what_arrives_less_the_weights_that_arrived_as_zero(
    federation: Federation, percent: int
) -> None:
    """The reference is torch's own pruning, tensor by tensor, of the weights and not of the update."""
    rows = {row.name: row for row in federation.rows()}
    given = rows[f"one client's update, FedShield's pruning, {percent} %"].targets[1]
    for client, seen in federation.updates.items():
        weights = federation.layout.unflatten(federation.start + seen.vector)
        starts = federation.layout.unflatten(federation.start)
        for name, target in federation.layout.unflatten(given[client].vector).items():
            module = torch.nn.Module()
            module.weight = torch.nn.Parameter(torch.from_numpy(weights[name].copy()))
            sent = torch.nn.utils.prune.l1_unstructured(module, "weight", percent / 100).weight.detach().numpy()
            np.testing.assert_array_equal(target, np.where(sent == 0, np.float32(0), sent - starts[name]))


def test_dropping_an_updates_smallest_values_is_another_row_than_pruning_weights(federation: Federation) -> None:
    rows = {row.name: row.targets[1]["east"].vector for row in federation.rows()}
    for percent in (50, 90):
        kept = rows[f"one client's update, its smallest {percent} % dropped"]
        assert np.count_nonzero(kept == 0) == int(percent / 100 * kept.size)
    of_update, of_weights = (
        rows[f"one client's update, {how}"] for how in ("its smallest 50 % dropped", "FedShield's pruning, 50 %")
    )
    assert ((of_update == 0) != (of_weights == 0)).any()


def test_sealed_updates_are_at_chance(federation: Federation) -> None:
    """Sealing is random, so this may fail by chance: once in a million times for each measure and bound.

    Records' gradients have something in common, so an AUC by one sealing spreads by 0.074 to 0.089, where it would by
    0.073 if they had not, and up to one in ten of its 95 % intervals misses 0.5. The mean over sealings shows what
    single intervals hide, where one client's own update gives more than 0.9.
    """
    sealings = [
        replace(row, name=str(number))
        for number in range(NUM_SEALINGS)
        for row in federation.rows(sealed=federation.sealed())
        if row.name == SEALED
    ]
    found = federation.audit(sealings).found
    for measure in MEASURES:
        areas = [one.members for one in found if one.attack == measure]
        assert len(areas) == NUM_SEALINGS
        num_missed = sum(not one.covers(0.5) for one in areas)
        assert num_missed <= binom.isf(ERROR_RATE, NUM_SEALINGS, 0.1), measure
        values = np.array([one.value for one in areas])
        bound = student_t.isf(ERROR_RATE / 2, NUM_SEALINGS - 1) * values.std(ddof=1) / NUM_SEALINGS**0.5
        assert abs(values.mean() - 0.5) <= bound, measure
        assert bound < 0.1, measure


def test_only_single_updates_are_a_what_if_and_sealed_ones_are_the_sealed_servers(table: Findings) -> None:
    of_nobody = {one.population for one in table.found if one.is_hypothetical}
    assert of_nobody == {one.population for one in table.found if one.view == "server"}
    views = {one.population: one.view for one in table.found}
    assert views[ALONE] == "server"
    assert views[EVERYONE] == views[OTHERS] == "client"
    assert views[SEALED] == "sealed-server"
    assert of(table, ALONE).note == "What if the run were not sealed."
    assert "What if" not in of(table, SEALED).note


def test_only_what_a_party_of_the_run_is_given_bounds_epsilon(federation: Federation, table: Findings) -> None:
    sealed = {(one.view, one.attack) for one in table.told}
    assert sealed == {
        ("client", f"joint with the {EVERYONE}"),
        ("client", f"joint with the {OTHERS}"),
        ("sealed-server", f"joint with the {SEALED}"),
    }
    plain = {one.attack for one in federation.audit(federation.rows()).told if one.view == "server"}
    assert plain == {f"joint with the {ALONE}"}  # and no row that was pruned, noised or put together here


def test_scores_that_bound_epsilon_are_those_of_the_table_beside_the_coins(table: Findings) -> None:
    for row in (EVERYONE, OTHERS):
        (told,) = (one for one in table.told if one.attack == f"joint with the {row}")
        members, others = told.scores[told.coins], told.scores[~told.coins]
        assert auc(members, others).interval.value == pytest.approx(of(table, row, "joint").members.value)
        assert told.population == "records"


def test_in_a_run_without_seals_nothing_is_a_what_if(federation: Federation) -> None:
    assert not any(row.is_hypothetical for row in federation.rows())
    (found,) = (one for one in federation.audit(federation.rows()[:1]).found if one.attack == "cosine")
    assert (found.is_hypothetical, found.note) == (False, "")


def test_the_difference_says_where_it_is_not_the_published_score_and_why(table: Findings) -> None:
    for row in (ALONE, SEALED):
        assert "<g, G> - |g|^2 / 2" in of(table, row, "difference").note
        assert "a factor that nobody outside knows" in of(table, row, "difference").note
        assert "|g|^2" not in of(table, row, "cosine").note


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
    found = pair.audit([pair.row({victim: pair.updates[victim]}), rows[OTHERS]])
    np.testing.assert_allclose(rows[OTHERS].targets[1][victim].vector, pair.updates[victim].vector, atol=1e-6)
    for measure in MEASURES:
        assert of(found, OTHERS, measure).members.value == pytest.approx(of(found, ALONE, measure).members.value)
    assert "mean of 2 clients" not in rows


@pytest.mark.parametrize("victim", CLIENTS)
def test_all_but_one_together_recover_the_last_one_s_update_and_its_scores(federation: Federation, victim: str) -> None:
    """The headline of the threat matrix: sealing changes nothing for clients that work together."""
    coalition = federation.client(*(set(CLIENTS) - {victim}))
    (row,) = rows_of(federation.single(), None, [coalition], is_sealed=True, seed=0, most_rounds=3)[-1:]
    assert (row.name, row.view) == (TOGETHER, "coalition")
    assert row.note == "Nobody else is left in it: this is the update of one client."
    ((name, seen),) = row.targets[1].items()
    assert name == victim
    np.testing.assert_allclose(seen.vector, federation.updates[victim].vector, atol=1e-6)
    found = federation.audit([federation.row({victim: federation.updates[victim]}), row])
    for measure in MEASURES:
        assert of(found, TOGETHER, measure).view == "coalition"
        assert of(found, TOGETHER, measure).members.value == pytest.approx(of(found, ALONE, measure).members.value)


def test_where_an_attacker_lacks_a_part_of_its_own_nothing_is_taken_out(federation: Federation) -> None:
    coalition = federation.client("east", "north")
    holed = replace(coalition, own_updates={1: {"east": federation.updates["east"]}})
    rows = rows_of(federation.single(), None, [holed], is_sealed=True, seed=0, most_rounds=3)
    assert TOGETHER not in {row.name for row in rows}


def test_a_server_that_lacks_a_round_s_start_is_given_it_and_the_row_says_so(federation: Federation) -> None:
    without, having = federation.sealed(), replace(federation.sealed(), starts={1: lambda: federation.start})
    for view, note in ((without, "does not have, of round 1."), (having, "")):
        (row,) = (row for row in federation.rows(sealed=view) if row.name == SEALED)
        assert row.note.endswith(note)
        assert bool(row.note) == bool(note)
        assert row.starts[1] is federation.start


def test_a_server_with_adapters_has_the_mean_that_clients_have(federation: Federation) -> None:
    sealed = replace(federation.sealed(), mean_updates=federation.client("west").mean_updates)
    means = {row.view: row for row in federation.rows(sealed=sealed) if row.name == EVERYONE}
    assert set(means) == {"client", "sealed-server"}
    by_client, by_server = (means[view].targets[1] for view in ("client", "sealed-server"))
    assert by_client.keys() == by_server.keys() == set(CLIENTS)
    assert all(np.array_equal(by_client[name].vector, by_server[name].vector) for name in CLIENTS)
    assert "handed over" in means["sealed-server"].note


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
    rounds = range(1, 11)
    many = replace(
        federation.single(),
        client_updates=dict.fromkeys(rounds, federation.updates),
        known=dict.fromkeys(rounds, federation.known[1]),
        starts=dict.fromkeys(rounds, lambda: federation.start),
    )
    for most, expected in ((1, {10}), (3, {1, 5, 10}), (20, set(range(1, 11)))):
        rows = rows_of(
            many,
            None,
            [federation.client("west")],
            is_sealed=False,
            seed=0,
            most_rounds=most,
        )
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
    found = federation.audit([federation.row(wrong)])
    assert of(found, ALONE).members.low < 0.5


def test_an_update_with_nan_stops_the_audit(federation: Federation) -> None:
    broken = np.full_like(federation.updates["east"].vector, np.nan)
    with pytest.raises(NonFiniteUpdateError):
        federation.audit([federation.row({"east": replace(federation.updates["east"], vector=broken)})])


def test_one_sided_owners_are_reported_and_not_measured(federation: Federation) -> None:
    everybody = dict.fromkeys(federation.truth.members, True)
    found = replace(federation, truth=replace(federation.truth, members=everybody)).audit(federation.rows()[:1])
    assert found.found == []
    assert "72 members and 0 others" in found.all_warnings()[0]
