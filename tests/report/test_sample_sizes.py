from confide.audit.results import Asked, Measure, Outcomes
from confide.report.figures import roc_figures
from confide.report.sample_sizes import sizes
from tests.report.audits import audit, estimate, line, measure, roc

# A ladder of 8 canaries that went in and 16 that did not; the best attack is measured on half of them.
WHOLE = Asked(members=list(range(8)), others=list(range(8, 24)))
HALF = Asked(members=[0, 2, 4, 6], others=list(range(8, 24, 2)))
ROC = roc("loss", 0.5, num=12)


def area(attack: str, asked: str, num: int) -> Measure:
    """An AUC, whose sample size counts both groups."""
    size = {"whole": WHOLE, "half": HALF}[asked]
    ranks = Outcomes(asked=asked, kind="rank", members=[1] * len(size.members), others=[0] * len(size.others))
    found = measure("client", "membership", attack=attack, population="records", metric="auc")
    return found.model_copy(update={"members": estimate(0.6, num=num), "outcomes": ranks})


def test_a_roc_counts_members_and_others_apart_on_the_half_that_it_is_about() -> None:
    results = audit(
        measures=[area("loss", "whole", 24), area("best", "half", 12)],
        curves=[ROC],
        asked={"whole": WHOLE, "half": HALF},
    )
    assert sizes(results, [ROC]) == "Records: 4 trained on, 8 not trained on."
    (figure,) = roc_figures(results)
    assert "by chance. Records: 4 trained on, 8 not trained on. Bands" in figure.description


def test_without_a_half_the_attacks_own_records_are_counted() -> None:
    results = audit(measures=[area("loss", "whole", 24)], asked={"whole": WHOLE})
    assert sizes(results, [ROC]) == "Records: 8 trained on, 16 not trained on."


def test_an_area_that_kept_no_records_counts_both_groups_together() -> None:
    bare = area("best", "half", 12).model_copy(update={"outcomes": None})
    assert sizes(audit(measures=[bare]), [ROC]) == "Records: 12 trained on and not, together."


def test_measures_of_other_records_parties_and_metrics_do_not_count() -> None:
    rate = area("loss", "whole", 8).model_copy(update={"metric": "tpr@0.1", "outcomes": None})
    elsewhere = area("best", "whole", 24).model_copy(update={"population": "ladder"})
    other_party = area("best", "whole", 24).model_copy(update={"view": "final"})
    assert sizes(audit(measures=[rate, elsewhere, other_party], asked={"whole": WHOLE}), [ROC]) == ""


def test_a_share_is_of_members_and_its_control_of_others() -> None:
    curve = line("rounds", "members", {1: 0.1})
    assert sizes(audit(measures=[measure()]), [curve]) == "Records: 46 trained on, 47 not trained on."
    twice = [measure(), measure(metric="near", members=estimate(0.2, num=1200))]
    assert sizes(audit(measures=twice), [curve]) == "Records: 46 to 1,200 trained on, 47 not trained on."
    assert sizes(audit(), [curve]) == ""
