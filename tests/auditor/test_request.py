import pytest

from confide.auditor.request import ATTACK_KEYS, Attackers, AuditRequest, check_only_audit_keys, choose_attackers
from confide.config.keys import section_keys
from confide.config.load import parse_config
from confide.errors import ConfigError, UsageError

CLIENTS = ("south", "north", "east", "west")


@pytest.mark.parametrize(
    ("clients", "asked", "expected"),
    [
        (CLIENTS, (), Attackers(alone=("east",), together=("east", "north"))),
        (CLIENTS, ("west",), Attackers(alone=("west",), together=("east", "west"))),
        (CLIENTS, ("west", "south"), Attackers(alone=("west",), together=("south", "west"))),
        (CLIENTS, ("west", "south", "east"), Attackers(alone=("west",), together=("east", "south", "west"))),
        (("a", "b", "c"), (), Attackers(alone=("a",), together=("a", "b"))),
        (("a", "b"), (), Attackers(alone=("a",), together=())),
        (("a", "b"), ("b",), Attackers(alone=("b",), together=())),
    ],
)
def test_who_attacks(clients: tuple[str, ...], asked: tuple[str, ...], expected: Attackers) -> None:
    assert choose_attackers(clients, asked) == expected


@pytest.mark.parametrize(("num_clients", "num_asked"), [(n, k) for n in (2, 3, 4) for k in range(n)])
def test_somebody_is_always_left_to_attack(num_clients: int, num_asked: int) -> None:
    clients = CLIENTS[:num_clients]
    found = choose_attackers(clients, clients[:num_asked])
    assert len(found.alone) == 1
    assert len(found.everyone) < num_clients
    assert set(clients[:num_asked]) <= set(found.everyone)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("nobody",), "there is no client 'nobody'; the clients are: east, north, south, west"),
        (("east", "east"), "named twice"),
        (CLIENTS, "nobody left to attack"),
    ],
)
def test_attackers_that_cannot_be(asked: tuple[str, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        choose_attackers(CLIENTS, asked)
    assert caught.value.exit_code == 2


def test_every_key_of_the_audit_is_about_attacks_or_about_what_was_planted() -> None:
    keys = {key.full_name for key in section_keys("audit")}
    planted = {"audit.canaries", "audit.records_per_client", "audit.canaries_per_client", "audit.canary_clients"}
    assert keys == ATTACK_KEYS | planted | {"audit.record"}


def test_a_request_can_be_what_a_configuration_says() -> None:
    values = {"model": {"base": "tiny-llama"}, "data": {"source": "clinics"}}
    said = parse_config(values, ["audit.samples=7", "audit.protocol=true", 'audit.views=["client"]', "audit.shadows=2"])
    assert parse_config(values, AuditRequest.as_in(said).overrides).audit == said.audit


def test_a_request_is_written_as_options_of_the_command() -> None:
    request = AuditRequest(
        views=("final", "client"),
        attacks=("exposure",),
        attackers=("north",),
        settings=("audit.samples=3", "run.threads=1"),
        shadows=0,
        shows_text=True,
    )
    options = "--view final --view client --attack exposure --attacker north --shadows 0"
    assert " ".join(request.words) == f"{options} --set audit.samples=3 --set run.threads=1 --show-text"
    assert AuditRequest().words == ()


def test_what_is_asked_for_overrides_the_configuration() -> None:
    request = AuditRequest(views=("client",), attacks=("exposure", "updates"), settings=("audit.samples=3",))
    audit = parse_config({"model": {"base": "tiny-llama"}, "data": {"source": "clinics"}}, request.overrides).audit
    assert (audit.views, audit.attacks, audit.samples) == (("client",), ("exposure", "updates"), 3)
    assert AuditRequest().overrides == ()
    for shadows in (0, 4):
        asked = AuditRequest(settings=("audit.shadows=2",), shadows=shadows).overrides
        values = {"model": {"base": "tiny-llama"}, "data": {"source": "clinics"}}
        assert parse_config(values, asked).audit.shadows == shadows


@pytest.mark.parametrize("number", [-2, 1, 3])
def test_shadows_that_make_no_pairs_are_refused(number: int) -> None:
    with pytest.raises(
        ConfigError, match=rf"audit\.shadows is {number}, expected .* >= 0 and even \(they come in pair"
    ):
        parse_config(
            {"model": {"base": "tiny-llama"}, "data": {"source": "clinics"}}, AuditRequest(shadows=number).overrides
        )


@pytest.mark.parametrize(
    ("request_", "choices"),
    [
        (AuditRequest(views=("everyone",)), ("final", "client", "coalition", "server")),
        (AuditRequest(attacks=("theft",)), ("membership", "extraction", "exposure", "updates")),
    ],
)
def test_an_unknown_name_is_refused_with_the_choices(request_: AuditRequest, choices: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config({"model": {"base": "tiny-llama"}, "data": {"source": "clinics"}}, request_.overrides)
    assert all(f'"{choice}"' in str(caught.value) for choice in choices)
    assert caught.value.exit_code == 2


def test_an_audit_may_change_how_it_looks_and_nothing_of_what_was_trained() -> None:
    values = {"model": {"base": "tiny-llama"}, "data": {"source": "clinics"}}
    trained = parse_config(values)
    check_only_audit_keys(trained, parse_config(values, ["audit.samples=3", "evaluate.batch_size=2"]))
    with pytest.raises(ConfigError, match=r"cannot change what was trained: train\.max_tokens: 512 -> 64"):
        check_only_audit_keys(trained, parse_config(values, ["train.max_tokens=64"]))
    with pytest.raises(ConfigError, match=r"audit\.canaries"):
        check_only_audit_keys(trained, parse_config(values, ['audit.canaries=["records"]']))
