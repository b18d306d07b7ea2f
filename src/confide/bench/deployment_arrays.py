"""The adapter that both contenders of the deployment benchmark send, and the update that stands for training."""

import numpy as np

from confide.seeds import stream
from confide.update import Layout, Slot, Vector

_WIDTH, _NUM_PAIRS = 4096, 64  # q_proj and v_proj of the 32 layers of Llama-2-7B
_LARGEST = 1e-3


def make_layout(num_values: int) -> Layout:
    """A layout of so many values: LoRA on q_proj and v_proj of Llama-2-7B, of the rank that fits, and one more slot.

    17 million values are rank 32.
    """
    rank = max(1, num_values // (2 * _WIDTH * _NUM_PAIRS))
    num_pairs = min(_NUM_PAIRS, num_values // (2 * _WIDTH * rank))
    slots = []
    for pair in range(num_pairs):
        layer = f"model.layers.{pair // 2}.self_attn.{'qv'[pair % 2]}_proj"
        slots += [
            Slot(name=f"{layer}.lora_A.weight", shape=(rank, _WIDTH)),
            Slot(name=f"{layer}.lora_B.weight", shape=(_WIDTH, rank)),
        ]
    rest = num_values - sum(slot.size for slot in slots)
    if rest:
        slots.append(Slot(name="model.rest.lora_B.weight", shape=(rest,)))
    return Layout(tuple(slots))


def make_start(layout: Layout) -> Vector:
    """The global adapter before the first round: no two arrays are the same, as Flower would send such only once."""
    return _draw(layout.num_values, "bench-start")


def draw_update(seed: int, client: str, round_number: int, num_values: int) -> Vector:
    """What a client's training comes to: uniform between plus and minus a thousandth, which is drawn fast."""
    return _draw(num_values, "bench-update", seed, client, round_number)


def _draw(num_values: int, purpose: str, seed: int = 0, *names: str | int) -> Vector:
    drawn: Vector = stream(seed, purpose, *names).random(num_values, np.float32)
    drawn -= np.float32(0.5)
    drawn *= np.float32(2 * _LARGEST)
    return drawn
