import pytest

from confide.audit.epsilon_bounds import Claim, EpsilonBound, EpsilonMethod
from confide.audit.epsilon_gate import EpsilonCondition, parse_epsilon_condition
from confide.audit.gate import Condition, check_asked, failed_conditions, parse_gate, passed_conditions
from confide.audit.results import AuditResults, ViewKind
from confide.errors import ConfigError
from tests.report.audits import audit, epsilon_bound


def with_bounds(*bounds: EpsilonBound, claim: Claim | None = None) -> AuditResults:
    results = audit()
    run = results.run.model_copy(update={"claim": claim})
    return results.model_copy(update={"epsilons": list(bounds), "run": run, "epsilon_gaps": ["ladder: many copies."]})


def failures(results: AuditResults, text: str) -> list[str]:
    return failed_conditions(results, [parse_gate(text)])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("client.epsilon > claimed", ("client", None, "", ">", None)),
        ("final.epsilon.one-run >= 2.5", ("final", "one-run", "", ">=", 2.5)),
        (" coalition.epsilon.f-dp.records>1e-1 ", ("coalition", "f-dp", "records", ">", 0.1)),
        (
            "sealed-server.epsilon.canary-clients-final.sums > 0",
            ("sealed-server", "canary-clients-final", "sums", ">", 0),
        ),
    ],
)
def test_a_condition_reads_as_it_is_written(text: str, expected: tuple[object, ...]) -> None:
    found = parse_gate(text)
    assert isinstance(found, EpsilonCondition)
    assert (found.view, found.method, found.population, found.comparison, found.bound) == expected


def test_other_conditions_are_about_measures() -> None:
    assert isinstance(parse_gate("client.extraction.exact > 0.01"), Condition)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("client.epsilon", "is not VIEW.epsilon"),
        ("client.epsilon = 3", "is not VIEW.epsilon"),
        ("client.epsilon < 3", "a small one says nothing"),
        ("client.epsilon <= claimed", "a small one says nothing"),
        ("nobody.epsilon > 3", "has the view 'nobody', expected final, client"),
        ("client.epsilon.magic > 3", "has the method 'magic', expected clopper-pearson, gaussian"),
        ("client.epsilon. > 3", "has the method ''"),
        ("client.epsilon.f-dp. > 3", "has the method 'f-dp'"),
        ("client.epsilon.f-dp:low > 3", "names a part"),
        ("client.epsilon > much", "needs a finite number of at least 0, or claimed"),
        ("client.epsilon > inf", "needs a finite number"),
        ("client.epsilon > -1", "needs a finite number of at least 0"),
    ],
)
def test_what_is_no_condition_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_gate(text)


def test_a_bound_beyond_the_number_fails_and_one_within_it_passes() -> None:
    results = with_bounds(epsilon_bound(low=3.0, ceiling=9.0, claimed=2.0))
    assert failures(results, "client.epsilon.f-dp.records > 2.9") == [
        "client.epsilon.f-dp.records > 2.9: client.epsilon.f-dp.records has the lower bound 3, against 2.9"
    ]
    assert failures(results, "client.epsilon > claimed") != []
    assert failures(results, "client.epsilon.f-dp > 3") == []
    assert failures(results, "client.epsilon.f-dp >= 3") != []
    assert failures(results, "client.epsilon > 8.9") == []


def test_a_pass_says_the_bound_what_it_is_held_to_and_how_far_it_could_have_gone() -> None:
    def passed(*bounds: EpsilonBound, text: str) -> list[str]:
        return passed_conditions(with_bounds(*bounds), [parse_gate(text), parse_gate("client.extraction.exact > 0.9")])

    bound = epsilon_bound(low=0.5, ceiling=5.25, claimed=4.0, num=1200)
    name = "client.epsilon.f-dp.records"
    assert passed(bound, text="client.epsilon > claimed") == [
        f"client.epsilon > claimed: {name} has the lower bound 0.5, against the claimed 4; "
        "with 1,200 canaries this method shows at most 5.25"
    ]
    assert passed(bound, text=f"{name} > 2") == [
        f"{name} > 2: {name} has the lower bound 0.5, against 2; with 1,200 canaries this method shows at most 5.25"
    ]
    free = epsilon_bound(low=0.5, ceiling=None, population="reserved")
    (said,) = passed(bound, free, epsilon_bound(low=0.25, method="one-run"), text="client.epsilon > claimed")
    assert "client.epsilon.f-dp.reserved has the lower bound 0.5, the largest of 3, against the claimed 4" in said
    assert said.endswith("this method has no ceiling")
    seeded = Claim(unit="example", epsilon=4.0, delta=1e-5, seeded_noise=True)
    (said,) = passed_conditions(with_bounds(epsilon_bound(), claim=seeded), [parse_gate("client.epsilon > claimed")])
    assert "against the claimed 4 (seeded noise); " in said


