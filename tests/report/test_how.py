from confide.attacks.membership import MEMBERSHIP_ATTACKS
from confide.attacks.updates.similarity import MEASURES
from confide.report.how import HOW, how


def test_every_attack_on_membership_is_said_in_words() -> None:
    assert HOW.keys() >= MEMBERSHIP_ATTACKS.keys()


def test_every_measure_of_updates_is_said_in_words() -> None:
    assert HOW.keys() >= set(MEASURES)


def test_an_attack_over_rounds_or_with_two_models_goes_by_the_same() -> None:
    assert how("prefix-80-rounds-two") == how("prefix-80-rounds") == how("prefix-80") != ""


def test_there_is_nothing_to_say_of_an_unknown_attack() -> None:
    assert how("best") == how("<b>") == ""
