"""A whole run between a server's folder and three members', with nothing shared but messages."""

from pathlib import Path

import pytest

from confide.deploy.coordinator import start_run
from confide.deploy.policy import Policy
from confide.deploy.run_config import load_run_config
from confide.errors import RoundFailedError
from confide.run import RunDirectory
from tests.deploy.field import CONFIG, NAMES, SETTINGS, Field, fine
from tests.deploy.one_process import run_in_one_process


def test_the_adapter_is_that_of_one_process_bit_for_bit(tmp_path: Path) -> None:
    field = Field(tmp_path)
    field.go()
    expected = run_in_one_process(tmp_path, CONFIG, SETTINGS)
    for name in NAMES:
        final = field.members[name].run / "final"
        assert final.resolve().name == "0002"
        for file in ("adapter_model.safetensors", "adapter_config.json"):
            assert (final / file).read_bytes() == (expected / file).read_bytes()
    assert field.directory.status == "finished"
    assert [record.members for record in field.directory.records()] == [NAMES, NAMES]


def test_the_server_keeps_no_adapter_and_no_update(tmp_path: Path) -> None:
    field = Field(tmp_path)
    field.go()
    kept = sorted(path.name for path in field.run.rglob("*") if path.is_file())
    expected = ["clients.json"] * 2 + ["record.json"] * 2 + ["server.json"] * 3
    assert kept == sorted([*expected, "config.toml", "rounds.jsonl", "run.json", "terms", ".lock", "server.log"])
    adapter = (field.members[NAMES[0]].run / "final" / "adapter_model.safetensors").read_bytes()
    assert len(adapter) > 4096
    piece = adapter[-512:]
    assert any(piece)
    assert all(piece not in message for message in field.sent)


@pytest.mark.parametrize("release", ["clients", "server"])
def test_the_server_has_the_adapter_only_where_it_may(tmp_path: Path, release: str) -> None:
    field = Field(tmp_path, f'{CONFIG}\n[seal]\nrelease = "{release}"\n')
    for member in field.members.values():
        member.policy = type(member.policy).model_validate({"sealing": {"server_may_read": True}})
        member.start()
    field.go()
    theirs = (field.members[NAMES[0]].run / "final" / "adapter_model.safetensors").read_bytes()
    own = field.run / "final" / "adapter_model.safetensors"
    assert own.exists() == (release == "server")
    if own.exists():
        assert own.read_bytes() == theirs


def test_a_member_whose_policy_asks_for_more_refuses_and_the_operator_reads_which_keys(tmp_path: Path) -> None:
    field = Field(tmp_path, CONFIG.replace("rounds = 2", "rounds = 1\nmin_clients = 2"))
    strict = field.members[NAMES[1]]
    strict.policy = Policy.model_validate({"sealing": {"least_members": 2}, "privacy": {"units": ["client"]}})
    strict.start()
    field.go()
    assert field.directory.records()[0].members == (NAMES[0], NAMES[2])
    (told,) = [line for line in field.notices if "left out" in line]
    assert "PolicyError" in told
    assert "privacy.units" in told
    assert told in (field.run / "server.log").read_text()
    assert not list(strict.folder.iterdir())


def test_a_member_takes_no_more_runs_than_its_policy_has_and_goes_on_with_those_that_it_took(tmp_path: Path) -> None:
    field = Field(tmp_path, CONFIG.replace("rounds = 2", "rounds = 2\nmin_clients = 2"))
    member = field.members[NAMES[1]]
    member.policy = Policy.model_validate({"sealing": {"least_members": 2}, "run": {"most_runs": 1}})
    member.start()

    def stop(name: str, phase: str, number: int) -> None:
        if (phase, number) == ("train", 2):
            member.start()
            raise KeyboardInterrupt

    member.before = stop
    with pytest.raises(KeyboardInterrupt):
        field.go()
    member.before = fine
    taken = sorted(path.name for path in member.folder.iterdir())
    assert taken == ["accepted", member.run.name]

    assert "has accepted 1 before; this member's policy.toml accepts run.most_runs = 1" in _refused(field, "other")
    assert sorted(path.name for path in member.folder.iterdir()) == taken

    field.go()
    assert [record.members for record in field.directory.records()] == [NAMES, NAMES]

    (member.folder / "accepted").unlink()  # folders count where the list is lost
    assert "has accepted 1 before" in _refused(field, "third")


def _refused(field: Field, name: str) -> str:
    """Runs a new run, which the second member refuses; gives what the operator is told."""
    directory = start_run(
        field.run.parent / name, load_run_config(field.run.parent.parent / "config.toml"), field.roster
    )
    field.coordinate(directory.path)
    assert [record.members for record in directory.records()] == [(NAMES[0], NAMES[2])] * 2
    notices = directory.info["notices"]
    assert isinstance(notices, list)
    (told,) = [str(line) for line in notices if "left out" in line]
    assert "PolicyError" in told
    return told


