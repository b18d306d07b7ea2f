"""What every party works out alike from the configuration: how rounds go, and the server's whole side.

Needs neither torch nor a model, and holds no key: the server of a deployment runs on this alone. The rest of what
follows from a configuration stands in `confide.build`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median_low

from confide.aggregate.step import payload_layout
from confide.aggregate.travelling import travelling_slots
from confide.aggregate.weights import client_weight
from confide.config.schema import Config
from confide.errors import ConfigError
from confide.membership.memberlist import MOST_DILUTION
from confide.membership.roster import Roster
from confide.parties.bodies import BodyStore
from confide.parties.payload import num_sealed_values
from confide.parties.server import PayloadShape, Server
from confide.prune.plan import Pruning
from confide.prune.schedules import ConstantSparsity, RampSparsity, SparsitySchedule, scaled_ramp
from confide.round_record import Inspector, RoundNotes
from confide.seal.adder import ModularAdder
from confide.seal.plain import PlainServer
from confide.seal.profiles import get_profile
from confide.seal.scheme import ServerSealing
from confide.seeds import stream
from confide.train.schedule import round_learning_rate
from confide.update import Layout


@dataclass(frozen=True, kw_only=True)
class Agreed:
    """What all parties know of a run's rounds.

    Attributes:
        trained: the slots that train and travel in a round, by round number.
        learning_rate: of a round, by round number.
        weight: of a client in the mean, by its number of training examples.
        pruning: which coordinates of an update travel.
        with_control: whether payloads carry control variates (SCAFFOLD).
        has_peaks: whether largest values travel, for the next round's range.
    """

    trained: Callable[[int], Layout]
    learning_rate: Callable[[int], float]
    weight: Callable[[int], float]
    pruning: Pruning
    with_control: bool
    has_peaks: bool

    def shape(self, round_number: int) -> PayloadShape:
        """What a client seals in a round."""
        trained = self.trained(round_number)
        return PayloadShape(
            layout_digest=payload_layout(trained, with_control=self.with_control).digest,
            num_values=num_sealed_values(
                self.pruning.num_kept(trained.num_values, round_number),
                trained.num_values if self.with_control else 0,
                has_peaks=self.has_peaks,
            ),
        )


def agree(config: Config, layout: Layout) -> Agreed:
    """Works out what all parties know of a run's rounds.

    Args:
        config: of the run.
        layout: of the whole adapter.
    """
    federation, train = config.federation, config.train

    def trained(round_number: int) -> Layout:
        return travelling_slots(layout, config.lora.average, round_number)

    def learning_rate(round_number: int) -> float:
        return round_learning_rate(
            train.schedule,
            learning_rate=train.learning_rate,
            min_learning_rate=train.min_learning_rate,
            round_number=round_number,
            num_rounds=federation.rounds,
        )

    def weight(num_examples: int) -> float:
        return client_weight(federation.weights, num_examples=num_examples, max_weight=federation.max_weight)

    return Agreed(
        trained=trained,
        learning_rate=learning_rate,
        weight=weight,
        pruning=build_pruning(config),
        with_control=federation.server_optimizer == "scaffold",
        # Without a fixed-point range there is none to follow; under noise on the update it never changes.
        has_peaks=config.seal.scheme in ("onetime", "shared") and not config.privacy.hides_clients,
    )


def build_server(
    config: Config,
    agreed: Agreed,
    layout: Layout,
    roster: Roster,
    *,
    run: str,
    sealing: ServerSealing,
    bodies: BodyStore | None = None,
) -> Server:
    """Makes the server.

    Args:
        config: of the run.
        agreed: what follows from it.
        layout: of the whole adapter.
        roster: everybody in the federation.
        run: the run's id.
        sealing: the server's half of the scheme.
        bodies: see `Server`.

    Raises:
        ConfigError: no threshold fits so many clients.
    """
    return Server(
        run=run,
        roster=roster,
        clients_per_round=config.federation.clients_per_round,
        min_clients=config.federation.min_clients,
        threshold=opening_threshold(config, len(roster.names)),
        seed=config.run.seed,
        layout=layout,
        shape=agreed.shape,
        weight=agreed.weight,
        sealing=sealing,
        is_private=config.privacy.unit != "none",
        bodies=bodies,
    )


def build_notes(
    config: Config, agreed: Agreed, *, guarantee: str, warnings: tuple[str, ...] = (), inspect: Inspector | None = None
) -> RoundNotes:
    """Makes what records say that the server does not find out itself; see `RoundNotes`.

    Args:
        config: of the run.
        agreed: what follows from it.
        guarantee: of privacy, in words.
        warnings: see `RoundNotes`.
        inspect: see `RoundNotes`.
    """
    schedule, is_pruned = agreed.pruning.schedule, config.prune.mask != "none"
    scheme = config.seal.scheme
    return RoundNotes(
        learning_rate=agreed.learning_rate,
        sealing=scheme if scheme in ("plain", "published") else f"{scheme}/{config.seal.profile}",
        is_sealed=scheme != "plain",
        server_reads=config.seal.release == "server",
        sparsity=lambda number: schedule.sparsity(number) if is_pruned else 0.0,
        privacy=guarantee,
        seeded_noise=config.privacy.seeded_noise,
        warnings=warnings,
        inspect=inspect,
    )


def build_server_sealing(config: Config) -> ServerSealing:
    """The server's half of a scheme that works across organisations.

    Raises:
        ConfigError: the scheme's clients share one key, which only one process can give them.
    """
    schemes: Mapping[str, Callable[[], ServerSealing]] = {
        "plain": PlainServer,
        "onetime": lambda: ModularAdder(get_profile("onetime", config.seal.profile)),
    }
    if config.seal.scheme not in schemes:
        raise ConfigError(
            f'seal.scheme is "{config.seal.scheme}", whose clients share one key: it is for comparisons in one '
            'process. Set seal.scheme to "onetime".'
        )
    return schemes[config.seal.scheme]()


def opening_threshold(config: Config, num_clients: int) -> int:
    """How many clients open a sum together, and sign for an adapter that one of them takes over.

    With noise on the update it is so many that a coalition that the noise is sized for cannot have two lists of one
    round opened: the difference of their sums could be one client's update, under its own share of the noise alone.

    Raises:
        ConfigError: it is not more than half of the clients, is too few against that coalition, or is more than there
            are.
    """
    coalition = config.privacy.coalition if config.privacy.hides_clients else 0
    fewest = (num_clients + coalition) // 2 + 1  # 2 * fewest - num_clients > coalition
    threshold = config.seal.threshold or fewest
    if not fewest <= threshold <= num_clients:
        against = f" and half of a coalition of {coalition} (privacy.coalition)" if coalition else ""
        raise ConfigError(
            f"seal.threshold is {threshold}, expected more than half of the {num_clients} clients{against} and at most "
            f"all: {fewest} to {num_clients}. Leave it out to take {fewest}."
            if fewest <= num_clients
            else f"no threshold of {num_clients} clients withstands a coalition of {coalition}. Lower "
            "privacy.coalition, or have more clients."
        )
    return threshold


def most_values_sent(config: Config, layout: Layout) -> int:
    """How many coordinates of an adapter travel in the round in which most do."""
    pruning = build_pruning(config)
    return max(
        pruning.num_kept(travelling_slots(layout, config.lora.average, number).num_values, number)
        for number in range(1, config.federation.rounds + 1)
    )


def build_pruning(config: Config) -> Pruning:
    """The pruning by its mask and schedule."""
    prune = config.prune
    schedules: Mapping[str, Callable[[], SparsitySchedule]] = {
        "constant": lambda: ConstantSparsity(target=prune.sparsity),
        "ramp": lambda: RampSparsity(
            start_round=prune.ramp_start,
            end_round=prune.ramp_end,
            initial_sparsity=prune.initial_sparsity,
            target=prune.sparsity,
        ),
        "scaled-ramp": lambda: scaled_ramp(
            config.federation.rounds, initial_sparsity=prune.initial_sparsity, target=prune.sparsity
        ),
    }
    return Pruning(
        kind=prune.mask,
        schedule=schedules[prune.schedule](),
        exploration=prune.exploration,
        rng=lambda round_number: stream(config.run.seed, "mask", round_number),
    )


def seeded(config: Config) -> str:
    """A part of the guarantee's sentence: what it rests on where noise is drawn from a seed; else ""."""
    if not config.privacy.seeded_noise:
        return ""
    return "; only for who does not know the seed that the noise is drawn from (privacy.randomness)"


def check_weights(weights: Mapping[str, float]) -> None:
    """Refuses a federation in which one client outweighs the others so far that no client would sign a list with it.

    Args:
        weights: in the mean, by client.

    Raises:
        ConfigError: names the client.
    """
    heaviest = max(weights, key=lambda name: weights[name])
    median = median_low(weights.values())
    if weights[heaviest] > MOST_DILUTION * median:
        raise ConfigError(
            f"client {heaviest} weighs {weights[heaviest]:g} (its number of examples), more than {MOST_DILUTION} times "
            f"the median client's {median:g}: next to nothing of the others' updates would be left, and the sum would "
            "be nearly its own update. Set federation.max_weight to cap weights, or federation.weights to "
            '"equal".'
        )
