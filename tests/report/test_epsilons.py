import json

import pytest

from confide.audit.epsilon_bounds import Claim, EpsilonBound
from confide.audit.results import AuditResults
from confide.privacy.randomness import SEEDED_MEANS
from confide.report.advice import advice
from confide.report.claims import METHODS, epsilon_sentence, false_claim
from confide.report.epsilons import epsilon_figures, epsilon_table
from confide.report.page import render_report
from confide.report.sentences import guarantee, headline
from tests.report.audits import audit, calm_audit, epsilon_bound

FALSE = "The claimed guarantee is false or not applied"


def with_bounds(*bounds: EpsilonBound) -> AuditResults:
    return calm_audit().model_copy(update={"epsilons": list(bounds)})


ABOVE = epsilon_bound(method="gaussian", low=6.5, ceiling=20.0, claimed=4.0, verdict="above the claim")
WITHIN = epsilon_bound(view="final", method="f-dp", low=1.5, ceiling=5.5, claimed=4.0)


def test_a_refuted_claim_stands_before_all_else() -> None:
    results = with_bounds(WITHIN, ABOVE)
    assert headline(results).startswith(FALSE)
    assert headline(results).endswith(headline(calm_audit()))
    assert "at least 6.50 for one record at delta 1e-05" in headline(results)
    assert "claims 4.00 at most" in headline(results)
    assert epsilon_sentence(results) == false_claim(results)
    rules = [one.rule for one in advice(results)]
    assert rules[0] == "the claimed epsilon is refuted"
    assert "nothing was found" not in rules
    run = results.run.model_copy(update={"guarantee": "(4, 1e-5)-differential privacy"})
    assert "This audit refutes it" in guarantee(results.model_copy(update={"run": run}))
    assert FALSE in render_report([results])


@pytest.mark.parametrize("verdict", ["within the claim", "undecided", "no claim"])
def test_nothing_is_refuted_by_any_other_verdict(verdict: str) -> None:
    results = with_bounds(ABOVE.model_copy(update={"verdict": verdict}))
    assert headline(results) == headline(calm_audit())
    assert FALSE not in epsilon_sentence(results)
    assert [one.rule for one in advice(results)] == [one.rule for one in advice(calm_audit())]
    assert "refutes" not in guarantee(results)


def test_the_method_that_assumes_least_is_named() -> None:
    results = with_bounds(ABOVE, ABOVE.model_copy(update={"method": "one-run", "low": 4.5}))
    assert "at least 4.5" in false_claim(results)
    assert METHODS["one-run"] in false_claim(results)


def test_a_bound_within_the_claim_is_said_with_what_so_many_canaries_could_show() -> None:
    said = epsilon_sentence(with_bounds(WITHIN))
    assert "claimed 4.00 for one record" in said
    assert "at least 1.50" in said
    assert "with 200 canaries this method cannot show more than 5.50" in said
    assert epsilon_sentence(audit()) == ""
    assert "the run claims none" in epsilon_sentence(with_bounds(epsilon_bound(claimed=None, verdict="no claim")))


def test_a_figure_has_claim_bounds_and_ceilings_on_one_axis() -> None:
    of_client, of_final = epsilon_figures(with_bounds(WITHIN, ABOVE, epsilon_bound(ceiling=None, claimed=4.0)))[::-1]
    assert of_client.title == "Epsilon: A participating client"
    assert of_client.has_finding
    assert not of_final.has_finding
    plot = json.loads(of_client.plot)
    lines = [(trace["x"], trace["y"]) for trace in plot["data"]]
    assert ([6.5, 20.0], [1, 1]) in lines  # from the bound to the ceiling
    assert ([6.5, 1.0], [1, 0]) in lines  # the bounds
    assert ([4.0, 4.0], [-0.5, 1.5]) in lines  # the claim
    assert len(lines) == 3  # no line to a ceiling that there is not
    assert plot["layout"]["yaxis"]["ticktext"] == ["records: gaussian", "records: f-dp"]
    assert [entry.name for entry in of_client.legend][-1] == "claimed for one record"
    assert "1 of them above it" in of_client.description


def test_a_table_has_every_bound_with_its_name_for_gates() -> None:
    results = with_bounds(WITHIN, ABOVE)
    table = epsilon_table(results)
    assert [row[0].text.split("\n")[-1] for row in table.rows] == [WITHIN.key, ABOVE.key]
    first = {column: cell.text for column, cell in zip(table.columns, table.rows[0], strict=True)}
    assert first["Epsilon is at least"].startswith("1.50\n")
    assert (first["Claimed"], first["Could show at most"]) == ("4.00", "5.50")
    assert (first["Canaries in, out"], first["Verdict"]) == ("100, 100", "within the claim")


OF_CLIENT = epsilon_bound(
    view="final", method="canary-clients-final", population="canary-clients", low=0.5, ceiling=None, claimed=7.5
).model_copy(update={"unit": "client"})


def with_both_claims(*bounds: EpsilonBound) -> AuditResults:
    results = with_bounds(*bounds)
    claims = {
        "claim": Claim(unit="example", epsilon=4.0, delta=1e-5),
        "client_claim": Claim(unit="client", epsilon=7.5, delta=1e-5),
    }
    return results.model_copy(update={"run": results.run.model_copy(update=claims)})