def test_the_server_is_not_told_what_is_in_a_members_files(tmp_path: Path) -> None:
    field = Field(tmp_path, CONFIG.replace("rounds = 2", "rounds = 1\nmin_clients = 2"))
    member = field.members[NAMES[1]]
    secret = tmp_path / "patients.jsonl"
    secret.write_text('{"instruction": "A", "response": 7}\n')
    member.settings = {"data.source": "jsonl", "data.path": str(secret)}
    member.start()
    field.go()
    (told,) = [line for line in field.notices if "left out" in line]
    assert "DataError" in told
    assert "its own log says why" in told
    assert "patients" not in (field.run / "run.json").read_text()


@pytest.mark.parametrize(("unit", "randomness"), [("example", "system"), ("client", "system"), ("example", "seeded")])
def test_epsilon_is_what_the_members_spend_and_a_restart_goes_on_counting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, unit: str, randomness: str
) -> None:
    privacy = f'[privacy]\nunit = "{unit}"\ntarget_epsilon = 8.0\ndelta = 1e-5\nclip_norm = 1.0\n'
    field = Field(tmp_path, f'{CONFIG}\n{privacy}randomness = "{randomness}"\n')
    if randomness == "seeded":
        policy = Policy.model_validate({"sealing": {"least_members": 2}, "privacy": {"seeded_noise": True}})
        for one in field.members.values():
            one.policy = policy
            one.start()
    member = field.members[NAMES[0]]

    def restart(name: str, phase: str, number: int) -> None:
        if (phase, number) == ("train", 2):
            member.start()

    field.members[NAMES[1]].before = restart
    field.go()
    first, second = (record.epsilon for record in field.directory.records())
    for record in field.directory.records():
        assert ("only for who does not know the seed" in record.privacy) == (randomness == "seeded")
    assert first is not None
    assert second is not None
    assert 0 < first < second <= 8
    kept = [RunDirectory.open(field.members[name].run).info for name in NAMES]
    assert second in [info["epsilon"] for info in kept]
    for info in kept:  # three members are too few to hide one of them and learn anything
        assert ("times as long as the longest update" in str(info["warnings"])) == (unit == "client")
    assert ("none knows what the others weigh" in caplog.text) == (unit == "client")


def test_a_member_takes_the_base_model_whose_digest_it_accepts_and_no_other(tmp_path: Path) -> None:
    first = Field(tmp_path / "first", CONFIG.replace("rounds = 2", "rounds = 1"))
    first.go()
    digest = RunDirectory.open(first.members[NAMES[0]].run).info["whole_base_digest"]
    field = Field(tmp_path / "second", CONFIG.replace("rounds = 2", "rounds = 1\nmin_clients = 2"))
    for name, accepted in zip(NAMES, (digest, digest, "f" * 64), strict=True):
        member = field.members[name]
        member.policy = Policy.model_validate({"sealing": {"least_members": 2}, "model": {"digests": [accepted]}})
        member.start()
    field.go()
    assert field.directory.records()[0].members == NAMES[:2]
    (told,) = [line for line in field.notices if "left out" in line]
    assert f"the digest of the base model is {digest}; this member's policy.toml accepts model.digests" in told


def test_rows_that_name_no_client_are_the_members_own(tmp_path: Path) -> None:
    field = Field(tmp_path, CONFIG.replace("rounds = 2", "rounds = 1"))
    for place, member in enumerate(field.members.values()):
        rows = tmp_path / f"{place}.jsonl"
        rows.write_text("".join(f'{{"instruction": "Say {n}", "response": "{n + place}"}}\n' for n in range(place + 4)))
        member.settings = {"data.path": str(rows)}
        member.start()
    field.go()
    assert field.directory.records()[0].members == NAMES


def test_a_member_that_lost_its_count_of_releases_takes_no_further_part(tmp_path: Path) -> None:
    privacy = '[privacy]\nunit = "example"\ntarget_epsilon = 8.0\ndelta = 1e-5\nclip_norm = 1.0\n'
    field = Field(tmp_path, f"{CONFIG}\n{privacy}")
    member = field.members[NAMES[0]]

    def lose(name: str, phase: str, number: int) -> None:
        if (phase, number) == ("train", 2):
            (counts,) = (member.run / "clients").rglob("noised.json")
            counts.unlink()
            member.start()

    member.before = lose
    with pytest.raises(RoundFailedError, match="RunDirectoryError"):
        field.go()
