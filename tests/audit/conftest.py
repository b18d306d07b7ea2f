"""Models that were trained until they know records by heart: made once, as all else here is quick."""

from collections.abc import Iterator

import pytest

from confide.attacks import blind
from confide.model.lora import AdaptedModel
from tests.audit.overtrained import World, make_model, make_world


@pytest.fixture(scope="module", autouse=True)
def _no_forest() -> Iterator[None]:
    """Leaves out the blind baseline that takes a second for every population; it has tests of its own."""
    quick = {name: baseline for name, baseline in blind.BLIND_BASELINES.items() if name != "words_forest"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blind, "BLIND_BASELINES", quick)
        yield


@pytest.fixture(scope="session")
def model() -> AdaptedModel:
    return make_model()


@pytest.fixture(scope="session")
def overtrained(model: AdaptedModel) -> World:
    """Three rounds on 16 records; after the last one every member is known by heart.

    A model of width 32 needs some 150 epochs for what thirty do to a real one.
    """
    return make_world(model, keep=(50, 100, 200))


@pytest.fixture(scope="session")
def ladder(model: AdaptedModel) -> World:
    """Records that were learnt once, twice, four and eight times in every epoch, and not to the end."""
    return make_world(model, copies=(1, 2, 4, 8), keep=(40,))
