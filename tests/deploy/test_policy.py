import re
from pathlib import Path

import pytest

from confide.agreed import opening_threshold
from confide.config.load import parse_config
from confide.config.schema import Config
from confide.deploy.policy import LIMITS, Offer, Policy, default_policy_toml, policy_keys
from confide.errors import DeployFolderError, PolicyError

DIGEST = "0123456789abcdef" * 4
PHASES = ("offer", "train", "sign", "release", "open", "state", "catch-up", "finish")

_CLIENT = {"unit": "client", "target_epsilon": 8.0}
_BOTH = {"unit": "both", "target_epsilon": 4.0, "client_target_epsilon": 8.0}


def config(**sections: dict[str, object]) -> Config:
    values: dict[str, object] = {"model": {"base": "tiny-llama"}, "data": {"source": "clinics"}}
    return parse_config({**values, **sections})


def policy(**sections: dict[str, object]) -> Policy:
    return Policy.model_validate(sections)


def refusal(held: Policy, offered: Config, *, num_members: int = 5, base_digest: str | None = None) -> str:
    with pytest.raises(PolicyError) as caught:
        held.check(offered, num_members=num_members, base_digest=base_digest, where="policy.toml")
    return str(caught.value)


# For each key: a policy, a configuration just outside it, one just inside, and what the refusal says was offered.
CASES: dict[str, tuple[Policy, Config, Config, str]] = {
    "sealing.schemes": (policy(), config(seal={"scheme": "plain"}), config(), 'seal.scheme is "plain"'),
    "sealing.least_members": (
        policy(sealing={"least_members": 4}),
        config(federation={"min_clients": 3}),
        config(federation={"min_clients": 4}),
        "federation.min_clients is 3",
    ),
    "sealing.least_threshold": (
        policy(sealing={"least_threshold": 4}),
        config(seal={"threshold": 0}),
        config(seal={"threshold": 4}),
        "the threshold (seal.threshold, or else more than half) is 3 of 5",
    ),
    "sealing.least_threshold_share": (
        policy(sealing={"least_threshold_share": 0.8}),
        config(seal={"threshold": 3}),
        config(seal={"threshold": 4}),
        "the threshold (seal.threshold, or else more than half) is 3 of 5",
    ),
    "sealing.server_may_read": (
        policy(),
        config(seal={"release": "server"}),
        config(seal={"release": "clients"}),
        'seal.release is "server"',
    ),
    "privacy.units": (
        policy(privacy={"units": ["client", "both"]}),
        config(),
        config(privacy=_CLIENT),
        'privacy.unit is "none"',
    ),
    "privacy.largest_epsilon": (
        policy(privacy={"largest_epsilon": 8.0}),
        config(privacy={**_BOTH, "client_target_epsilon": 8.1}),
        config(privacy=_BOTH),
        "the target of epsilon is 4 and 8.1",
    ),
    "privacy.largest_delta": (
        policy(),
        config(privacy={**_CLIENT, "delta": 1.1e-5}),
        config(privacy={**_CLIENT, "delta": 1e-5}),
        "privacy.delta is 1.1e-05",
    ),
    "privacy.least_coalition": (
        policy(privacy={"least_coalition": 2}),
        config(privacy=_CLIENT),
        config(privacy={**_CLIENT, "coalition": 2}),
        "privacy.coalition is 1",
    ),
    "privacy.seeded_noise": (
        policy(),
        config(privacy={**_CLIENT, "randomness": "seeded"}),
        config(privacy=_CLIENT),
        'privacy.randomness is "seeded"',
    ),
    "run.most_rounds": (
        policy(run={"most_rounds": 5}),
        config(federation={"rounds": 6}),
        config(federation={"rounds": 5}),
        "federation.rounds is 6",
    ),
    "run.most_local_steps": (
        policy(run={"most_local_steps": 10}),
        config(train={"local_steps": 11}),
        config(train={"local_steps": 10}),
        "train.local_steps is 11",
    ),
    "run.most_local_epochs": (
        policy(run={"most_local_epochs": 2}),
        config(train={"local_epochs": 3}),
        config(train={"local_epochs": 2}),
        "train.local_epochs is 3",
    ),
    "run.most_batch_size": (
        policy(run={"most_batch_size": 4}),
        config(train={"batch_size": 5}),
        config(train={"batch_size": 4}),
        "train.batch_size is 5",
    ),
    "run.most_accumulation": (
        policy(run={"most_accumulation": 2}),
        config(train={"accumulation": 3}),
        config(train={"accumulation": 2}),
        "train.accumulation is 3",
    ),
    "run.most_tokens": (
        policy(run={"most_tokens": 128}),
        config(train={"max_tokens": 129}),
        config(train={"max_tokens": 128}),
        "train.max_tokens is 129",
    ),
    "run.most_rank": (
        policy(run={"most_rank": 8}),
        config(lora={"rank": 9}),
        config(lora={"rank": 8}),
        "lora.rank is 9",
    ),
    "run.full_rank": (policy(), config(lora={"full_rank": True}), config(), "lora.full_rank is true"),
    "run.most_evaluate_examples": (
        policy(run={"most_evaluate_examples": 40}),
        config(evaluate={"max_examples": 41}),
        config(evaluate={"max_examples": 40}),
        "evaluate.max_examples is 41",
    ),
    "run.most_evaluate_batch_size": (
        policy(run={"most_evaluate_batch_size": 16}),
        config(evaluate={"batch_size": 17}),
        config(evaluate={"batch_size": 16}),
        "evaluate.batch_size is 17",
    ),
    "model.bases": (
        policy(model={"bases": ["tiny-gpt2", "tiny-llama"]}),
        config(model={"base": "tiny-mistral"}),
        config(),
        'model.base is "tiny-mistral"',
    ),
}


