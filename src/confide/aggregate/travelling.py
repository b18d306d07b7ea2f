"""Which of LoRA's factors are trained and travel in a round."""

from typing import Literal

from confide.update import Layout

Average = Literal["freeze-a", "factors", "alternate"]


def travelling_slots(layout: Layout, average: Average, round_number: int) -> Layout:
    """Gives the slots that are trained and sent in a round; all others stay as they are.

    The mean of products is not the product of means: averaging A and B of clients separately is inexact, unless one
    of them is the same everywhere.

    Args:
        layout: of the whole adapter.
        average: "freeze-a": B only, A stays at its start, the mean is exact. "factors": both, inexact. "alternate":
            B in rounds 1, 3, 5, ... and A in rounds 2, 4, 6, ...: exact in each, and both learn. B has to go first:
            while it is zero, A's gradient is zero.
        round_number: counted from 1.
    """
    if average == "factors":
        return layout
    factor = "lora_A" if average == "alternate" and round_number % 2 == 0 else "lora_B"
    return layout.select(slot.name for slot in layout if f".{factor}." in slot.name)
