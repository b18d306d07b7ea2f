"""A member's own policy: the least it accepts of a run, whatever a server offers.

A server decides what is trained and under which protection, and code on the member's side carries it out. The policy
file is the member's word in this: what lies outside is refused, named, and told to the server.
"""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from confide.config.keys import model_keys, toml_value
from confide.config.schema import Config
from confide.config.sections import Section
from confide.deploy.documents import check_tables, read_tables, sections_of
from confide.deploy.policy_sections import ModelPolicy, PrivacyPolicy, RunPolicy, SealingPolicy
from confide.errors import DeployFolderError, PolicyError

_WIDTH = 100


class Policy(Section):
    """What a member accepts; see the sections for each key."""

    sealing: SealingPolicy = SealingPolicy()
    privacy: PrivacyPolicy = PrivacyPolicy()
    run: RunPolicy = RunPolicy()
    model: ModelPolicy = ModelPolicy()

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads a policy file; a key that is left out has its default.

        Raises:
            DeployFolderError: the file is missing or no TOML, or keys are unknown or have wrong values; it names all.
        """
        values = read_tables(path, error=DeployFolderError)
        return check_tables(values, cls, where=str(path), error=DeployFolderError)

    def value(self, key: str) -> object:
        """Gives the value of "section.key"."""
        section, name = key.split(".")
        return getattr(getattr(self, section), name)

    def check(
        self, config: Config, *, num_members: int, base_digest: str | None, where: str = "this member's policy.toml"
    ) -> None:
        """Checks that a run asks for nothing that this policy does not accept.

        Args:
            config: as offered.
            num_members: of the roster.
            base_digest: of the base model's weights, in hexadecimal; None before they are loaded: model.digests is
                then not looked at, and has to be once they are.
            where: the name of the policy's file in messages.

        Raises:
            PolicyError: it does; every key that lies outside is named, with what was offered and what is accepted.
        """
        offer = Offer(config=config, num_members=num_members, base_digest=base_digest)
        lines = [
            f"{limit.about} is {limit.shown(offer)}; {where} accepts {limit.key} = {toml_value(self.value(limit.key))}"
            for limit in LIMITS
            if limit.is_outside(self, offer)
        ]
        if lines:
            raise PolicyError("\n".join([f"the offered run lies outside {where}:", *lines, _WHO_DECIDES]))

    def check_phase(self, phase: str, *, where: str = "this member's policy.toml") -> None:
        """Checks that requests of a phase are answered.

        Raises:
            PolicyError: they are not.
        """
        if phase not in self.run.phases:
            raise PolicyError(
                f"the request {phase!r} is refused: {where} accepts run.phases = {toml_value(self.run.phases)}. "
                + _WHO_DECIDES
            )

    def check_new_run(self, num_accepted: int, *, where: str = "this member's policy.toml") -> None:
        """Checks that one run more may be accepted.

        Args:
            num_accepted: how many runs this member ever accepted before.
            where: the name of the policy's file in messages.

        Raises:
            PolicyError: it may not.
        """
        if num_accepted >= self.run.most_runs:
            raise PolicyError(
                f"the offered run is one too many: this member has accepted {num_accepted} before; {where} accepts "
                f"run.most_runs = {self.run.most_runs}. The epsilons of several runs on the same rows add up, so "
                "run.most_runs times privacy.largest_epsilon is what all may cost together. Runs that were accepted "
                f"before can go on. {_WHO_DECIDES}"
            )

    @property
    def cautions(self) -> tuple[str, ...]:
        """What this policy lets happen that a member should know, as sentences."""
        return tuple(sentence for applies, sentence in _CAUTIONS if applies(self))


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What a policy is held against.

    Attributes:
        config: as offered.
        num_members: of the roster.
        base_digest: of the base model's weights, in hexadecimal; None before they are loaded.
    """

    config: Config
    num_members: int
    base_digest: str | None

    @property
    def threshold(self) -> int:
        """Members that open a sum together: as offered, or what `confide.build.opening_threshold` takes then."""
        privacy = self.config.privacy
        coalition = privacy.coalition if privacy.hides_clients else 0
        return self.config.seal.threshold or (self.num_members + coalition) // 2 + 1

    @property
    def targets(self) -> tuple[float, ...]:
        """The epsilons that the run is held to, of each unit it has; 0 where noise is given instead."""
        privacy = self.config.privacy
        rows_or_clients = (privacy.target_epsilon,) if privacy.unit != "none" else ()
        return (*rows_or_clients, privacy.client_target_epsilon) if privacy.unit == "both" else rows_or_clients

    @property
    def has_guarantee(self) -> bool:
        """Whether the run is under differential privacy at all."""
        return self.config.privacy.unit != "none"


