from confide.attacks.membership import MEMBERSHIP_ATTACKS
from confide.attacks.updates.similarity import MEASURES
from confide.audit.extraction.two_models import CHOSEN
from confide.report.how import HOW, how


def test_every_attack_on_membership_is_said_in_words() -> None:
    assert HOW.keys() >= MEMBERSHIP_ATTACKS.keys()


def test_every_measure_of_updates_is_said_in_words() -> None:
    assert HOW.keys() >= set(MEASURES)


def test_attacks_with_two_models_are_said_in_words_of_their_own() -> None:
    words = [how(attack) for attack in ("two-model", "two-model-base", CHOSEN, "weight-space")]
    assert "" not in words
    assert len(set(words)) == len(words)


def test_an_attack_over_rounds_or_with_two_models_goes_by_the_same() -> None:
    assert how("prefix-80-rounds-two") == how("prefix-80-rounds") == how("prefix-80") != ""


def test_there_is_nothing_to_say_of_an_unknown_attack() -> None:
    assert how("best") == how("<b>") == ""