@pytest.mark.parametrize("bounds", [(WITHIN,), (WITHIN, OF_CLIENT)])
def test_of_two_claims_a_figure_draws_both_whether_bounds_are_about_them_or_not(
    bounds: tuple[EpsilonBound, ...],
) -> None:
    (figure,) = epsilon_figures(with_both_claims(*bounds))
    drawn = [trace["x"] for trace in json.loads(figure.plot)["data"]]
    assert [4.0, 4.0] in drawn
    assert [7.5, 7.5] in drawn
    assert [entry.name for entry in figure.legend][-2:] == ["claimed for one record", "claimed for one client"]
    assert "4.00 claimed for one record and 7.50 claimed for one client" in figure.description


def seeded(results: AuditResults) -> AuditResults:
    """The same of a run whose noise is from a seed, with one epsilon or two."""
    before = results.run.claim or Claim(unit="example", epsilon=4.0, delta=1e-5)
    claims = {"claim": before.model_copy(update={"seeded_noise": True})}
    if results.run.client_claim is not None:
        claims["client_claim"] = results.run.client_claim.model_copy(update={"seeded_noise": True})
    return results.model_copy(update={"run": results.run.model_copy(update=claims)})


@pytest.mark.parametrize(("bound", "words"), [(WITHIN, "claimed 4.00 for one record"), (ABOVE, "claims 4.00 at most")])
def test_seeded_noise_is_named_beside_a_claimed_epsilon(bound: EpsilonBound, words: str) -> None:
    results = with_bounds(bound)
    said, said_seeded = epsilon_sentence(results), epsilon_sentence(seeded(results))
    assert f"{words} ({SEEDED_MEANS})" in said_seeded
    assert said == said_seeded.replace(f" ({SEEDED_MEANS})", "")
    (figure,) = epsilon_figures(seeded(results))
    assert figure.legend[-1].name == "claimed for one record (seeded noise)"
    assert "4.00 claimed for one record (seeded noise)" in figure.description
    tables = [epsilon_table(seeded(results)), figure.table]
    assert [table.rows[0][table.columns.index("Claimed")].text for table in tables] == ["4.00 (seeded noise)"] * 2
    assert SEEDED_MEANS in render_report([seeded(results)])
    assert "eeded noise" not in render_report([results])


def test_a_server_that_chose_the_seed_has_no_claim_beside_its_bounds() -> None:
    of_server = epsilon_bound(view="server", claimed=None, verdict="no claim")
    results = seeded(with_both_claims(of_server))
    assert epsilon_sentence(results).startswith(f"Epsilon: no claim of the run covers this ({SEEDED_MEANS}); ")
    (figure,) = epsilon_figures(results)
    assert "with what the run claims (nothing)" in figure.description
    assert "7.50" in epsilon_figures(with_both_claims(of_server))[0].description
    (row,) = epsilon_table(results).rows
    assert "seeded" not in " ".join(cell.text for cell in row)


def test_no_clients_claim_is_drawn_against_a_coalition_that_it_may_not_cover() -> None:
    (figure,) = epsilon_figures(with_both_claims(WITHIN.model_copy(update={"view": "coalition"})))
    assert "7.50" not in figure.description


def test_of_two_claims_both_are_said() -> None:
    said = epsilon_sentence(with_both_claims(WITHIN))
    assert "claimed 4.00 for one record" in said
    assert said.endswith("The run also claims 7.50 for one client, which no bound here is compared with.")
    said = epsilon_sentence(with_both_claims(WITHIN, OF_CLIENT))
    assert said.endswith("The run also claims 7.50 for one client.")
    said = epsilon_sentence(with_both_claims(OF_CLIENT))
    assert "claimed 7.50 for one client" in said
    assert said.endswith("The run also claims 4.00 for one record, which no bound here is compared with.")
    assert "also claims" not in epsilon_sentence(with_bounds(WITHIN, OF_CLIENT))


def test_the_page_shows_bounds_and_why_some_are_missing() -> None:
    gap = "ladder: one coin adds several copies."
    page = render_report([with_bounds(WITHIN).model_copy(update={"epsilon_gaps": [gap]})])
    assert WITHIN.key in page
    assert gap in page
    assert "figure-0-epsilon-0" in page
    assert WITHIN.key not in render_report([audit()])


def test_results_with_claim_and_bounds_read_back_as_they_were() -> None:
    claim = Claim(unit="example", epsilon=4.0, delta=1e-5)
    results = with_bounds(WITHIN, ABOVE)
    results = results.model_copy(update={"run": results.run.model_copy(update={"claim": claim})})
    assert AuditResults.model_validate_json(results.to_json()) == results
    assert AuditResults.model_validate_json(seeded(results).to_json()) == seeded(results)


def test_a_claim_from_before_seeded_noise_was_said_is_read_as_one_without() -> None:
    old = json.loads(seeded(with_bounds(WITHIN)).to_json())
    del old["run"]["claim"]["seeded_noise"]
    claim = AuditResults.model_validate(old).run.claim
    assert claim == Claim(unit="example", epsilon=4.0, delta=1e-5, seeded_noise=False)


def test_what_follows_for_a_record_rests_on_the_same_noise() -> None:
    for seeded_noise in (False, True):
        of_record = Claim(unit="client", epsilon=1.0, delta=1e-5, seeded_noise=seeded_noise).of_a_record()
        assert of_record is not None
        assert (of_record.unit, of_record.epsilon, of_record.seeded_noise) == ("example", 2.0, seeded_noise)
