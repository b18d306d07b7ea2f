"""What a private run draws: as often, as likely and as large as the accountant and the grid's planner are told."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from torch import Tensor

from confide.agreed import most_values_sent
from confide.build import build_model, privacy_clients
from confide.build import privacy as built
from confide.build.privacy import build_privacy
from confide.build.privacy_asked import noise_source
from confide.cli.train import train
from confide.config.schema import Config
from confide.parties.releasing import MOST_NOISINGS
from confide.privacy.accounting import epsilon
from confide.privacy.both_levels import BothPrivacy
from confide.privacy.client_level import ClientPrivacy, Grid, plan_grid
from confide.privacy.coins import bernoulli
from confide.privacy.events import SampledGaussian
from confide.privacy.example_level import ExamplePrivacy
from confide.privacy.gaussian import gaussian_noise
from confide.privacy.randomness import NoiseSource
from confide.run import RunDirectory
from confide.train import private as private_training
from confide.train.private import add_clipped
from confide.update import Vector

ConfigMaker = Callable[..., Config]

DELTA, CLIP_NORM, STEPS, BATCH = 1e-3, 0.7, 2, 3
UNITS = {
    "example": {},
    "both": {"privacy__client_noise_multiplier": 2.0, "privacy__client_clip_norm": 0.3},
}


@dataclass
class Draws:
    """Of one client in one round: how many coins were flipped for a step and how likely each, how much noise."""

    coins: list[tuple[int, float]] = field(default_factory=list)
    noise: list[tuple[int, float]] = field(default_factory=list)


@dataclass
class Watch:
    """All draws of a run, by client and round, and every bound that gradients were clipped to."""

    draws: dict[tuple[str, int], Draws] = field(default_factory=dict)
    clip_norms: list[float] = field(default_factory=list)
    _sources: list[tuple[NoiseSource, Draws]] = field(default_factory=list)

    def start(self, patch: pytest.MonkeyPatch) -> None:
        """Has everything that the run draws and clips remembered, and done as before."""

        def watched_source(config: Config, client: str, purpose: str, number: int) -> NoiseSource:
            assert purpose == "training"
            source = noise_source(config, client, purpose, number)
            self._sources.append((source, self.draws.setdefault((client, number), Draws())))
            return source

        def watched_coins(num_coins: int, probability: float, source: NoiseSource) -> npt.NDArray[np.bool_]:
            self._of(source).coins.append((num_coins, probability))
            return bernoulli(num_coins, probability, source)

        def watched_noise(num_values: int, noise_stddev: float, source: NoiseSource) -> Vector:
            self._of(source).noise.append((num_values, noise_stddev))
            return gaussian_noise(num_values, noise_stddev, source)

        def watched_clip(totals: Sequence[Tensor], gradients: Sequence[Tensor], clip_norm: float) -> list[float]:
            self.clip_norms.append(clip_norm)
            return add_clipped(totals, gradients, clip_norm)

        patch.setattr(built, "noise_source", watched_source)
        patch.setattr(built, "bernoulli", watched_coins)
        patch.setattr(built, "gaussian_noise", watched_noise)
        patch.setattr(private_training, "add_clipped", watched_clip)

    def _of(self, source: NoiseSource) -> Draws:
        return next(draws for one, draws in self._sources if one is source)


@pytest.mark.parametrize("unit", UNITS)
def test_a_run_draws_what_its_epsilon_is_computed_from(
    unit: str, make_config: ConfigMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(
        privacy__unit=unit,
        privacy__delta=DELTA,
        privacy__noise_multiplier=1.1,
        privacy__clip_norm=CLIP_NORM,
        train__local_steps=STEPS,
        train__batch_size=BATCH,
        **UNITS[unit],
    )
    watch = Watch()
    with monkeypatch.context() as patch:
        watch.start(patch)
        folder = train(config)
    notes = json.loads((folder / "rounds" / "0001" / "clients.json").read_text())
    rows = {note["client"]: int(note["weight"]) for note in notes}  # a client weighs its number of rows
    assert set(watch.draws) == {(client, number) for client in rows for number in (1, 2, 3)}
    assert set(watch.clip_norms) == {CLIP_NORM}
    num_values = most_values_sent(config, build_model(config).layout)
    plans = build_privacy(config, rows, num_values=num_values).plans
    costs = []
    for client, count in rows.items():
        assert count > BATCH  # else each row would join each step, at whatever rate
        of_rounds = [watch.draws[client, number] for number in (1, 2, 3)]
        assert [one.coins for one in of_rounds] == [[(count, BATCH / count)] * STEPS] * 3
        (values, stddev) = of_rounds[0].noise[0]
        assert [one.noise for one in of_rounds] == [[(values, stddev)] * STEPS] * 3
        assert values == num_values  # each that leaves
        drawn = SampledGaussian(
            noise_multiplier=stddev / CLIP_NORM,
            sampling_rate=of_rounds[0].coins[0][1],
            count=sum(len(one.noise) for one in of_rounds),
        )
        plan = plans[client]
        plan = plan.example if isinstance(plan, BothPrivacy) else plan
        assert isinstance(plan, ExamplePrivacy)
        (told,) = plan.events(3)
        assert isinstance(told, SampledGaussian)
        assert (drawn.sampling_rate, drawn.count) == (told.sampling_rate, told.count)
        assert drawn.noise_multiplier == pytest.approx(told.noise_multiplier, rel=1e-12)  # times and over the norm
        costs.append(epsilon([drawn], DELTA))
    assert RunDirectory.open(folder).records()[-1].epsilon == pytest.approx(max(costs), rel=1e-9)


@pytest.mark.parametrize("rounds", [1, 4])
def test_the_range_is_sized_for_every_value_that_may_be_noised(
    rounds: int, make_config: ConfigMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each client and round, as often as one round's update may be noised with another reference weight."""
    planned: list[tuple[float, Grid]] = []

    def watched(*, num_draws: float, **options: Any) -> Grid:
        planned.append((num_draws, plan_grid(num_draws=num_draws, **options)))
        return planned[-1][1]

    monkeypatch.setattr(privacy_clients, "plan_grid", watched)
    config = make_config(privacy__unit="client", privacy__noise_multiplier=2.0, federation__rounds=rounds)
    plans = build_privacy(config, {"a": 5, "b": 6, "c": 7}, num_values=1000).plans
    assert {num_draws for num_draws, _ in planned} == {1000 * 3 * rounds * MOST_NOISINGS}
    for plan in plans.values():
        assert isinstance(plan, ClientPrivacy)
        assert plan.grid in [grid for _, grid in planned]
