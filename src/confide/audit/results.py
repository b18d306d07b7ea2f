"""What an audit writes, RUN/audit/audit.json: its schema, versioned. Reports and gates read this and nothing else.

`audit.schema.json` beside this module is the same as a JSON Schema, for other programs: `python -m
confide.audit.results > src/confide/audit/audit.schema.json` makes it.
"""

import json
import re
import sys
from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from confide.audit.document import STRICT
from confide.audit.document import ViewKind as ViewKind  # a part of the schema here
from confide.audit.epsilon_bounds import Claim, EpsilonBound
from confide.audit.statistics import SIGNIFICANCE

SCHEMA_VERSION: Literal[1] = 1

Verdict = Literal["leak", "unexplained", "too few records", "no evidence"]
Family = Literal["membership", "extraction", "exposure", "updates"]
OutcomeKind = Literal["flag", "share", "number", "rank"]
Number = int | float
Setting = str | bool | int | float | list[str] | list[int] | list[float]

GAINS = ("gain", "gain_max")
"""Metrics of how much more an attack with two models brings out than the same with one: a mean, and of best rounds."""

_NOT_SEALED = ("plain", "unknown")
_NUMBERS = re.compile(r"\[\n\s+([^\[\]{}\"]+?)\n\s*\]")


class _Document(BaseModel):
    model_config = STRICT


class Estimate(_Document):
    """A number with its 95 % confidence interval and the number of records behind it (0: so by construction)."""

    value: float
    low: float
    high: float
    num: Annotated[int, Field(ge=0)]


class Asked(_Document):
    """The records behind some measures, so that two audits can find the ones that both asked about.

    Attributes:
        members: a key for each record that was trained on. Keys are the same in every audit of the same data, and say
            nothing about a record to who does not have all of them.
        others: the same of those that were not.
    """

    members: list[int]
    others: list[int]


class Ranks(_Document):
    """Among how many values planted secrets stand, each with its own: exposure goes up to log2 of that and no further.

    Attributes:
        fewest: of the secret with the fewest.
        most: of the one with the most.
    """

    fewest: Annotated[int, Field(ge=1)]
    most: Annotated[int, Field(ge=1)]


class Outcomes(_Document):
    """What happened to each record behind a measure: what a comparison of runs, record by record, needs.

    Attributes:
        asked: which records: a name in `AuditResults.asked`.
        kind: how the measure comes from them. "flag": the share of members with a 1; "share": their mean, of values in
            [0, 1]; "number": their mean; "rank": the AUC of these ranks, of members and others together.
        members: one value per member, rounded to four digits that count, in the order of the keys.
        others: the same of the others.
        base: the members' values under the base model with the same prompts; None where there are none.
        ranks: of exposure; None for all else, and in results of earlier versions.
    """

    asked: str
    kind: OutcomeKind
    members: list[Number]
    others: list[Number]
    base: list[Number] | None = None
    ranks: Ranks | None = None


class Measure(_Document):
    """One number that one attack reached from one party's view, beside its controls.

    Attributes:
        view: of which kind of party.
        family: what kind of attack.
        attack: its name, as in `audit.attacks`; "best" for the one chosen on the other half of the records.
        code: its name in the literature's list, such as "M7".
        population: what it was asked about: "records", "personal", "random", "reserved", "ladder", ...
        metric: "auc", "tpr@0.01", "exact", "near", "rouge_l", "exposure", ...
        members: the number over what was trained on.
        controls: the same over what was not, and by other means, by name: "held_out", "base" (the base model on the
            members), "blind" (without any model).
        excess: what is left of `members` after the control that explains most of it, paired where the records are the
            same; None where there is no difference to take.
        p_value: of no effect, before correction; None where no test applies.
        p_adjusted: after Holm's correction over the attacks with this view, family, population and metric. Of "best",
            which was chosen on other records, it is the p-value itself.
        verdict: "leak" only if the excess's interval lies above zero and the corrected p-value below 0.05;
            "unexplained" where they do, and something else than training cannot be ruled out, however many the records;
            "no evidence" only if so many records and attacks would have shown an effect worth finding.
        note: what a reader must know, e.g. how many records would be needed.
        caveat: the part of the note that says why a number above its controls, or too small a sample, decides nothing.
        is_hypothetical: whether no party of this run sees what was attacked: in a sealed run, single updates. Shown as
            what it would be if the run were not sealed, and counted among no findings.
        outcomes: of each record; None where the number does not come from single records, and in audits that kept none.
    """

    view: ViewKind
    family: Family
    attack: str
    code: str
    population: str
    metric: str
    members: Estimate
    controls: dict[str, Estimate] = {}
    excess: Estimate | None = None
    p_value: float | None = None
    p_adjusted: float | None = None
    verdict: Verdict
    note: str = ""
    caveat: str = ""
    is_hypothetical: bool = False
    outcomes: Outcomes | None = None

    @property
    def key(self) -> str:
        """Its name for gates: view.family.attack.population.metric."""
        return ".".join((self.view, self.family, self.attack, self.population, self.metric))


