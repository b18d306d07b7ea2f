"""The membership attacks by name: what each is, where it comes from, what it needs.

Which attacks there are is read here and nowhere else. Attacks on whole clients stand apart, in `user`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from confide.attacks.membership.ez import ez_scores
from confide.attacks.membership.lira import offline_lira_scores, online_lira_scores
from confide.attacks.membership.loss import loss_scores, lowercase_scores, zlib_scores
from confide.attacks.membership.min_k import min_k_plus_plus_scores, min_k_scores
from confide.attacks.membership.positions import Positions, Scores
from confide.attacks.membership.reference import difference_scores, ratio_scores
from confide.attacks.membership.rmia import rmia_scores
from confide.attacks.membership.seen import Need, Seen
from confide.attacks.membership.trajectory import largest_gain_scores, standardised_gain_scores, summed_gain_scores
from confide.attacks.membership.wbc import wbc_scores
from confide.errors import RunError


@dataclass(frozen=True, kw_only=True)
class MembershipAttack:
    """An attack that gives each candidate a score: the higher, the more likely it was trained on.

    Laws:
        - One finite float64 per candidate, in the candidates' order. Permuting candidates permutes scores: none depends
          on a record's place or on another record. (LiRA pools a spread over all candidates, whatever their order.)
        - A record whose tokens become clearly likelier under the final model rises. (LiRA online, a ratio of two
          likelihoods, may fall again where a record lies above what shadows with and without it give.)
        - Without training there is nothing to see. If the final model and those of all rounds are the base model, an
          attack that needs "base" or "rounds" gives every record the same score. The others rank by what the base model
          makes of the texts, which is independent of fair coins.

    Attributes:
        name: in configuration, results and gates.
        code: its name in this project's list of attacks, such as "M7".
        title: for a report.
        source: paper.
        needs: what must be `available` beside the final model.
    """

    name: str
    code: str
    title: str
    source: str
    needs: frozenset[Need] = frozenset()
    function: Callable[[Seen, Positions], Scores] = field(repr=False)

    def missing(self, seen: Seen) -> frozenset[Need]:
        """Gives what this attack needs and `seen` does not have; empty where it can run."""
        return self.needs - seen.available

    def scores(self, seen: Seen, positions: Positions = "targets") -> Scores:
        """Scores every candidate.

        Args:
            seen: the candidates under all models.
            positions: "targets" for the tokens that training takes its loss on, "all" for the prompt's too.

        Returns:
            Shape (num_candidates,), float64, finite, higher = member.

        Raises:
            ValueError: something that the attack needs is missing.
            DataError: a record has no position to read.
            RunError: a score is NaN or infinite. It is never replaced: in a ranking any stand-in would be an opinion.
        """
        if missing := self.missing(seen):
            raise ValueError(f"the attack {self.name!r} needs {', '.join(sorted(missing))}")
        scores = self.function(seen, positions)
        if not np.isfinite(scores).all():
            place = int(np.flatnonzero(~np.isfinite(scores))[0])
            raise RunError(f"the attack {self.name!r} scored record {place} of {scores.size} with {scores[place]}")
        return scores


_ATTACKS = (
    MembershipAttack(
        name="loss",
        code="M1",
        title="Loss",
        source="Yeom et al. 2018",
        function=loss_scores,
    ),
    MembershipAttack(
        name="zlib",
        code="M1",
        title="Loss per compressed byte",
        source="Carlini et al. 2021",
        function=zlib_scores,
    ),
    MembershipAttack(
        name="lowercase",
        code="M1",
        title="Loss against the lower-cased text",
        source="Carlini et al. 2021",
        needs=frozenset({"lower"}),
        function=lowercase_scores,
    ),
    MembershipAttack(
        name="min_k",
        code="M2",
        title="Min-K%: the least likely tokens",
        source="Shi et al. 2024",
        function=min_k_scores,
    ),
    MembershipAttack(
        name="min_k_plus_plus",
        code="M2",
        title="Min-K%++: the least likely tokens, standardised",
        source="Zhang et al. 2025",
        function=min_k_plus_plus_scores,
    ),
    MembershipAttack(
        name="reference",
        code="M6",
        title="Loss against the base model's, difference",
        source="Wang et al. 2024 (Pandora's White-Box)",
        needs=frozenset({"base"}),
        function=difference_scores,
    ),
    MembershipAttack(
        name="reference_ratio",
        code="M6",
        title="Loss against the base model's, ratio",
        source="Wang et al. 2024 (Pandora's White-Box)",
        needs=frozenset({"base"}),
        function=ratio_scores,
    ),
    MembershipAttack(
        name="ez",
        code="M7",
        title="EZ: gains where the model still errs",
        source="EZ-MIA 2026 (arXiv 2601.12104), mended",
        needs=frozenset({"base"}),
        function=ez_scores,
    ),
    MembershipAttack(
        name="wbc",
        code="M8",
        title="WBC: windows that vote",
        source="WBC 2026 (arXiv 2601.02751)",
        needs=frozenset({"base"}),
        function=wbc_scores,
    ),
    MembershipAttack(
        name="lira_online",
        code="M11",
        title="LiRA with shadow models, online",
        source="Carlini et al. 2022",
        needs=frozenset({"shadows", "shadows-in", "shadows-spread"}),
        function=online_lira_scores,
    ),
    MembershipAttack(
        name="lira_offline",
        code="M11",
        title="LiRA with shadow models, offline",
        source="Carlini et al. 2022",
        needs=frozenset({"shadows", "shadows-spread"}),
        function=offline_lira_scores,
    ),
    MembershipAttack(
        name="rmia",
        code="M12",
        title="RMIA with shadow models as references",
        source="Zarifzadeh et al. 2024",
        needs=frozenset({"population", "shadows"}),
        function=rmia_scores,
    ),
    MembershipAttack(
        name="largest_gain",
        code="M14",
        title="Trajectory: the largest gain of a round",
        source="after arXiv 2602.16596",
        needs=frozenset({"rounds"}),
        function=largest_gain_scores,
    ),
    MembershipAttack(
        name="summed_gain",
        code="M14",
        title="Trajectory: all gains of rounds",
        source="after arXiv 2602.16596",
        needs=frozenset({"rounds"}),
        function=summed_gain_scores,
    ),
    MembershipAttack(
        name="standardised_gain",
        code="M14",
        title="Trajectory: gains against the population's",
        source="after arXiv 2602.16596",
        needs=frozenset({"rounds", "population"}),
        function=standardised_gain_scores,
    ),
)

MEMBERSHIP_ATTACKS: Mapping[str, MembershipAttack] = {attack.name: attack for attack in _ATTACKS}
"""Every attack on records by its name, the cheap ones first."""
