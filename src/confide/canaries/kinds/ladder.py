"""The ladder of duplication: invented people who are in 1, 2, 4, 8 or 16 notes, so that the effect of repetition shows.

All notes of one person are worded differently, up to the top of the ladder.
"""

from collections.abc import Sequence

from confide.canaries.kinds.kind import Canary, Invented, Place, canary_id
from confide.canaries.kinds.personal import invent_people, write_canary

LADDER = (1, 2, 4, 8, 16)
"""How many notes a person is in."""


class LadderCanaries:
    """People in as many notes as the steps of `LADDER`, in turn.

    A place starts one step higher than the one before it, so that few canaries per place cover all steps too.

    Source: Carlini et al. 2023, "Quantifying Memorization Across Neural Language Models", where memorisation grows
        with duplication; here the copies are paraphrases of each other, as notes about one person are.
    """

    needs_rows = False

    def invent(self, places: Sequence[Place], num_per_place: int, *, seed: int, corpus: str) -> Invented:
        """See `CanaryKind`."""
        invented = invent_people(2 * len(places) * num_per_place, seed=seed, corpus=corpus)
        persons = iter(invented.people[1::2])  # the others are those of `PersonalCanaries`
        canaries: list[Canary] = []
        for number, place in enumerate(places):
            for index in range(num_per_place):
                item_id = canary_id("ladder", place.client, index)
                num_notes = LADDER[(number + index) % len(LADDER)]
                canaries.append(
                    write_canary(item_id, next(persons), num_notes, client=place.client, form=place.form, seed=seed)
                )
        return Invented(canaries=tuple(canaries), space=invented.space)
