"""The records behind a number, and whether so many could have shown an effect: else "nothing found" says nothing.

An effect worth finding is one that tells half of the members for certain: half of them come out, or are recognised. It
has to show with probability 0.8 after correction over all attacks that were tried, beside controls like those that were
seen.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol

from confide.audit.statistics import (
    MeanControls,
    finds_half,
    finds_half_in_mean,
    records_for_half,
    records_for_half_in_mean,
)
from confide.plural import plural


class Sample(Protocol):
    """How many records stand behind a number, and what so many can show."""

    @property
    def num_members(self) -> int:
        """How many were trained on."""

    @property
    def num_others(self) -> int:
        """How many were not."""

    @property
    def is_half(self) -> bool:
        """Whether these are one half of the records that were asked about, the other having chosen the attack.

        How many records are needed is always said of all that are asked about.
        """

    def shortage(self, num_attacks: int) -> str:
        """Says in a sentence why the records are too few for any conclusion, and how many are needed; "" if enough.

        Args:
            num_attacks: over how many attacks, at least 1, p-values are corrected.

        Guarantees:
            - More attacks never turn too few records into enough.
        """


@dataclass(frozen=True, kw_only=True)
class ShareSample:
    """Behind a share of records, of which half can come out.

    Attributes:
        num_others_out: how many of the others come out as well.
        num_base_out: how many of the members the base model brings out; None where it is not compared with.
        num_members: at least 1.
        num_others: at least 1.
        too_few_else: why there is too little of something else than records; "" where there is not.
    """

    num_members: int
    num_others: int
    num_others_out: int = 0
    num_base_out: int | None = 0
    too_few_else: str = ""
    is_half: ClassVar[bool] = False

    def shortage(self, num_attacks: int) -> str:
        """See `Sample`."""
        found = finds_half(
            self.num_members,
            self.num_others,
            num_tests=num_attacks,
            others=self.num_others_out,
            base=self.num_base_out,
        )
        if found:
            return self.too_few_else
        needed = records_for_half(
            num_tests=num_attacks,
            others_share=self.num_others_out / self.num_others,
            base_share=None if self.num_base_out is None else self.num_base_out / self.num_members,
        )
        if needed is None:
            return "So much comes out of the controls that hardly anything is left to be found beyond them."
        return (
            f"{self.num_members} members and {self.num_others} others are too few to find it with "
            f"{plural(num_attacks, 'attack')} if half of the members came out; at least {needed} of each are needed."
        )


@dataclass(frozen=True, kw_only=True)
class MeanSample:
    """Behind a mean over records, of which half can show the most that each can.

    Attributes:
        num_members: at least 2.
        num_others: at least 2.
        controls: as they were seen.
    """

    num_members: int
    num_others: int
    controls: MeanControls
    is_half: ClassVar[bool] = False

    def shortage(self, num_attacks: int) -> str:
        """See `Sample`."""
        if finds_half_in_mean(self.num_members, self.num_others, self.controls, num_tests=num_attacks):
            return ""
        fewer = min(self.num_members, self.num_others)
        needed = records_for_half_in_mean(fewer, self.controls, num_tests=num_attacks)
        if needed is None:
            return (
                "The controls are so near the most that there is that hardly anything is left to be found beyond them."
            )
        return (
            f"{self.num_members} members and {self.num_others} others are too few to find it with "
            f"{plural(num_attacks, 'attack')} if half of the members came out whole; beside such controls about "
            f"{needed:,} of each are needed."
        )
