"""Both units at once: private training, whose update is clipped and noised before it is sealed.

Each guarantee holds as if the other were not there. What the noise on the update does to a record's part can only help:
it works on what is private already.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from confide.privacy.client_level import ClientPrivacy
from confide.privacy.example_level import ExamplePrivacy
from confide.privacy.plan import Counts, Unit
from confide.update import Vector


@dataclass(frozen=True, kw_only=True)
class BothPrivacy:
    """The plan of a client whose records and whose whole contribution are hidden, each with its own epsilon.

    Attributes:
        example: for its records.
        client: for all that it contributes.
    """

    example: ExamplePrivacy
    client: ClientPrivacy
    unit: Unit = "both"
    trains_privately: bool = True
    noises_updates: bool = True

    @property
    def fixed_limit(self) -> float:
        """See `PrivacyPlan.fixed_limit`."""
        return self.client.fixed_limit

    def spent(self, counts: Counts) -> Mapping[str, float]:
        """See `PrivacyPlan.spent`: "epsilon" is that of a record, "client_epsilon" that of a client."""
        return {
            "epsilon": self.example.epsilon(counts.trainings),
            "client_epsilon": self.client.epsilon(counts.uploads),
        }

    def check_budget(self, counts: Counts) -> None:
        """See `PrivacyPlan.check_budget`: neither target is passed."""
        self.example.check_budget(counts)
        self.client.check_budget(counts)

    def protect(self, values: Vector, weight_ratio: float, upload_number: int) -> Vector:
        """See `ClientPrivacy.protect`."""
        return self.client.protect(values, weight_ratio, upload_number)