@dataclass(frozen=True, kw_only=True)
class Limit:
    """One key of a policy and how it is held against an offer.

    Attributes:
        key: of the policy, as "section.key".
        about: the key of the configuration that it limits, or what else.
        shown: what was offered, in words.
        is_outside: True for an offer that the policy does not accept.
    """

    key: str
    about: str
    shown: Callable[[Offer], str]
    is_outside: Callable[[Policy, Offer], bool]


def _value_of(key: str) -> Callable[[Offer], str]:
    return lambda offer: toml_value(offer.config.value(key))


def _at_most(key: str, about: str) -> Limit:
    """The limit that a number of the configuration is no larger than the policy's."""
    section, name = about.split(".")
    return Limit(
        key=key,
        about=about,
        shown=_value_of(about),
        is_outside=lambda policy, offer: _number(offer.config.value(f"{section}.{name}")) > _number(policy.value(key)),
    )


def _number(value: object) -> float:
    if not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return value


def _show_targets(offer: Offer) -> str:
    if not offer.has_guarantee:
        return 'infinite (privacy.unit is "none")'
    return " and ".join(f"{target:g}" if target else "not given (noise is)" for target in offer.targets)


def _exceeds_epsilon(policy: Policy, offer: Offer) -> bool:
    largest = policy.privacy.largest_epsilon
    return largest > 0 and not (offer.has_guarantee and all(0 < target <= largest for target in offer.targets))