def test_every_key_of_a_policy_is_held_and_tested() -> None:
    keys = [limit.key for limit in LIMITS]
    assert sorted([*keys, "run.phases", "run.most_runs"]) == sorted(policy_keys())
    assert {*CASES, "model.digests"} == set(keys)


@pytest.mark.parametrize("key", CASES)
def test_what_lies_outside_a_key_is_refused_by_name_and_what_lies_inside_is_not(key: str) -> None:
    held, outside, inside, offered = CASES[key]
    message = refusal(held, outside)
    (line,) = message.splitlines()[1:-1]
    assert line.startswith(f"{offered}; policy.toml accepts {key} = ")
    assert "this member's own" in message
    held.check(inside, num_members=5, base_digest=None)


def test_another_base_model_than_the_accepted_one_is_refused_once_it_is_known() -> None:
    held, other = policy(model={"digests": [DIGEST]}), "f" * 64
    assert f"the digest of the base model is {other}; policy.toml accepts model.digests" in refusal(
        held, config(), base_digest=other
    )
    held.check(config(), num_members=3, base_digest=None)
    held.check(config(), num_members=3, base_digest=DIGEST)


def test_everything_that_lies_outside_is_named_at_once() -> None:
    offered = config(
        seal={"scheme": "plain"}, federation={"rounds": 101, "min_clients": 2}, train={"local_steps": 1001}
    )
    named = re.findall(r"accepts (\S+) = ", refusal(policy(), offered))
    assert named == ["sealing.schemes", "sealing.least_members", "run.most_rounds", "run.most_local_steps"]


@pytest.mark.parametrize(
    ("privacy", "shown"),
    [
        ({}, 'infinite (privacy.unit is "none")'),
        ({"unit": "client", "noise_multiplier": 1.0}, "not given (noise is)"),
        ({**_BOTH, "client_target_epsilon": 0.0, "client_noise_multiplier": 1.0}, "4 and not given (noise is)"),
    ],
)
def test_a_bound_on_epsilon_takes_no_run_without_a_target(privacy: dict[str, object], shown: str) -> None:
    message = refusal(policy(privacy={"largest_epsilon": 100.0}), config(privacy=privacy))
    assert f"the target of epsilon is {shown};" in message


@pytest.mark.parametrize("num_members", [3, 4, 5, 10])
@pytest.mark.parametrize("privacy", [{}, _CLIENT, {**_CLIENT, "coalition": 2}])
def test_the_threshold_that_is_held_is_the_one_that_opens(num_members: int, privacy: dict[str, object]) -> None:
    offered = config(privacy=privacy)
    held = Offer(config=offered, num_members=num_members, base_digest=None)
    assert held.threshold == opening_threshold(offered, num_members)


def test_the_default_takes_a_sealed_run_and_says_what_it_does_not_ask_for() -> None:
    policy().check(config(), num_members=3, base_digest=None)
    cautions = " ".join(policy().cautions)
    assert "Any base model is taken" in cautions
    assert "No differential privacy is required" in cautions
    strict = policy(privacy={"units": ["client"], "largest_epsilon": 8.0}, model={"digests": [DIGEST]})
    assert strict.cautions == ()


@pytest.mark.parametrize(
    ("sections", "caution"),
    [
        ({"privacy": {"units": ["client"]}}, "any epsilon will do"),
        ({"sealing": {"schemes": ["onetime", "plain"]}}, "read every update"),
        ({"sealing": {"server_may_read": True}}, "may get the global adapter"),
        ({"privacy": {"seeded_noise": True}}, "may know the noise"),
    ],
)
def test_a_policy_that_gives_something_away_says_so(sections: dict[str, dict[str, object]], caution: str) -> None:
    assert caution in " ".join(policy(**sections).cautions)
    assert caution not in " ".join(policy().cautions)


