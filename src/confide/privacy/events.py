"""What was released, in the words that accounting needs: producers of noise write events, accountants read them.

Events hold what a mechanism did and never what a configuration asked for. Their fields are plain numbers:
`dataclasses.asdict` and keyword arguments take them to JSON and back. Nothing here needs the accounting library.
"""

import math
from dataclasses import dataclass

from confide.errors import ConfigError

_LEAST_SIGMA = 0.5  # the paper's correction for sums is proven from here on


@dataclass(frozen=True, kw_only=True)
class SampledGaussian:
    """Steps that each draw examples by Poisson sampling and release the noised sum of their bounded gradients.

    Neighbours differ in one example, whose gradient is there or is zero; the loss is that of adding or removing it at
    a fixed rate. A step that drew nobody releases noise all the same.

    Attributes:
        noise_multiplier: standard deviation of the continuous Gaussian noise over the bound on one gradient's L2 norm;
            > 0.
        sampling_rate: how likely each example, independently, is to join a step; in (0, 1]. 1 = all join.
        count: how many such steps, >= 1.

    Raises:
        ConfigError: there is no noise.
        ValueError: another field is out of its range.
    """

    noise_multiplier: float
    sampling_rate: float = 1.0
    count: int = 1

    def __post_init__(self) -> None:
        _check_noise(self.noise_multiplier, name="privacy.noise_multiplier")
        if not 0.0 < self.sampling_rate <= 1.0:
            raise ValueError(f"sampling_rate is {self.sampling_rate}, expected a number in (0, 1]")
        _check_count(self.count, name="count")


@dataclass(frozen=True, kw_only=True)
class DiscreteSum:
    """Opened sums of integer vectors, to which several parties each added independent discrete Gaussian noise.

    Neighbours differ in one party's whole vector, replaced by zero. Noise that the adversary knows, because it made it,
    is no share here.

    Attributes:
        sensitivity: bound on the L2 norm of one party's vector, in steps of the integer grid; > 0.
        sigma: parameter of each share, in steps: each value's noise is x with probability proportional to
            exp(-x**2 / (2 sigma**2)); at least 0.5.
        num_shares: how many such shares are in a sum, >= 1.
        num_values: length of a vector, >= 1.
        count: how many such sums, >= 1.

    Raises:
        ConfigError: there is no noise, or too little for what is proven.
        ValueError: another field is out of its range.
    """

    sensitivity: float
    sigma: float
    num_shares: int
    num_values: int
    count: int = 1

    def __post_init__(self) -> None:
        _check_noise(self.sigma, name="the noise of one share, in steps of the sealing's grid,")
        if self.sigma < _LEAST_SIGMA:
            raise ConfigError(
                f"the noise of one share is {self.sigma:g} steps of the sealing's grid, expected at least "
                f"{_LEAST_SIGMA}: below, what a sum of shares guarantees is not known. Set a larger "
                "privacy.noise_multiplier (a smaller privacy.target_epsilon) or a finer seal.profile."
            )
        if not 0.0 < self.sensitivity < math.inf:
            raise ValueError(f"sensitivity is {self.sensitivity}, expected a finite number > 0")
        _check_count(self.num_shares, name="num_shares")
        _check_count(self.num_values, name="num_values")
        _check_count(self.count, name="count")

    @property
    def rho(self) -> float:
        """Each sum is rho-zCDP: its Renyi divergence between neighbours is at most rho times the order.

        A sum of discrete Gaussians is no discrete Gaussian. What that costs, `tau` for each value, vanishes with the
        square of sigma: it is about 10 exp(-(pi sigma)**2), 5e-4 at sigma = 1 and 3e-38 at 3.

        Source: Kairouz, Liu and Steinke 2021, "The Distributed Discrete Gaussian Mechanism for Federated Learning with
            Secure Aggregation", privacy theorem and the proposition on sums: epsilon**2 / 2-zCDP with the smaller of
            epsilon = sqrt(ratio**2 + 2 tau d) and epsilon = ratio + tau sqrt(d), where ratio is the sensitivity over
            the standard deviation sqrt(num_shares) sigma and d is num_values. One share needs no correction
            (Canonne, Kamath and Steinke 2020, "The Discrete Gaussian for Differential Privacy", theorem 4).
        """
        ratio = self.sensitivity / (math.sqrt(self.num_shares) * self.sigma)
        tau = 10.0 * math.fsum(
            math.exp(-2.0 * (math.pi * self.sigma) ** 2 * k / (k + 1)) for k in range(1, self.num_shares)
        )
        return min(ratio**2 + 2.0 * tau * self.num_values, (ratio + tau * math.sqrt(self.num_values)) ** 2) / 2.0


Event = SampledGaussian | DiscreteSum


def _check_noise(noise: float, *, name: str) -> None:
    if not 0.0 < noise < math.inf:
        raise ConfigError(
            f"{name} is {noise:g}, expected a finite number > 0: without noise there is no finite epsilon. "
            'Set privacy.unit to "none" to train without differential privacy.'
        )


def _check_count(count: int, *, name: str) -> None:
    if count < 1:
        raise ValueError(f"{name} is {count}, expected at least 1")