LIMITS: tuple[Limit, ...] = (
    Limit(
        key="sealing.schemes",
        about="seal.scheme",
        shown=_value_of("seal.scheme"),
        is_outside=lambda policy, offer: offer.config.seal.scheme not in policy.sealing.schemes,
    ),
    Limit(
        key="sealing.least_members",
        about="federation.min_clients",
        shown=_value_of("federation.min_clients"),
        is_outside=lambda policy, offer: offer.config.federation.min_clients < policy.sealing.least_members,
    ),
    Limit(
        key="sealing.least_threshold",
        about="the threshold (seal.threshold, or else more than half)",
        shown=lambda offer: f"{offer.threshold} of {offer.num_members}",
        is_outside=lambda policy, offer: offer.threshold < policy.sealing.least_threshold,
    ),
    Limit(
        key="sealing.least_threshold_share",
        about="the threshold (seal.threshold, or else more than half)",
        shown=lambda offer: f"{offer.threshold} of {offer.num_members}",
        is_outside=lambda policy, offer: offer.threshold < policy.sealing.least_threshold_share * offer.num_members,
    ),
    Limit(
        key="sealing.server_may_read",
        about="seal.release",
        shown=_value_of("seal.release"),
        is_outside=lambda policy, offer: offer.config.seal.release == "server" and not policy.sealing.server_may_read,
    ),
    Limit(
        key="privacy.units",
        about="privacy.unit",
        shown=_value_of("privacy.unit"),
        is_outside=lambda policy, offer: (
            bool(policy.privacy.units) and offer.config.privacy.unit not in policy.privacy.units
        ),
    ),
    Limit(
        key="privacy.largest_epsilon",
        about="the target of epsilon",
        shown=_show_targets,
        is_outside=_exceeds_epsilon,
    ),
    Limit(
        key="privacy.largest_delta",
        about="privacy.delta",
        shown=_value_of("privacy.delta"),
        is_outside=lambda policy, offer: (
            offer.has_guarantee and offer.config.privacy.delta > policy.privacy.largest_delta
        ),
    ),
    Limit(
        key="privacy.least_coalition",
        about="privacy.coalition",
        shown=_value_of("privacy.coalition"),
        is_outside=lambda policy, offer: (
            offer.config.privacy.hides_clients and offer.config.privacy.coalition < policy.privacy.least_coalition
        ),
    ),
    Limit(
        key="privacy.seeded_noise",
        about="privacy.randomness",
        shown=_value_of("privacy.randomness"),
        is_outside=lambda policy, offer: (
            offer.config.privacy.randomness == "seeded" and not policy.privacy.seeded_noise
        ),
    ),
    _at_most("run.most_rounds", "federation.rounds"),
    _at_most("run.most_local_steps", "train.local_steps"),
    _at_most("run.most_local_epochs", "train.local_epochs"),
    _at_most("run.most_batch_size", "train.batch_size"),
    _at_most("run.most_accumulation", "train.accumulation"),
    _at_most("run.most_tokens", "train.max_tokens"),
    _at_most("run.most_rank", "lora.rank"),
    Limit(
        key="run.full_rank",
        about="lora.full_rank",
        shown=_value_of("lora.full_rank"),
        is_outside=lambda policy, offer: offer.config.lora.full_rank and not policy.run.full_rank,
    ),
    _at_most("run.most_evaluate_examples", "evaluate.max_examples"),
    _at_most("run.most_evaluate_batch_size", "evaluate.batch_size"),
    Limit(
        key="model.bases",
        about="model.base",
        shown=_value_of("model.base"),
        is_outside=lambda policy, offer: bool(policy.model.bases) and offer.config.model.base not in policy.model.bases,
    ),
    Limit(
        key="model.digests",
        about="the digest of the base model",
        shown=lambda offer: offer.base_digest or "not yet known",
        is_outside=lambda policy, offer: (
            bool(policy.model.digests)
            and offer.base_digest is not None
            and offer.base_digest not in policy.model.digests
        ),
    ),
)
"""Every key of a policy but run.phases and run.most_runs, which are held by methods of `Policy`."""

_WHO_DECIDES = "The file is this member's own: its owner decides whether to change it, and the server cannot."

_CAUTIONS: tuple[tuple[Callable[[Policy], bool], str], ...] = (
    (
        lambda policy: not policy.model.digests,
        "Any base model is taken (model.digests is empty): the server chooses what this member trains and loads.",
    ),
    (
        lambda policy: not policy.privacy.units,
        "No differential privacy is required (privacy.units is empty): nothing bounds what the model may tell.",
    ),
    (
        lambda policy: bool(policy.privacy.units) and policy.privacy.largest_epsilon == 0,
        "Differential privacy is required, but any epsilon will do (privacy.largest_epsilon is 0.0).",
    ),
    (
        lambda policy: "plain" in policy.sealing.schemes,
        'The server may read every update of this member (sealing.schemes has "plain").',
    ),
    (
        lambda policy: policy.sealing.server_may_read,
        "The server may get the global adapter (sealing.server_may_read is true).",
    ),
    (
        lambda policy: policy.privacy.seeded_noise,
        "The server may know the noise and take it off (privacy.seeded_noise is true).",
    ),
)


def default_policy_toml() -> str:
    """Writes a policy file with every key at its default, each with a comment that says what it does."""
    parts = [_HEAD]
    for section, model in sections_of(Policy).items():
        parts.append(f"# {_one_line(model.__doc__ or '')}\n[{section}]\n")
        for key in model_keys(section, model):
            comment = _comment(f"{key.meaning} ({key.expected})")
            parts.append(f"{comment}\n{key.name} = {key.default}\n")
    return "\n".join(parts)


_HEAD = """\
# What this member accepts of a run. The file is yours: no server can change it.
# A run that asks for anything outside is refused, and the server is told which keys.
"""


def _comment(text: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_long_words=False)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def policy_keys() -> Sequence[str]:
    """Every key of a policy, as "section.key"."""
    return [key.full_name for section, model in sections_of(Policy).items() for key in model_keys(section, model)]