@pytest.mark.parametrize("phase", PHASES)
def test_a_phase_is_answered_only_where_the_policy_has_it(phase: str) -> None:
    policy().check_phase(phase)
    without = policy(run={"phases": [one for one in PHASES if one != phase]})
    with pytest.raises(PolicyError, match=rf"the request '{phase}' is refused: .* accepts run\.phases = "):
        without.check_phase(phase)


def test_a_phase_that_nobody_knows_is_refused() -> None:
    with pytest.raises(PolicyError, match="the request 'shutdown' is refused"):
        policy().check_phase("shutdown")


@pytest.mark.parametrize("most", [1, 20])
def test_no_more_runs_are_taken_than_the_policy_has(most: int) -> None:
    held = policy(run={"most_runs": most})
    held.check_new_run(most - 1)
    for num_accepted in (most, most + 1):
        with pytest.raises(PolicyError) as caught:
            held.check_new_run(num_accepted, where="policy.toml")
        message = str(caught.value)
        assert f"has accepted {num_accepted} before; policy.toml accepts run.most_runs = {most}." in message
        assert "epsilons of several runs on the same rows add up" in message
        assert "run.most_runs times privacy.largest_epsilon" in message


def test_the_file_that_is_written_first_has_every_key_at_its_default(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(default_policy_toml())
    assert Policy.load(path) == Policy()
    for key in policy_keys():
        assert re.search(rf"^{key.split('.')[1]} = ", path.read_text(), re.MULTILINE), key


def test_a_key_that_is_left_out_has_its_default(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text("[run]\nmost_rounds = 7\n")
    assert Policy.load(path) == policy(run={"most_rounds": 7})


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("[run]\nmost_round = 7\n", ["'most_round' is no key of [run]. The nearest is run.most_rounds."]),
        ("[sealling]\n", ["'sealling' is no section. The nearest is [sealing]."]),
        ("run = 3\n", ["run is 3, expected a table of keys under [run]."]),
        (
            '[run]\nmost_rounds = "7"\n[privacy]\nunits = ["row"]\n',
            [
                'privacy.units is ["row"], expected a list of "example", "client", "both".',
                'run.most_rounds is "7", expected a whole number >= 1. Leave out the quotes: most_rounds = 7',
            ],
        ),
        ("[sealing]\nschemes = []\n", ['sealing.schemes is [], expected a list of "onetime", "plain".']),
        (
            '[sealing]\nschemes = ["shared"]\n',
            ['sealing.schemes is ["shared"], expected a list of "onetime", "plain".'],
        ),
        ("[privacy]\nlargest_epsilon = inf\n", ["privacy.largest_epsilon is inf, expected a number >= 0."]),
        ("[privacy]\nlargest_epsilon = nan\n", ["privacy.largest_epsilon is nan, expected a number >= 0."]),
        ("[sealing]\nserver_may_read = 1\n", ["sealing.server_may_read is 1, expected true or false."]),
        ('[model]\ndigests = ["ABC"]\n', ['model.digests is ["ABC"], expected a list of digests']),
    ],
)
def test_a_policy_that_is_wrong_is_refused_and_every_fault_named(tmp_path: Path, text: str, lines: list[str]) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(DeployFolderError) as caught:
        Policy.load(path)
    shown = str(caught.value).splitlines()
    assert len(shown) == len(lines)
    for line, expected in zip(shown, lines, strict=True):
        assert line.startswith(f"{path}: {expected}")


@pytest.mark.parametrize(
    "content",
    [
        b"[run",
        b"\xff\xfe",
        b"[run]\nmost_rounds = 1\nmost_rounds = 2\n",
        b"x = " + b"[" * 100_000,
        b"x = " + b"{a = " * 20_000,
        b"[" + b"a." * 20_000 + b"a]\n",
        b"[run]\nmost_rounds = " + b"9" * 10_000 + b"\n",
        b"#" * (1 << 20) + b"#",
        b"a\x00b = 1",
    ],
    ids=lambda content: content[:12].decode(errors="replace"),
)
def test_hostile_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "policy.toml"
    path.write_bytes(content)
    with pytest.raises(DeployFolderError) as caught:
        Policy.load(path)
    assert len(str(caught.value)) < 2000


def test_a_policy_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeployFolderError, match=r"none\.toml cannot be read: No such file"):
        Policy.load(tmp_path / "none.toml")
