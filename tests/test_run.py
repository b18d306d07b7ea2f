import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from confide.errors import RunDirectoryError, StorageError
from confide.records import RoundRecord
from confide.run import RECORD_FILE, RunDirectory


def record(number: int) -> RoundRecord:
    return RoundRecord(
        round_number=number,
        cohort=("east", "west"),
        members=("east",),
        failures={"west": "no answer"},
        learning_rate=0.1,
        loss=1.0 / number,
        held_out_loss=None,
        update_norm=0.5,
        bytes_up=10,
        bytes_down=20,
        seconds={"total": 0.25},
        sealing="plain",
        is_sealed=False,
        server_reads=True,
        num_values=4,
        sparsity=0.0,
        saturated=0.0,
        privacy="none",
        epsilon=None,
        adapter_digest=f"{number:02x}",
    )


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(
        tmp_path / "runs" / "first", config_toml="[run]\n", name="first", seed=7, notes={"id": "abc"}
    )


def save_round(run: RunDirectory, number: int) -> None:
    with run.new_round(number) as folder:
        (folder / "state").mkdir()
        (folder / "state" / "private").write_text("")
        if number > 0:
            (folder / RECORD_FILE).write_text(record(number).to_json() + "\n")
    run.publish(number)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_new_run_names_itself_its_versions_and_its_machine(run: RunDirectory) -> None:
    opened = RunDirectory.open(run.path)
    assert {"name": "first", "status": "running", "seed": 7, "id": "abc"}.items() <= opened.info.items()
    assert {"created", "command", "versions", "machine"} <= opened.info.keys()
    assert opened.config_path.read_text() == "[run]\n"
    assert opened.config_values == {"run": {}}
    assert names(run.path) == ["config.toml", "rounds", "rounds.jsonl", "run.json"]
    assert names(run.path.parent) == ["first"]


def test_a_folder_that_is_no_run_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunDirectoryError, match=r"exists already: remove it, or choose another name"):
        RunDirectory.create(tmp_path, config_toml="", name="first", seed=0, notes={})
    assert names(tmp_path) == ["notes.txt"]


