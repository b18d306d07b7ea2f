"""What each attack does, in words for a reader who knows none of their names."""

from collections.abc import Mapping

_LOSS = "how well the model predicts each"
_CHANGE = "how each one's loss changed from round to round"

HOW: Mapping[str, str] = {
    "loss": _LOSS,
    "zlib": f"{_LOSS}, for its plainness",
    "lowercase": f"{_LOSS}, against the same in lower case",
    "min_k": "how well the model predicts each one's hardest words",
    "min_k_plus_plus": "how well the model predicts each one's hardest words",
    "reference": "how much better than the base model it predicts each",
    "reference_ratio": "how much better than the base model it predicts each",
    "ez": "how its mistakes differ from the base model's",
    "wbc": "in how many short passages it beats the base model",
    "lira_online": "models trained with and without each, for comparison",
    "lira_offline": "models trained without each, for comparison",
    "rmia": "models trained for comparison, and other records",
    "largest_gain": _CHANGE,
    "summed_gain": _CHANGE,
    "standardised_gain": _CHANGE,
    "user": "how well the model predicts a client's fresh records",
    "greedy": "the model asked to go on where each was cut off",
    "probabilistic": "the chance of each when the model is asked again and again",
    "union": "every round's model asked",
    "two-model": "the model set against the one of the round before",
    "two-model-base": "the model set against the base model",
    "two-model-chosen": "the model set against the older one that tells the attacker most of its own records",
    "weight-space": "the training's direction followed further",
    "own-prefix": "the attacker's own records as the beginning",
    "own-prefix-frequent": "the attacker's most frequent beginnings",
    "own-prefix-tuned": "the model tuned on the attacker's own records",
    "zero-input": "the model asked for any text",
    "prefix-80": "the model given four fifths of each",
    "prefix-30": "the model given the first third of each",
    "prefix-50-tokens": "the model given the first words of each",
    "disturbed-80": "the model given four fifths of each, with words replaced",
    "rank": "each ranked among others of its form",
    "fit": "each placed among all others of its form",
    "cosine": "the direction of the update",
    "difference": "the direction of the update, for its length",
    "layer cosine": "the direction of the update, layer by layer",
    "joint": "each one's own share in the update, with the others' taken out",
    "reported loss": "the losses that clients report",
    "reported length": "the sizes that clients report",
}
"""By an attack's name, without what says that it ran over rounds or with two models."""

_ENDINGS = ("-two", "-rounds")


def how(attack: str) -> str:
    """What an attack goes by; "" where there are no words for it."""
    for ending in _ENDINGS:
        attack = attack.removesuffix(ending)
    return HOW.get(attack, "")
