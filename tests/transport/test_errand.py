"""What is sent to a node next, and how long there is for it."""

import pytest

from confide.transport.base import NodeReply
from confide.transport.errand import MAX_HAND_OVER_SECONDS, MAX_TURNS, Errand, Heard, Step, Word

REPLY = NodeReply(node=1, error_kind="Missing", error="nothing")


def begun(seconds: float = 100.0) -> Errand:
    errand = Errand(node=1, seconds=seconds, make=lambda: b"request", began=0.0)
    errand.sent("first", 0.0)
    return errand


@pytest.mark.parametrize(
    ("words", "step"),
    [
        ([Word.HELD], Step.FETCH),
        ([Word.GONE], Step.INQUIRY),
        ([Word.UNKNOWN], Step.REQUEST),
        ([Word.GONE, Word.HELD], Step.FETCH),
        ([Word.GONE, Word.UNKNOWN], Step.REQUEST),
        ([Word.HELD, Word.GONE], Step.FETCH),
        ([Word.HELD, Word.UNKNOWN], Step.REQUEST),
    ],
)
def test_what_is_heard_decides_what_is_sent_next(words: list[Word], step: Step) -> None:
    errand = begun()
    for word in words:
        assert errand.turn(word, 0.0)
        assert errand.messages == []
    assert errand.step is step


def test_a_request_that_is_sent_again_has_what_is_left_of_its_time() -> None:
    errand = begun()
    errand.turn(Word.UNKNOWN, 60.0)
    errand.sent("second", 60.0)
    assert (errand.request, errand.deadline) == ("second", 100.0)


@pytest.mark.parametrize("seconds", [100.0, 2 * MAX_HAND_OVER_SECONDS])
@pytest.mark.parametrize("asked_at", [1.0, 90.0, 150.0])
def test_whatever_is_handed_over_has_one_end_however_late_it_is_asked_for_and_how_often(
    seconds: float, asked_at: float
) -> None:
    errand = begun(seconds)
    errand.turn(Word.HELD, asked_at)
    assert errand.deadline == errand.end == seconds + min(seconds, MAX_HAND_OVER_SECONDS)
    errand.sent("fetch", asked_at)
    errand.turn(Word.GONE, asked_at + 30.0)
    errand.sent("fetch again", asked_at + 30.0)
    assert (errand.request, errand.deadline) == ("first", errand.end)
    errand.turn(Word.UNKNOWN, asked_at + 40.0)
    assert errand.deadline == seconds


@pytest.mark.parametrize(("now", "deadline"), [(10.0, 100.0), (90.0, 150.0), (130.0, 190.0), (180.0, 200.0)])
def test_an_inquiry_has_a_time_of_its_own_before_the_end(now: float, deadline: float) -> None:
    errand = begun()
    errand.turn(Word.GONE, now)
    assert (errand.step, errand.deadline) == (Step.INQUIRY, deadline)


@pytest.mark.parametrize(("seconds", "slot_seconds"), [(100.0, 20.0), (3600.0, 300.0), (10 * 3600.0, 300.0)])
def test_a_slot_is_taken_once_and_for_a_short_while(seconds: float, slot_seconds: float) -> None:
    errand = begun(seconds)
    assert not errand.has_slot(0.0)
    errand.turn(Word.HELD, 10.0)
    awaits = [errand.awaits_slot]
    errand.sent("fetch", 10.0)
    awaits.append(errand.awaits_slot)
    assert errand.has_slot(10.0 + slot_seconds - 1)
    errand.turn(Word.HELD, 11.0)  # as of a node that never hands over what it holds
    awaits.append(errand.awaits_slot)
    errand.sent("fetch again", 11.0)
    assert awaits == [True, False, False]
    assert not errand.has_slot(10.0 + slot_seconds)


def test_a_node_is_sent_something_else_only_so_often() -> None:
    errand = begun()
    assert [errand.turn(Word.UNKNOWN, 0.0) for _ in range(MAX_TURNS + 1)] == [True] * MAX_TURNS + [False]


def test_an_inquiry_is_forgotten_where_it_was_lost_itself() -> None:
    errand = begun()
    errand.inquired("second", 120.0)
    errand.answered("second", Heard(word=Word.GONE, reply=REPLY))
    assert (errand.messages, errand.told) == (["first"], None)
    assert errand.inquire_at == 120.0 + 240.0


def test_what_failed_is_sent_again_ever_more_rarely_until_something_is_heard() -> None:
    errand = begun()
    waits = []
    for _ in range(7):
        errand.pause(10.0)
        waits.append(errand.send_at - 10.0)
    errand.turn(Word.HELD, 20.0)
    errand.turn(Word.GONE, 20.0)
    assert waits == [1, 2, 4, 8, 16, 30, 30]
    assert errand.send_at == 20.0 + 1


def test_a_node_for_which_flower_takes_no_request_is_given_up_and_one_that_has_it_is_not() -> None:
    errand = begun()
    errand.pushed("", 120.0)
    refused = [errand.is_refused]
    errand.turn(Word.HELD, 130.0)
    errand.pushed("", 130.0)
    unknown = Errand(node=1, seconds=100.0, make=lambda: b"", began=50.0)
    unknown.pushed("", 50.0)
    assert [*refused, errand.is_refused, unknown.is_refused] == [False, False, True]
    assert errand.send_at > 130.0


def test_time_begins_with_the_first_request_of_all_and_not_when_flower_takes_it() -> None:
    errand = Errand(node=1, seconds=100.0, make=lambda: b"", began=50.0)
    errand.pushed("first", 90.0)
    assert (errand.due, errand.deadline, errand.end) == (150.0, 150.0, 250.0)