def test_a_place_that_cannot_be_written_is_named_and_left_empty(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot write .*file/first"):
        RunDirectory.create(tmp_path / "file" / "first", config_toml="", name="first", seed=0, notes={})
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("missing", ["run.json", "config.toml"])
def test_a_folder_without_a_run_or_its_configuration_is_no_run_directory(run: RunDirectory, missing: str) -> None:
    (run.path / missing).unlink()
    with pytest.raises(RunDirectoryError, match=r"no run\.json or no config\.toml.*confide train"):
        RunDirectory.open(run.path)


@pytest.mark.parametrize(("content", "message"), [("{", r"run\.json cannot be read"), ("[]", "holds no JSON object")])
def test_a_damaged_run_json_is_said(run: RunDirectory, content: str, message: str) -> None:
    (run.path / "run.json").write_text(content)
    with pytest.raises(RunDirectoryError, match=message):
        _ = RunDirectory.open(run.path).info


def test_the_final_round_is_published_after_a_kill_and_a_lost_one_stays_in_evidence(run: RunDirectory) -> None:
    run.mend_final()
    assert not (run.path / "final").exists()
    for number in range(3):
        with run.new_round(number):
            pass
    run.mend_final()
    assert (run.path / "final").readlink() == Path("rounds/0002")
    run.publish(1)
    run.mend_final()
    assert (run.path / "final").readlink() == Path("rounds/0002")
    run.round_folder(2).rmdir()
    run.mend_final()
    assert (run.path / "final").readlink() == Path("rounds/0002")
    with pytest.raises(RunDirectoryError):
        run.check_end()


def test_a_status_keeps_what_was_noted_before(run: RunDirectory) -> None:
    before = run.info
    run.set_status("failed", reason="the loss is nan")
    assert run.info == {**before, "status": "failed", "reason": "the loss is nan", "updated": run.info["updated"]}


def test_a_round_appears_complete_or_not_at_all(run: RunDirectory) -> None:
    def fail_half_way() -> None:
        with run.new_round(0) as folder:
            (folder / "half").write_text("")
            assert run.rounds() == []
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert run.rounds() == []
    assert names(run.path / "rounds") == []
    with run.new_round(0) as folder:
        (folder / "whole").write_text("")
    assert run.rounds() == [0]
    assert names(run.round_folder(0)) == ["whole"]


def test_rounds_are_in_order_of_their_numbers(run: RunDirectory) -> None:
    for number in (10, 2, 9, 0, 11000):
        save_round(run, number)
    assert run.rounds() == [0, 2, 9, 10, 11000]
    assert run.last_round() == 11000
    assert [found.round_number for found in run.records()] == [2, 9, 10, 11000]  # round 0 trained nothing


def test_a_run_without_a_round_has_no_last_one(run: RunDirectory) -> None:
    with pytest.raises(RunDirectoryError, match=r"no complete round, not even the start.*confide train"):
        run.last_round()
    with pytest.raises(RunDirectoryError, match="no complete round"):
        _ = run.final


def test_final_points_at_the_round_published_last_and_only_that_one_keeps_its_state(run: RunDirectory) -> None:
    for number in range(3):
        save_round(run, number)
        assert (run.path / "final").readlink() == Path(f"rounds/{number:04d}")
        assert (run.path / "final").resolve() == run.final.resolve()
        assert [path.parent.name for path in run.path.glob("rounds/*/state")] == [f"{number:04d}"]
    run.publish(2)
    assert (run.final / "state" / "private").exists()
    run.drop_state(2)
    run.drop_state(2)  # dropping twice, or where there is none, is no error
    assert not list(run.path.glob("rounds/*/state"))
    assert run.rounds() == [0, 1, 2]


@pytest.mark.parametrize("status", ["finished", "interrupted"])
def test_the_round_before_a_lost_last_one_is_not_the_final_model(run: RunDirectory, status: str) -> None:
    for number in range(4):
        save_round(run, number)
        if number:
            run.append_record(record(number))
    run.set_status(status)
    assert run.final.name == "0003"
    link, told = run.path / "final", run.path / "rounds.jsonl"
    shutil.rmtree(run.round_folder(3))
    lost = r"completed round 3, and rounds/0003 is gone: round 2, the last that is there, is not its final model\. Put "
    with pytest.raises(RunDirectoryError, match=lost):
        _ = run.final
    for other in (link, told):  # either of the two is enough
        kept = told.read_text()
        other.unlink()
        with pytest.raises(RunDirectoryError, match=lost):
            run.check_end()
        told.write_text(kept)
        link.unlink(missing_ok=True)
        link.symlink_to("rounds/0003")
    shutil.rmtree(run.round_folder(2))
    with pytest.raises(RunDirectoryError, match="completed round 3, and rounds/0002, rounds/0003 are gone: round 1, "):
        run.check_end()


def test_a_run_that_was_interrupted_ends_with_its_last_complete_round(run: RunDirectory) -> None:
    for number in range(2):
        save_round(run, number)
    run.append_record(record(1))
    with (run.path / "rounds.jsonl").open("a") as file:
        file.write(record(2).to_json()[:-9])  # killed while it wrote
    with run.new_round(2) as folder:  # killed before it was published
        (folder / RECORD_FILE).write_text(record(2).to_json())
    run.set_status("interrupted")
    assert run.final.name == "0002"
    shutil.rmtree(run.round_folder(2))
    assert run.final.name == "0001"


def test_records_are_mended_from_the_rounds_after_a_kill(run: RunDirectory) -> None:
    for number in range(4):
        save_round(run, number)
    run.append_record(record(1))
    run.append_record(record(2))
    lines = run.path / "rounds.jsonl"
    whole = lines.read_text()
    lines.write_text(whole[:-5])  # the kill came while round 2 was written, and round 3 was not reached
    run.rebuild_records()
    assert lines.read_text() == whole + record(3).to_json() + "\n"
    assert [RoundRecord.from_json(line) for line in lines.read_text().splitlines()] == run.records()
    assert run.records() == [record(1), record(2), record(3)]


def test_a_record_that_cannot_be_read_is_said(run: RunDirectory) -> None:
    save_round(run, 1)
    (run.round_folder(1) / RECORD_FILE).write_text('{"round_number": 1}')
    with pytest.raises(RunDirectoryError, match="a round record cannot be read"):
        run.records()


def test_cleaning_removes_what_is_half_written_and_nothing_else(run: RunDirectory) -> None:
    save_round(run, 0)
    before = names(run.path), names(run.path / "rounds")
    for folder in (run.path, run.path / "rounds"):
        (folder / ".tmp-0123-run.json").write_text("half")
        (folder / ".tmp-0123-0001" / "state").mkdir(parents=True)
    run.clean()
    assert (names(run.path), names(run.path / "rounds")) == before


def test_a_discarded_run_is_gone(run: RunDirectory) -> None:
    run.discard()
    assert names(run.path.parent) == []
    run.discard()


def test_a_lock_is_let_go_at_the_end_and_by_a_process_that_dies(run: RunDirectory) -> None:
    with run.locked():
        pass
    child = os.fork()
    if child == 0:
        with run.locked():
            os._exit(0)
    os.waitpid(child, 0)
    with run.locked():
        pass


def test_other_base_weights_are_refused_by_their_digest(run: RunDirectory) -> None:
    run.check_base("tiny", "a" * 64)  # nothing is trained yet: any will do
    run.set_status("running", base_digest="a" * 64)
    run.check_base("tiny", "a" * 64)
    with pytest.raises(RunDirectoryError, match=r"other weights of tiny \(digest a{12}, now b{12}\)"):
        run.check_base("tiny", "b" * 64)


def test_clients_that_come_go_or_change_are_named(run: RunDirectory) -> None:
    run.set_status("running", data_digests={"east": "1", "north": "2", "west": "3"})
    run.check_data({"west": "3", "north": "2", "east": "1"})
    with pytest.raises(RunDirectoryError, match="the data of east, south, west is not what the run"):
        run.check_data({"north": "2", "south": "4", "west": "0"})


@pytest.mark.parametrize(
    ("key", "check"),
    [
        ("base_digest", lambda run: run.check_base("tiny", "a")),
        ("data_digests", lambda run: run.check_data({"east": "1"})),
    ],
)
def test_a_trained_run_that_does_not_say_what_it_used_is_damaged(
    run: RunDirectory, key: str, check: Callable[[RunDirectory], None]
) -> None:
    save_round(run, 0)
    with pytest.raises(RunDirectoryError, match=rf"has rounds but no {key}: it is damaged\. Start a new run"):
        check(run)


def test_data_digests_that_are_no_object_are_damage(run: RunDirectory) -> None:
    run.set_status("running", data_digests=["east"])
    with pytest.raises(RunDirectoryError, match="data_digests is no object"):
        run.check_data({"east": "1"})


def test_the_processor_is_named_also_on_linux(run: RunDirectory) -> None:
    assert run.info["machine"]["processor"]  # type: ignore[index]


@pytest.mark.parametrize("content", ["{}", '{"name": "first"}', '{"status": null}', '{"status": 5}'])
def test_a_run_json_without_a_status_is_damaged(run: RunDirectory, content: str) -> None:
    (run.path / "run.json").write_text(content)
    with pytest.raises(RunDirectoryError, match=r"run\.json names no status: it is damaged\. Start a new run"):
        _ = run.status


@pytest.mark.parametrize("key", ["id", "config"])
def test_a_run_json_without_what_every_run_has_is_damaged(run: RunDirectory, key: str) -> None:
    info = run.info
    del info[key]
    (run.path / "run.json").write_text(json.dumps(info))
    with pytest.raises(RunDirectoryError, match=rf"run\.json has no {key}: it is damaged"):
        _ = (run.run_id, run.config_values)


def test_only_names_of_digits_are_rounds(run: RunDirectory) -> None:
    save_round(run, 2)
    for name in ("0002.bak", "0003 (copy)", "3", "00004", "0004_old", "\u0660\u0660\u0660\u0665"):
        (run.path / "rounds" / name).mkdir()
    assert run.rounds() == [2]
    assert run.final.name == "0002"


def test_what_a_kill_while_making_a_run_left_is_removed_by_the_next_of_its_name(run: RunDirectory) -> None:
    runs = run.path.parent
    for name in ("second", "third"):
        (runs / f".tmp-{'0' * 32}-{name}" / "rounds").mkdir(parents=True)
    RunDirectory.create(runs / "second", config_toml="", name="second", seed=0, notes={})
    assert names(runs) == [f".tmp-{'0' * 32}-third", "first", "second"]


def test_another_device_or_number_type_is_refused(run: RunDirectory) -> None:
    run.check_device("cpu", "torch.float32")  # nothing is known yet
    run.set_status("running", device="cuda", dtype="torch.bfloat16")
    run.check_device("cuda", "torch.bfloat16")
    with pytest.raises(RunDirectoryError, match=r"started with run\.device cuda, and here it would go on with cpu"):
        run.check_device("cpu", "torch.bfloat16")
    with pytest.raises(
        RunDirectoryError, match=r"started with model\.dtype torch\.bfloat16, and here .* torch\.float16"
    ):
        run.check_device("cuda", "torch.float16")


def test_the_number_of_threads_is_that_of_the_start(run: RunDirectory) -> None:
    assert run.threads == 0
    run.set_status("running", threads=3)
    assert run.threads == 3
    run.set_status("running", threads="three")
    with pytest.raises(RunDirectoryError, match="threads is no whole number"):
        _ = run.threads


def test_what_clients_keep_to_themselves_is_not_left_behind_in_silence(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_round(run, 0)

    def held(folder: Path, **options: object) -> None:
        if not options.get("ignore_errors"):
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(shutil, "rmtree", held)
    with pytest.raises(StorageError, match=r"cannot write .*rounds/0000/state: Permission denied"):
        run.drop_state(0)
