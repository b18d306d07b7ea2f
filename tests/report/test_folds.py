from confide.report.figures import MANY, line_figures
from confide.report.folds import FEW_MEASURES, fold_figures, fold_measures
from confide.report.measures import measure_groups
from tests.report.audits import audit, leak, line, measure, unexplained


def test_a_few_figures_all_stand_open_and_of_many_those_in_which_something_was_found() -> None:
    curves = [line("rounds", "members", {1: 0.1}, population=f"kind {number}") for number in range(MANY)]
    found = [leak(population="kind 1"), unexplained("client", family="extraction", population="kind 3")]
    results = audit(measures=found, curves=curves)
    figures = line_figures(results, "rounds")
    few = fold_figures("a", figures[1:])
    assert ([one.figure for one in few.shown], few.folded) == (figures[1:], [])
    many = fold_figures("a", figures)
    assert [one.figure for one in many.shown] == [figures[1], figures[3]]
    assert len(many.folded) == MANY - 2
    assert len({one.id for one in (*many.shown, *many.folded)}) == MANY
    assert fold_figures("a", []).shown == []


def test_a_few_measures_all_stand_open_and_of_many_the_groups_in_which_something_was_found() -> None:
    quiet = [measure("final") for _ in range(FEW_MEASURES - 1)]
    few = fold_measures(measure_groups(audit(measures=[*quiet, leak()])))
    assert [group.is_open for group in few] == [True, True]
    many = fold_measures(measure_groups(audit(measures=[*quiet, measure("final"), leak()])))
    assert [(group.measures.verdict, group.is_open) for group in many] == [("no evidence", False), ("leak", True)]
    passive = fold_measures(measure_groups(audit(measures=[*quiet, measure("final"), unexplained()])))
    assert [(group.measures.verdict, group.is_open) for group in passive] == [
        ("no evidence", False),
        ("unexplained", True),
    ]
