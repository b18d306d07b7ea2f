"""Runs the fuzz targets: quickly over the corpus and seeded mutations, and for a minute with atheris."""

import importlib.util
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

TARGET = Path(__file__).parent / "frames.py"
FUZZING_SECONDS = 60
LARGEST_CORPUS_BYTES = 200_000


@pytest.fixture(scope="module")
def target() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz_frames", TARGET)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def flip(data: bytearray, choose: random.Random) -> None:
    data[choose.randrange(len(data))] ^= 1 << choose.randrange(8)


def overwrite(data: bytearray, choose: random.Random) -> None:
    place, width = choose.randrange(len(data)), choose.choice([1, 2, 4, 8])
    number = choose.choice([0, 1, 0x7F, 0x80, (1 << 8 * width) - 1, 1 << (8 * width - 1), (1 << (8 * width - 1)) - 1])
    data[place : place + width] = number.to_bytes(width, choose.choice(["big", "little"]))


def cut(data: bytearray, choose: random.Random) -> None:
    start = choose.randrange(len(data))
    del data[start : start + choose.randrange(1, 40)]


def repeat(data: bytearray, choose: random.Random) -> None:
    start = choose.randrange(len(data))
    data[start:start] = data[start : start + choose.randrange(1, 300)] * choose.choice([1, 1, 2, 50])


def insert(data: bytearray, choose: random.Random) -> None:
    words = [
        b"\0",
        b'"',
        b"{",
        b"[" * 2000,
        b"]",
        b",",
        b"-",
        b"1e999",
        b"9" * 5000,
        b"NaN",
        b"\xff",
        b"\\ud800",
        b"null",
    ]
    place = choose.randrange(len(data))
    data[place:place] = choose.choice(words)


MUTATIONS: list[Callable[[bytearray, random.Random], None]] = [flip, flip, overwrite, cut, repeat, insert]


def test_the_corpus_holds_one_of_each_kind_and_every_reader_takes_its_own(target: ModuleType) -> None:
    corpus = {path.name: path.read_bytes() for path in target.CORPUS.iterdir()}
    assert corpus == target.samples(), f"if the format was meant to change: python {TARGET} --write-corpus"
    assert sum(map(len, corpus.values())) < LARGEST_CORPUS_BYTES
    accepted = {name: target.check(data) for name, data in corpus.items()}
    assert accepted == {name: [name] for name in corpus} | {"upload": ["upload", "upload of anybody"]}


@pytest.mark.parametrize("seed", range(6))
def test_mutations_of_the_corpus_are_refused_or_mean_what_they_say(target: ModuleType, seed: int) -> None:
    choose = random.Random(seed)
    corpus = [path.read_bytes() for path in sorted(target.CORPUS.iterdir())]
    for _ in range(1500):
        data = bytearray(choose.choice(corpus))
        if choose.random() < 0.2:
            other = choose.choice(corpus)
            data[choose.randrange(len(data)) :] = other[choose.randrange(len(other)) :]
        for _ in range(choose.randrange(1, 5)):
            if data:
                choose.choice(MUTATIONS)(data, choose)
        try:
            target.check(bytes(data))
        except Exception as error:
            raise AssertionError(f"seed {seed}, these bytes: {bytes(data)[:5000].hex()}") from error


def test_what_is_found_is_kept_out_of_the_repository_and_of_what_is_cleaned_up(target: ModuleType) -> None:
    root = TARGET.parents[2]
    assert f"/{target.FOUND.parent.relative_to(root)}/" in (root / ".gitignore").read_text().splitlines()
    cleaned = (root / "Makefile").read_text().partition("\nclean:\n")[2].partition("\n\n")[0]
    assert ".pytest_cache" in cleaned
    assert "fuzz" not in cleaned
    assert not any(part.startswith(".") for part in target.FOUND.relative_to(root).parts)


@pytest.mark.slow
def test_a_minute_of_fuzzing_finds_nothing(target: ModuleType) -> None:
    """What is found new is kept and is where the next minute starts."""
    if importlib.util.find_spec("atheris") is None:
        assert sys.platform != "linux", "atheris is not installed: pip install 'confide[fuzz]'"
        pytest.skip("atheris has no release for this system: the mutations above stand in for it")
    found, crashes = target.FOUND, target.FOUND.with_name(f"{target.FOUND.name}-crashes")
    for folder in (found, crashes):
        folder.mkdir(parents=True, exist_ok=True)
    finished = subprocess.run(
        [
            sys.executable,
            str(TARGET),
            f"-max_total_time={FUZZING_SECONDS}",
            "-max_len=4096",
            "-timeout=10",
            "-rss_limit_mb=1024",
            "-print_final_stats=1",
            f"-artifact_prefix={crashes}/",
            str(found),
            str(target.CORPUS),
        ],
        capture_output=True,
        text=True,
        timeout=10 * FUZZING_SECONDS,
        check=False,
    )
    assert finished.returncode == 0, f"the bytes are in {crashes}\n{finished.stdout[-3000:]}\n{finished.stderr[-6000:]}"
    assert "stat::number_of_executed_units" in finished.stderr
