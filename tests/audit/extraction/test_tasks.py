"""What is given of each record: of a disturbed prompt about as many words are others as the paper replaces."""

import re

import numpy as np

from confide.attacks.passes import Passes
from confide.attacks.view import View
from confide.audit.extraction.probe import Probe
from confide.audit.extraction.tasks import LONG, cut_prefixes, disturb_prefixes
from confide.audit.truth import Population, Truth
from confide.model.lora import AdaptedModel
from tests.audit.overtrained import NAMES, SETTINGS, make_candidate

PAPERS_SHARE = 0.4


def probe_of(model: AdaptedModel, population: Population) -> Probe:
    return Probe(
        view=View(name="final", party="anybody", layout=model.layout),
        passes=Passes(model, None),
        asked=population,
        own=Population(name="records", candidates=()),
        truth=Truth(members=dict.fromkeys(population.ids, True), is_randomised=True),
        rounds=(1,),
        settings=SETTINGS,
    )


def test_two_in_five_words_of_a_disturbed_prompt_are_others_and_what_is_to_come_is_the_same(
    model: AdaptedModel,
) -> None:
    rng = np.random.default_rng(0)
    rows = [make_candidate(model, " ".join(rng.choice(NAMES, 10)), "north", name=str(place)) for place in range(40)]
    probe = probe_of(model, Population(name="records", candidates=tuple(rows)))
    long = cut_prefixes(probe, probe.asked, LONG)
    disturbed = disturb_prefixes(probe, long)
    assert [(one.candidate_id, one.remainder) for one in disturbed] == [
        (one.candidate_id, one.remainder) for one in long
    ]
    num_words = num_others = 0
    for one, other in zip(long, disturbed, strict=True):
        given, told = (
            model.tokenizer.decode(list(split.prompt), skip_special_tokens=True).split(" ") for split in (one, other)
        )
        whole = len(given) - 1  # the last word may be cut
        assert len(told) == len(given)
        assert all(re.fullmatch(r"[a-z]+", word) for word in told[:whole])
        num_words += whole
        num_others += sum(word != was for word, was in zip(told[:whole], given[:whole], strict=True))
    # Binomial; five standard deviations. A word is never replaced by itself.
    room = 5 * (PAPERS_SHARE * (1 - PAPERS_SHARE) / num_words) ** 0.5
    assert num_words > 200
    assert abs(num_others / num_words - PAPERS_SHARE) < room
