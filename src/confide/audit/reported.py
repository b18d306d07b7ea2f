"""What a server is told under sealing, scored: do clients' figures and the sizes of uploads tell who was trained on?"""

import numpy as np

from confide.attacks.passes import Passes
from confide.attacks.updates.reported import FIGURES, score_reported
from confide.attacks.view import View
from confide.audit.areas import area, blind_control, comparable
from confide.audit.judging import Findings, Subject
from confide.audit.truth import Population, Truth, too_few

ROW = "what clients report"
_FEWEST = 2
_WITHHELD = "clients told the server no loss and no lengths, which differential privacy withholds."


def audit_reported(view: View, passes: Passes, population: Population, truth: Truth, *, seed: int) -> Findings:
    """Scores every candidate by what its owner told the server.

    Args:
        view: of a server, with `figures` and `uploads`.
        passes: runs the base model, which everybody has.
        population: whom to ask about.
        truth: the answers.
        seed: of the run, for the blind baseline.

    Returns:
        For every measure of `score_reported` the AUC, beside the blind baseline's. The note says what sizes of uploads
        tell. With fewer than two members or two others of clients that reported, and where differential privacy
        withheld what they would report, a warning and nothing else.
    """
    figures = [told for by_client in view.figures.values() for told in by_client.items()]
    told = {name for name, told in figures if told.keys() >= FIGURES}
    if figures and not told:
        withheld = f"{population.name}, {ROW}: {_WITHHELD}"
        return Findings.too_few(view.name, "updates", ROW, withheld)
    asked = [candidate for candidate in population.candidates if candidate.owner in told]
    labels = truth.labels(asked)
    if few := too_few(f"{population.name}, {ROW}", labels, _FEWEST):
        return Findings.too_few(view.name, "updates", ROW, few)
    stats = passes.stats(None, [candidate.example for candidate in asked])
    owners = [candidate.owner for candidate in asked]
    scores = score_reported(
        view.figures,
        owners,
        losses=[-float(one.logp[one.is_target].mean()) for one in stats],
        lengths=[int(one.is_target.sum()) for one in stats],
    )
    blind = blind_control(population, asked, truth, seed=seed)
    findings = Findings()
    for measure, values in scores.items():
        subject = Subject(
            view=view.name,
            family="updates",
            attack=measure,
            code="",
            population=ROW,
            labels=labels,
            records=tuple(candidate.candidate_id for candidate in asked),
            note=(
                "A client's figures are the same for all of its records, so alone they tell none from another: held "
                f"against each record is its own number under the base model. {_sizes(view)}"
            ),
        )
        findings.found.append(area(subject, comparable(values, owners, is_randomised=truth.is_randomised), blind))
    return findings


def _sizes(view: View) -> str:
    """What the sizes of uploads tell."""
    sizes = {number: [len(upload) for upload in uploads.values()] for number, uploads in view.uploads.items()}
    if all(len(set(of_round)) <= 1 for of_round in sizes.values()):
        return "In each round all uploads are of one size, which tells nothing."
    most = max(int(np.ptp(of_round)) for of_round in sizes.values() if of_round)
    return (
        f"Uploads of one round differ by up to {most:,} bytes: that is data about clients, and the same for all "
        "records of one, so no attack on records is made of it."
    )
