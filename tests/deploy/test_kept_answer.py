"""The answers that a node's worker gave last, kept for when one is asked for again."""

import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from confide.deploy.kept_answer import MAX_KEPT, Answer, KeptAnswers, kept_answers
from confide.errors import DeployError

RUN = 2**63 + 7
ANSWERS = [
    Answer(body=b""),
    Answer(body=bytes(range(256)) * 5000),
    Answer(error_kind="DataError", error="no rows" + "\N{SNOWMAN}" * 8000),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "answers"


@pytest.fixture
def answers(folder: Path) -> Iterator[KeptAnswers]:
    with kept_answers(folder) as made:
        yield made


def body(answer: Answer | None) -> bytes | None:
    return None if answer is None else answer.body


@pytest.mark.parametrize("answer", ANSWERS, ids=["empty", "long", "error"])
def test_what_is_kept_comes_back_as_it_was(answers: KeptAnswers, answer: Answer) -> None:
    assert answers.keep(RUN, "request 1", answer)
    kept = answers.find(RUN, "request 1")
    assert kept is not None
    assert kept.is_kept
    assert (kept.body, kept.error_kind, kept.error) == (answer.body, answer.error_kind, answer.error)


def test_only_a_runs_last_answer_is_kept_and_only_for_its_own_request(answers: KeptAnswers, folder: Path) -> None:
    assert answers.find(RUN, "request 1") is None
    answers.keep(RUN, "request 1", Answer(body=b"first"))
    assert answers.find(RUN, "request") is None
    answers.keep(RUN, "request 2", Answer(body=b"second"))
    assert answers.find(RUN, "request 1") is None
    assert body(answers.find(RUN, "request 2")) == b"second"
    assert len(list(folder.iterdir())) == 1


def test_each_run_has_its_own_answer_and_those_of_the_newest_runs_are_kept(answers: KeptAnswers, folder: Path) -> None:
    for run in range(MAX_KEPT + 2):
        answers.keep(run, "request", Answer(body=bytes([run])))
    answers.keep(2, "request", Answer(body=b"again"))  # the oldest one until now
    answers.keep(99, "request", Answer(body=b"last"))
    found = {run: body(answers.find(run, "request")) for run in (0, 1, 2, 3, 4, 5, 99)}
    assert found == {0: None, 1: None, 2: b"again", 3: None, 4: b"\4", 5: b"\5", 99: b"last"}
    assert len(list(folder.iterdir())) == MAX_KEPT


def test_what_is_kept_is_its_users_alone_to_read(answers: KeptAnswers, folder: Path) -> None:
    answers.keep(RUN, "request", Answer(body=b"sealed"))
    (path,) = folder.iterdir()
    assert (stat.S_IMODE(folder.stat().st_mode), stat.S_IMODE(path.stat().st_mode)) == (0o700, 0o600)


def test_what_is_not_whole_or_was_changed_is_no_answer(answers: KeptAnswers, folder: Path) -> None:
    answers.keep(RUN, "request", Answer(body=b"body", error_kind="kind", error="text"))
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    assert answers.find(RUN, "request") is not None
    for place in range(len(whole)):
        path.write_bytes(whole[:place])
        assert answers.find(RUN, "request") is None
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert answers.find(RUN, "request") is None
    path.write_bytes(whole + b"more")
    assert answers.find(RUN, "request") is None


def test_where_nothing_can_be_kept_it_is_said_and_nothing_is_left(answers: KeptAnswers, folder: Path) -> None:
    (folder / f"{RUN}.answer").mkdir()
    assert not answers.keep(RUN, "request", Answer(body=b"body"))
    assert answers.find(RUN, "request") is None
    assert len(list(folder.iterdir())) == 1


def test_the_folder_goes_at_the_end_and_what_a_killed_process_left_at_the_next_start(folder: Path) -> None:
    script = (
        "import os, pathlib, signal; from confide.deploy.kept_answer import Answer, kept_answers\n"
        f"with kept_answers(pathlib.Path({str(folder)!r})) as answers:\n"
        "    answers.keep(1, 'request', Answer(body=b'sealed'))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", script], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(folder.iterdir())) == 1
    with kept_answers(folder) as answers:
        assert answers.find(1, "request") is None
        assert answers.keep(1, "request", Answer(body=b"new"))
    assert not folder.exists()


def test_a_folder_that_cannot_be_emptied_is_named(folder: Path) -> None:
    folder.write_text("a file")
    with (
        pytest.raises(DeployError, match=rf"{folder}, where a node keeps its answers, cannot be removed"),
        kept_answers(folder),
    ):
        pass
