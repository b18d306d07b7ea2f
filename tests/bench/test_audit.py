"""The audit benchmark on a tiny model: what each row computes, what is compared, what the command prints."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from confide.attacks.membership import MEMBERSHIP_ATTACKS
from confide.bench.audit import (
    ATTACKS,
    ONE_ATTACK,
    Lab,
    compare,
    make_lab,
    models_needed,
    run_audit_benchmark,
    score,
    score_in_turns,
)
from confide.bench.audit_work import AuditWork, GenerationRow, ScoringRow
from confide.bench.training import Spread
from confide.cli.bench_audit import bench_audit_command
from confide.errors import UsageError

WORK = AuditWork(num_records=3, num_rounds=2, max_tokens=600, max_new_tokens=4, batch_size=2, repeats=1)


@pytest.fixture(scope="module")
def lab() -> Lab:
    return make_lab(WORK)


def test_there_are_ten_attacks_and_one_that_needs_every_model(lab: Lab) -> None:
    assert len(set(ATTACKS)) == 10
    assert models_needed(MEMBERSHIP_ATTACKS[ONE_ATTACK], lab.adapters) == [0, 1, 2]
    assert models_needed(MEMBERSHIP_ATTACKS["reference"], lab.adapters) == [0, 2]
    assert models_needed(MEMBERSHIP_ATTACKS["loss"], lab.adapters) == [2]


def test_kept_passes_are_made_once_and_lone_attacks_make_their_own(lab: Lab) -> None:
    runs = score_in_turns(lab)
    models = [len(models_needed(MEMBERSHIP_ATTACKS[name], lab.adapters)) for name in ATTACKS]
    assert {name: run.num_passes for name, run in runs.items()} == {
        "one": 3 * 3,
        "ten": 3 * 3,
        "again": 0,
        "naive": 3 * sum(models),
    }
    assert {name: run.num_attacks for name, run in runs.items()} == {"one": 1, "ten": 10, "again": 10, "naive": 10}


@pytest.mark.parametrize("name", ATTACKS)
def test_scores_are_the_same_alone_and_together(lab: Lab, name: str) -> None:
    shared = lab.passes(None)
    for number in lab.adapters:
        shared.stats(lab.adapters[number], lab.examples)
    attack = MEMBERSHIP_ATTACKS[name]
    alone, together = score(attack, lab.passes(None), lab), score(attack, shared, lab)
    np.testing.assert_array_equal(alone, together)
    assert len(set(alone)) > 1  # the attacks do look at the records


def _row(name: str, seconds: float) -> ScoringRow:
    return ScoringRow(
        name=name,
        num_attacks=1,
        num_passes=1,
        seconds=Spread(median=seconds, lowest=0, highest=99),
        record_models_per_second=1 / seconds,
    )


def _generation(name: str, speed: float) -> GenerationRow:
    spread = Spread(median=1, lowest=1, highest=1)
    return GenerationRow(name=name, batch_size=1, num_tokens=1, seconds=spread, tokens_per_second=speed)


def test_ratios_are_of_medians() -> None:
    rows = [_row("one", 10), _row("ten", 11), _row("again", 0.5), _row("naive", 55)]
    ratios = compare(rows, [_generation("batched", 90), _generation("one by one", 30)])
    assert ratios == pytest.approx({"ten/one": 1.1, "naive/ten": 5, "ten/again": 22, "batched/one by one": 3})


def test_the_result_says_what_was_measured_and_threads_are_put_back() -> None:
    before = torch.get_num_threads()
    told: list[str] = []
    result = run_audit_benchmark(replace(WORK, threads=before + 1), on_progress=told.append)
    assert torch.get_num_threads() == before
    assert [row.name for row in result.rows] == ["one", "ten", "again", "naive"]
    assert all(row.seconds.lowest <= row.seconds.median <= row.seconds.highest for row in result.rows)
    ten = result.rows[1]
    assert ten.record_models_per_second == pytest.approx(3 * 3 / ten.seconds.median)
    assert result.generation[0].num_tokens == result.generation[1].num_tokens > 0
    assert (result.num_models, result.attacks["ez"]) == (3, 2)
    assert told[:2] == ["loading tiny-llama", "scoring: warming up"]


def test_too_few_records_and_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(UsageError, match=r"give \d+ records .* expected 100000. Lower --records or raise --max-tokens"):
        make_lab(replace(WORK, num_records=100_000))
    with pytest.raises(UsageError, match="have to be 1 or more"):
        run_audit_benchmark(replace(WORK, repeats=0))


def test_the_command_prints_json_and_a_table() -> None:
    app = typer.Typer()
    app.command()(bench_audit_command)
    options = ["--records", "2", "--rounds", "1", "--repeats", "1", "--max-new-tokens", "2"]
    finished = CliRunner().invoke(app, [*options, "--json"])
    result = json.loads(finished.stdout)
    assert {"machine", "versions", "work", "rows", "generation", "ratios", "most_for_ten"} <= result.keys()
    assert {row["name"] for row in result["rows"]} == {"one", "ten", "again", "naive"}
    assert result["ratios"].keys() == {"ten/one", "naive/ten", "ten/again", "batched/one by one"}
    table = CliRunner().invoke(app, options).stdout
    assert "10 attacks, each on its own" in table
    assert "target: at most 1.2" in table
    assert "…" not in table  # no number is cut off
