import json
from collections.abc import Callable

import pytest

from confide.canaries.coins import flip_coins
from confide.canaries.plan import CoinPlan
from confide.canaries.settings import KINDS, CanarySettings
from confide.data.examples import ClientRecords
from confide.errors import RunDirectoryError

TOKENS = tuple(f"<unused{number}>" for number in range(20))
SETTINGS = CanarySettings(kinds=KINDS, records_per_client=5, canaries_per_client=3, seed=0)


@pytest.mark.parametrize("form", ["instruction", "chat", "text"])
def test_a_plan_read_back_is_the_same(
    clinics: list[ClientRecords], reform: Callable[[ClientRecords, str], ClientRecords], form: str
) -> None:
    plan = flip_coins([reform(client, form) for client in clinics], SETTINGS, reserved_tokens=TOKENS).plan
    assert CoinPlan.from_json(plan.to_json()) == plan
    assert CoinPlan.from_json(plan.to_json()).to_json() == plan.to_json()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"seed": 0, "coins": [{}]}', '{"seed": 0, "coins": null}', "\x00"])
def test_a_text_that_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(RunDirectoryError, match="the plan of coins cannot be read"):
        CoinPlan.from_json(text)


def test_neither_reprs_nor_errors_show_data(clinics: list[ClientRecords]) -> None:
    plan = flip_coins(clinics, SETTINGS, reserved_tokens=TOKENS).plan
    secrets = [coin.secret for coin in plan.coins if coin.kind == "personal" and coin.secret]
    assert not [secret for secret in secrets if secret in repr(plan)]
    broken = json.loads(plan.to_json())
    for coin in broken["coins"]:
        coin["records"] = [coin["secret"]]
    with pytest.raises(RunDirectoryError) as raised:
        CoinPlan.from_json(json.dumps(broken))
    assert not [secret for secret in secrets if secret in str(raised.value)]
    assert raised.value.__suppress_context__
