import pytest

from confide.canaries.settings import KINDS, CanarySettings
from confide.errors import ConfigError


def settings(*kinds: str, records: int = 4, canaries: int = 4) -> CanarySettings:
    return CanarySettings(kinds=kinds, records_per_client=records, canaries_per_client=canaries, seed=0)


def test_kinds_are_told_apart_from_rows_whatever_their_order() -> None:
    assert settings(*KINDS) == settings(*KINDS)
    assert settings("ladder", "records", "personal").canary_kinds == ("personal", "ladder")
    assert settings("ladder", "records", "personal").has_records
    assert not settings("ladder").has_records


def test_an_unknown_kind_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="'bigram', expected: records, personal"):
        settings("records", "bigram")


def test_a_kind_named_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'ladder' twice"):
        settings("ladder", "random", "ladder")


def test_kinds_without_a_number_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"audit\.canaries_per_client is 0, but .*\(random, ladder\)"):
        settings("ladder", "random", canaries=0)
    with pytest.raises(ConfigError, match=r"audit\.records_per_client is 0, but .*\(records\)"):
        settings("records", records=0)


def test_a_number_that_nothing_reads_may_be_zero() -> None:
    assert settings("records", canaries=0).canary_kinds == ()
    assert settings("personal", records=0).canary_kinds == ("personal",)
    assert settings(records=0, canaries=0).kinds == ()