class Unmeasured(_Document):
    """What an audit was asked for and had too few records to measure: a gate must not pass on it.

    Attributes:
        attack: which one; "" for all of the family.
        metrics: which numbers are missing; none named means all.
        reason: a sentence with how many records there were.
    """

    view: ViewKind
    family: Family
    population: str
    attack: str = ""
    metrics: list[str] = []
    reason: str


class Point(_Document):
    """One point of a curve, with its interval, and how many records or texts stand behind it where that is known."""

    x: float
    y: float
    low: float
    high: float
    num: Annotated[int, Field(ge=0)] | None = None


class Curve(_Document):
    """A line in a figure.

    Attributes:
        name: "roc" (x false-positive rate, y true-positive rate), "rounds" (x round), "samples" (x number of samples),
            "copies" (x how often a canary was in the data).
        series: what the line is: "members", "held_out", "base", "blind".
    """

    view: ViewKind
    family: Family
    attack: str
    population: str
    metric: str
    name: Literal["roc", "rounds", "samples", "copies"]
    series: str
    points: list[Point]


class Memorised(_Document):
    """One record that an attack got out.

    Attributes:
        candidate_id: the record's.
        sha256: digest of the text that came out, under a key that results do not hold (HMAC): a secret of a known form
            could be found by trying.
        num_characters: its length.
        distance: normalised edit distance to what was trained on, in [0, 1]; 0 is verbatim.
        text: what came out, and the truth; both None unless the owner of the data asked for them.
    """

    view: ViewKind
    attack: str
    population: str
    candidate_id: str
    owner: str
    sha256: str
    num_characters: int
    distance: float
    text: str | None = None
    truth: str | None = None


class RunFacts(_Document):
    """What was audited.

    Attributes:
        protection: a sentence each on who can read what in this run.
        guarantee: the formal guarantee, or "none".
        claim: the same in numbers; None without one, and in results of earlier versions. With both units that of a row.
        client_claim: with both units that of a client; else None.
        utility: measures of usefulness by name, e.g. "held-out loss", with the base model's beside it ("base ...").
        utility_change: by how much the loss of a record that nobody trained on changed from the base model's, in nats
            per learnt token, as a mean over such records. None where there are fewer than two, or an earlier version
            wrote the results.
        num_clients: None where nobody knows, as of adapters alone.
        scheme: of sealing; None where nobody knows.
        command: that trained it; "" where nobody knows.
    """

    name: str
    base_model: str
    num_rounds: int
    num_clients: int | None = None
    scheme: str | None = None
    protection: list[str] = []
    guarantee: str = "none"
    claim: Claim | None = None
    client_claim: Claim | None = None
    utility: dict[str, float] = {}
    utility_change: Estimate | None = None
    seed: int | None = None
    num_parameters: int
    command: str = ""