def test_what_did_not_pass_is_not_said_to_have() -> None:
    beyond, short = epsilon_bound(low=4.5), epsilon_bound(low=0.0, ceiling=3.0)
    for bounds in ((beyond,), (short,), (epsilon_bound(claimed=None),), (), (epsilon_bound(), beyond)):
        results = with_bounds(*bounds)
        gate = [parse_gate("client.epsilon > claimed")]
        assert failed_conditions(results, gate) != []
        assert passed_conditions(results, gate) == []
    doubted = with_bounds(epsilon_bound()).model_copy(update={"doubts": ["The list is wrong."]})
    assert passed_conditions(doubted, [parse_gate("client.epsilon > claimed")]) == []


@pytest.mark.parametrize("view", ["client", "final"])
@pytest.mark.parametrize("method", ["f-dp", "one-run"])
@pytest.mark.parametrize("population", ["records", "reserved"])
def test_a_name_covers_what_it_names_and_leaves_open_what_it_leaves_out(
    view: ViewKind, method: EpsilonMethod, population: str
) -> None:
    bound = epsilon_bound(view=view, method=method, population=population)
    assert parse_epsilon_condition(f"{view}.epsilon > 1").covers(bound)
    assert parse_epsilon_condition(f"{view}.epsilon.{method} > 1").covers(bound)
    assert parse_epsilon_condition(f"{view}.epsilon.{method}.{population} > 1").covers(bound)
    assert not parse_epsilon_condition("coalition.epsilon > 1").covers(bound)
    assert not parse_epsilon_condition(f"{view}.epsilon.gaussian > 1").covers(bound)
    assert not parse_epsilon_condition(f"{view}.epsilon.{method}.ladder > 1").covers(bound)


def test_a_missing_bound_fails_and_says_why() -> None:
    (said,) = failures(with_bounds(epsilon_bound()), "final.epsilon > 1")
    assert "not known. The audit has no such bound on epsilon. It has: client.epsilon.f-dp.records." in said
    assert "ladder: many copies." in said
    (said,) = failures(with_bounds(), "final.epsilon > 1")
    assert "It has: none." in said


def test_claimed_without_a_claim_fails() -> None:
    (said,) = failures(with_bounds(epsilon_bound(claimed=None)), "client.epsilon > claimed")
    assert "not known. client.epsilon.f-dp.records: The run claims no epsilon" in said
    weak = Claim(unit="client", epsilon=20.0, delta=1e-5)
    (said,) = failures(with_bounds(epsilon_bound(claimed=None), claim=weak), "client.epsilon > claimed")
    assert "is about one client, and nothing follows from it here" in said
    seeded = Claim(unit="example", epsilon=2.0, delta=1e-5, seeded_noise=True)
    (said,) = failures(
        with_bounds(epsilon_bound(view="server", claimed=None), claim=seeded), "server.epsilon > claimed"
    )
    assert "server.epsilon.f-dp.records: The server chose the seed of the noise" in said
    assert failures(with_bounds(epsilon_bound(claimed=None, ceiling=9.0)), "client.epsilon > 8") == []


def test_a_bound_that_could_never_exceed_the_number_fails_with_how_many_canaries_are_needed() -> None:
    results = with_bounds(epsilon_bound(method="clopper-pearson", low=0.0, ceiling=3.28, num=100))
    (said,) = failures(results, "client.epsilon > 3.4")
    assert "not known" in said
    assert "with 100 canaries this method shows at most 3.28, which is not beyond 3.4; about " in said
    assert "canaries would be needed" in said
    assert failures(results, "client.epsilon > 3.2") == []
    (said,) = failures(results, "client.epsilon > 1000")
    assert "no practical number of canaries" in said
    assert failures(with_bounds(epsilon_bound(low=0.0, ceiling=None)), "client.epsilon > 1000") == []


def test_doubts_let_nothing_pass() -> None:
    results = with_bounds(epsilon_bound(low=0.0, ceiling=9.0)).model_copy(update={"doubts": ["The list is wrong."]})
    assert failures(results, "client.epsilon > 1") == ["client.epsilon > 1: not known. The list is wrong."]


def test_a_condition_on_what_is_not_asked_for_is_refused_before_the_audit() -> None:
    def check(text: str, views: tuple[str, ...], families: tuple[str, ...]) -> None:
        check_asked([parse_gate(text)], views=views, families=families)

    check("client.epsilon > 1", ("client",), ("membership",))
    check("sealed-server.epsilon > 1", ("server",), ("updates",))
    check("client.epsilon.canary-clients-final > 1", ("client",), ())
    with pytest.raises(ConfigError, match="is about the view 'client'"):
        check("client.epsilon > 1", ("final",), ("membership",))
    with pytest.raises(ConfigError, match="which attacks of membership or updates bound"):
        check("client.epsilon > 1", ("client",), ("extraction",))
