import numpy as np
import pytest
from scipy.stats import chisquare

from confide.privacy.randomness import SEEDED_NOISE, NoiseSource, OsRandomness, SeededRandomness

SOURCES: list[NoiseSource] = [OsRandomness(), SeededRandomness(0)]


def test_no_two_draws_of_the_operating_system_are_alike() -> None:
    draws = [source.random_bytes(16) for source in (OsRandomness(), OsRandomness()) for _ in range(500)]
    assert len(set(draws)) == len(draws)  # two of 1000 alike: below 2**-108


def test_a_seeded_source_repeats_itself_and_no_other() -> None:
    names: list[tuple[int, *tuple[str | int, ...]]] = [(0,), (1,), (0, "north"), (0, "north", 1), (0, 1, "north")]
    first = [SeededRandomness(*name).random_bytes(32) for name in names]
    assert first == [SeededRandomness(*name).random_bytes(32) for name in names]
    assert len(set(first)) == len(names)


def test_a_seeded_source_never_gives_the_same_bytes_twice() -> None:
    source = SeededRandomness(4)
    draws = [source.random_bytes(16) for _ in range(500)]
    assert len(set(draws)) == len(draws)


def test_calls_for_whole_words_continue_one_stream() -> None:
    whole, parts = SeededRandomness(7, "north"), SeededRandomness(7, "north")
    assert whole.random_bytes(64) == b"".join(parts.random_bytes(count) for count in (4, 12, 8, 40))


def test_a_source_says_whether_it_gives_privacy() -> None:
    assert OsRandomness().name == "operating system"
    assert SeededRandomness(3).name == SEEDED_NOISE


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
@pytest.mark.parametrize("count", [0, 1, 7, 8, 1000, 100_003])
def test_a_source_gives_as_many_bytes_as_asked_for(source: NoiseSource, count: int) -> None:
    assert len(source.random_bytes(count)) == count


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_fewer_than_no_bytes_are_refused(source: NoiseSource) -> None:
    with pytest.raises(ValueError, match=r"negative|count is -1, expected at least 0"):
        source.random_bytes(-1)


def test_all_bytes_are_equally_likely() -> None:
    drawn = np.frombuffer(SeededRandomness(2).random_bytes(1 << 20), np.uint8)
    assert chisquare(np.bincount(drawn, minlength=256)).pvalue > 1e-4