class AuditResults(_Document):
    """Everything one audit found.

    Attributes:
        command: that makes it again, whatever command made it.
        settings: of attacks and views, as used, and the constants that decide results.
        counts: sample sizes: members and others by population, near-duplicates removed, ...
        warnings: what weakens the audit, in sentences: passive only, few records, ...
        doubts: which of the warnings say that its numbers mean nothing, because what the audit was told about the model
            or the records is contradicted: no gate passes on them.
        asked: the records that measures' outcomes are about, by the lists' digests.
        unmeasured: what there were too few records to measure at all.
        epsilons: lower bounds on epsilon; none in results of earlier versions.
        epsilon_gaps: why there is no bound where one might look for it, in sentences.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    run: RunFacts
    command: str
    created: str
    versions: dict[str, str]
    machine: dict[str, str]
    seconds: float
    settings: dict[str, Setting]
    counts: dict[str, int]
    warnings: list[str]
    doubts: list[str] = []
    measures: list[Measure]
    curves: list[Curve]
    memorised: list[Memorised]
    asked: dict[str, Asked] = {}
    unmeasured: list[Unmeasured] = []
    epsilons: list[EpsilonBound] = []
    epsilon_gaps: list[str] = []

    @model_validator(mode="before")
    @classmethod
    def _mark_what_ifs(cls, given: object) -> object:
        """Results from before measures said so themselves: nobody of a sealed run is a server that reads updates."""
        match given:
            case {"run": {"scheme": str(scheme)} as run, "measures": list(measures), **rest} if (
                scheme not in _NOT_SEALED
            ):
                marked = [
                    {"is_hypothetical": one.get("view") == "server", **one} if isinstance(one, dict) else one
                    for one in measures
                ]
                return {"run": run, "measures": marked, **rest}
        return given

    @model_validator(mode="before")
    @classmethod
    def _mark_unexplained(cls, given: object) -> object:
        """Results from before there was this verdict: a number beyond its controls that was not to be called a leak."""
        match given:
            case {"measures": list(measures), **rest}:
                marked = [
                    {**one, "verdict": "unexplained"} if isinstance(one, dict) and _was_barred(one) else one
                    for one in measures
                ]
                return {"measures": marked, **rest}
        return given

    @model_validator(mode="before")
    @classmethod
    def _mark_gains(cls, given: object) -> object:
        """Results from when a gain could be called a leak, and the base model's, 0 by construction, seemed measured."""
        match given:
            case {"measures": list(measures), **rest}:
                return {"measures": [_gain_of_today(one) for one in measures], **rest}
        return given

    @model_validator(mode="after")
    def _check_outcomes(self) -> "AuditResults":
        for measure in self.measures:
            found = measure.outcomes
            if found is None:
                continue
            if found.asked not in self.asked:
                raise ValueError(f"{measure.key}: its outcomes are about records that are not listed")
            asked = self.asked[found.asked]
            sizes = (len(found.members), len(found.others), len(found.members if found.base is None else found.base))
            if sizes != (len(asked.members), len(asked.others), len(asked.members)):
                raise ValueError(f"{measure.key}: as many outcomes as records were expected")
        return self

    def to_json(self) -> str:
        """The same as JSON text, a line for each list of numbers."""
        return _NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", self.model_dump_json(indent=1)) + "\n"


def _was_barred(measure: dict[str, object]) -> bool:
    """Whether an earlier version would have called a measure a leak if coins had decided."""
    match measure:
        case {"verdict": "no evidence", "excess": {"low": int() | float() as low}, "p_adjusted": int() | float() as p}:
            return low > 0 and p < SIGNIFICANCE
    return False


def _gain_of_today(measure: object) -> object:
    """A measure as it is, but a gain as it would be judged today."""
    match measure:
        case {"metric": str(metric), "verdict": verdict, "controls": {"base": dict(base), **controls}, **rest} if (
            metric in GAINS
        ):
            return {
                **rest,
                "metric": metric,
                "verdict": "unexplained" if verdict == "leak" else verdict,
                "controls": {**controls, "base": {**base, "num": 0}},
            }
    return measure


def written_version(text: str) -> object:
    """The version of the schema that results say they are of; None for what is no JSON object or does not say."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found.get("schema_version") if isinstance(found, dict) else None


def schema_text() -> str:
    """The JSON Schema of results, as text of JSON."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **AuditResults.model_json_schema()}
    return json.dumps(schema, indent=1) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
