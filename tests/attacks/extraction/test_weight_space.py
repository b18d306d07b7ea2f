import numpy as np
import numpy.typing as npt
import pytest
import torch

from confide.attacks.extraction.weight_space import extrapolate
from confide.errors import LayoutMismatchError
from confide.model.load import load_base_model
from confide.model.lora import LoraSettings, attach_lora
from confide.seeds import stream
from confide.update import Layout, Slot, Vector

RANK, GAMMA = 3, 0.7
LAYOUT = Layout(
    tuple(
        Slot(name=f"{layer}.lora_{factor}.weight", shape=shape)
        for layer, inputs, outputs in (("one", 8, 6), ("two", 5, 9))
        for factor, shape in (("A", (RANK, inputs)), ("B", (outputs, RANK)))
    )
)
Products = dict[str, npt.NDArray[np.float64]]


def _vector(name: str) -> Vector:
    return stream(0, "test-vector", name).standard_normal(LAYOUT.num_values, dtype=np.float32)


def _with(vector: Vector, other: Vector, factor: str) -> Vector:
    """The first vector with one factor of the second."""
    part = LAYOUT.select(slot.name for slot in LAYOUT if f"lora_{factor}" in slot.name)
    return LAYOUT.scatter(vector, part, LAYOUT.gather(other, part))


def _products(vector: Vector) -> Products:
    tensors = {name: tensor.astype(np.float64) for name, tensor in LAYOUT.unflatten(vector).items()}
    return {layer: tensors[f"{layer}.lora_B.weight"] @ tensors[f"{layer}.lora_A.weight"] for layer in ("one", "two")}


def _moved(newer: Vector, older: Vector) -> Products:
    new, old = _products(newer), _products(older)
    return {layer: new[layer] + GAMMA * (new[layer] - old[layer]) for layer in new}


def _assert_same(found: Products, expected: Products) -> None:
    for layer, product in expected.items():
        # float32 factors: each entry sums three products of numbers around 3, so an error of a few 1e-6.
        np.testing.assert_allclose(found[layer], product, atol=2e-5)


@pytest.mark.parametrize("still", ["A", "B"])
def test_where_one_factor_stood_still_the_product_is_extrapolated_exactly(still: str) -> None:
    newer = _vector("newer")
    older = _with(_vector("older"), newer, still)
    result = extrapolate(LAYOUT, newer, older, GAMMA)
    _assert_same(_products(result.vector), _moved(newer, older))
    assert result.lost_share == 0.0


def test_away_from_the_base_model_the_product_is_scaled() -> None:
    newer = _vector("newer")
    for older in (None, _with(_vector("older"), np.zeros_like(newer), "B")):
        result = extrapolate(LAYOUT, newer, older, GAMMA)
        _assert_same(_products(result.vector), {k: (1 + GAMMA) * v for k, v in _products(newer).items()})
        assert result.lost_share == 0.0


def test_where_both_factors_moved_the_product_is_the_best_of_its_rank() -> None:
    newer, older = _vector("newer"), _vector("older")
    result = extrapolate(LAYOUT, newer, older, GAMMA)
    lost = whole = 0.0
    best = {}
    for layer, product in _moved(newer, older).items():  # the twin forms the whole product and cuts its own SVD
        left, values, right = np.linalg.svd(product, full_matrices=False)
        best[layer] = (left[:, :RANK] * values[:RANK]) @ right[:RANK]
        lost, whole = lost + np.square(values[RANK:]).sum(), whole + np.square(values).sum()
    _assert_same(_products(result.vector), best)
    assert result.lost_share == pytest.approx(np.sqrt(lost / whole), rel=1e-9)
    assert 0.05 < result.lost_share < 1.0


def test_the_result_depends_on_products_and_not_on_their_factors() -> None:
    newer, older = _vector("newer"), _vector("older")
    turned = newer.copy()
    views, turn = LAYOUT.unflatten(turned), stream(0, "test-turn").normal(size=(RANK, RANK)) + 3 * np.eye(RANK)
    for layer in ("one", "two"):
        views[f"{layer}.lora_A.weight"][:] = np.linalg.inv(turn) @ views[f"{layer}.lora_A.weight"]
        views[f"{layer}.lora_B.weight"][:] = views[f"{layer}.lora_B.weight"] @ turn
    _assert_same(
        _products(extrapolate(LAYOUT, turned, older, GAMMA).vector),
        _products(extrapolate(LAYOUT, newer, older, GAMMA).vector),
    )


def test_moving_by_nothing_changes_nothing() -> None:
    newer = _vector("newer")
    for older in (None, newer, _vector("older"), _with(_vector("older"), newer, "A")):
        result = extrapolate(LAYOUT, newer, older, 0.0)
        _assert_same(_products(result.vector), _products(newer))
        assert result.lost_share < 1e-12  # float64


def test_a_model_with_the_extrapolated_adapter_is_the_model_with_moved_weights() -> None:
    model = attach_lora(load_base_model("tiny-llama"), LoraSettings(lora_rank=2, lora_alpha=6), seed=0)
    start = model.read()
    part = model.layout.select(slot.name for slot in model.layout if ".lora_B." in slot.name)
    newer, older = (
        model.layout.scatter(start, part, stream(0, "b", name).standard_normal(part.num_values, dtype=np.float32))
        for name in ("newer", "older")
    )
    ids = torch.tensor([[1, 50, 60, 70]])
    model.write(extrapolate(model.layout, newer, older, GAMMA).vector)
    with torch.no_grad():
        found = model.module(input_ids=ids).logits
        model.write(newer)
        weights = [
            parameter for name, parameter in model.module.named_parameters() if name.endswith("lora_B.default.weight")
        ]
        tensors = model.layout.unflatten(older)
        names = [slot.name for slot in part]
        assert len(weights) == len(names)
        for name, parameter in model.module.named_parameters():
            if "lora_B" in name:
                old = torch.from_numpy(tensors[name.replace(".default.", ".")])
                parameter.add_(GAMMA * (parameter - old))
        expected = model.module(input_ids=ids).logits
    torch.testing.assert_close(found, expected)


def test_a_factor_without_its_partner_is_refused() -> None:
    layout = LAYOUT.select(slot.name for slot in LAYOUT if slot.name != "two.lora_B.weight")
    with pytest.raises(LayoutMismatchError, match="only pairs of factors"):
        extrapolate(layout, np.ones(layout.num_values, np.float32), None, GAMMA)
    with pytest.raises(LayoutMismatchError):
        extrapolate(LAYOUT, _vector("newer")[:-1], None, GAMMA)
