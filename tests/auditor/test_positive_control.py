"""A positive control for the whole audit: what a run has learnt by heart every family of attacks calls a leak."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from confide.attacks import blind
from confide.attacks.updates.similarity import MEASURES
from confide.audit.membership import BEST
from confide.audit.results import AuditResults, Measure
from confide.auditor import AuditRequest, audit_run
from confide.canaries.kinds import personal
from confide.canaries.kinds.personal import invent_people
from confide.cli.train import train
from confide.config.load import parse_config
from confide.data.batches import collate
from confide.data.examples import TokenizedExample
from confide.model.load import load_base_model, pad_token_id
from confide.train.forward import TargetScorer

NUM_COINS = 48
_NUM_PRETRAINING_STEPS = 250


def save_base(folder: Path) -> Path:
    """A tiny model that writes a name and a phone number, any number: what it says of one comes from the run."""
    base, rng = load_base_model("tiny-llama"), np.random.default_rng(0)
    module, tokenizer = base.module, base.tokenizer
    module.requires_grad_(True)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.005, weight_decay=0.0)
    scorer, names = TargetScorer(module), [one.name for one in invent_people(200, seed=1, corpus="").people]
    for step in range(_NUM_PRETRAINING_STEPS):
        texts = [f"{rng.choice(names)} 555-{rng.integers(10_000):04d}" for _ in range(32)]
        rows = [
            [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
            for text in texts
        ]
        batch = collate(
            [
                TokenizedExample(record_id="", input_ids=np.array(row), loss_mask=np.arange(len(row)) > 0)
                for row in rows
            ],
            pad_token_id(tokenizer),
        )
        rate = min(1.0, (step + 1) / 20, (_NUM_PRETRAINING_STEPS - step) / (0.3 * _NUM_PRETRAINING_STEPS))
        optimizer.param_groups[0]["lr"] = 0.005 * rate
        optimizer.zero_grad()
        (scorer.loss_sum(batch) / batch.num_targets).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
    module.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuditResults]:
    """A run of one client that trained until it knew its canaries by heart: a name and a number, and nothing else."""
    folder = tmp_path_factory.mktemp("control")
    rows = [{"client": "east", "text": f"{one.name} {one.phone}"} for one in invent_people(6, seed=2, corpus="").people]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = parse_config(
        {
            "run": {"name": "control", "folder": str(folder / "runs"), "device": "cpu", "threads": 1},
            "model": {"base": str(save_base(folder / "base"))},
            "lora": {"rank": 16, "alpha": 32, "targets": "all-linear"},
            "data": {"path": str(folder / "rows.jsonl"), "template": "plain", "held_out": 0.2},
            "train": {
                "local_steps": 300,
                "batch_size": 32,
                "max_tokens": 64,
                "learning_rate": 0.006,
                "schedule": "linear",
            },
            "evaluate": {"batch_size": 64},
            "federation": {"rounds": 2, "min_clients": 1},
            "seal": {"scheme": "plain"},
            "audit": {
                "record": True,
                "canaries": ["personal"],
                "canaries_per_client": NUM_COINS,
                "records_per_attack": NUM_COINS,
                "max_new_tokens": 12,
                "samples": 4,
                "alternatives": 30,
                "full_ranking": 0,
            },
        }
    )
    quick = {name: baseline for name, baseline in blind.BLIND_BASELINES.items() if name != "words_forest"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(personal, "NOTE_PATTERNS", ("{name} {phone}",))
        patch.setattr(blind, "BLIND_BASELINES", quick)
        # This server reads updates and has every adapter: all families of attacks from one view.
        yield audit_run(train(config), AuditRequest(views=("server",)))


def measure(results: AuditResults, family: str, attack: str, population: str, metric: str) -> Measure:
    (found,) = (
        one
        for one in results.measures
        if (one.family, one.attack, one.population, one.metric) == (family, attack, population, metric)
    )
    return found


def slow_holm(p_values: Sequence[float]) -> list[float]:
    """By definition: no p-value counts for less than a smaller one, times how many are not smaller than that."""
    return [
        min(1.0, max(one * sum(other >= one for other in p_values) for one in p_values if one <= mine))
        for mine in p_values
    ]


@pytest.mark.parametrize(
    ("family", "attack", "population", "metric"),
    [
        ("membership", "loss", "personal", "auc"),
        ("membership", "reference", "personal", "auc"),
        ("extraction", "greedy", "personal", "exact"),
        ("extraction", "union", "personal", "exact"),
        ("exposure", "rank", "personal", "exposure"),
        ("exposure", "fit", "personal", "exposure"),
        ("updates", "cosine", "one client's update", "auc"),
    ],
)
def test_what_was_learnt_by_heart_is_a_leak_after_correction(
    results: AuditResults, family: str, attack: str, population: str, metric: str
) -> None:
    assert min(results.counts["personal: members"], results.counts["personal: others"]) >= 20
    found = measure(results, family, attack, population, metric)
    assert found.p_value is not None
    assert found.p_adjusted is not None
    assert found.p_value <= found.p_adjusted < 0.05
    assert found.excess is not None
    assert found.excess.low > 0
    assert found.verdict == "leak"


def test_p_values_are_corrected_by_holm_over_the_attacks_of_one_view_family_population_and_metric(
    results: AuditResults,
) -> None:
    groups: dict[tuple[str, str, str, str], list[Measure]] = {}
    for one in results.measures:
        if one.attack == BEST:  # chosen on other records than it is measured on
            assert one.p_adjusted == one.p_value
        else:
            groups.setdefault((one.view, one.family, one.population, one.metric), []).append(one)
    for members in groups.values():
        raw = [one.p_value for one in members if one.p_value is not None]
        assert len(raw) == len(members)  # here every number stands beside a control
        assert [one.p_adjusted for one in members] == pytest.approx(slow_holm(raw), rel=1e-12)
    sizes = {key[1:]: len(members) for key, members in groups.items()}
    assert sizes["membership", "personal", "auc"] > 8
    assert sizes["extraction", "personal", "exact"] > 2
    assert sizes["updates", "one client's update", "auc"] == len(MEASURES)
    raised = [one.key for members in groups.values() for one in members if (one.p_adjusted or 0) > (one.p_value or 0)]
    assert len(raised) > 10
