from confide.attacks.extraction.disturbed import REPLACED_SHARE
from confide.audit.results import AuditResults
from confide.auditor import settings_of
from confide.auditor.fixed_settings import fixed_settings
from confide.config.load import parse_config


def test_results_say_how_records_were_read_and_what_attacks_have_as_constants(results: AuditResults) -> None:
    settings = results.settings
    assert [settings[name] for name in ("data.template", "train.max_tokens", "evaluate.batch_size")] == [
        "plain",
        128,
        8,
    ]
    assert settings["shares of a record given"] == [0.8, 0.3]
    assert settings["share of words replaced in a disturbed prefix"] == REPLACED_SHARE == 0.4
    assert settings["edit distance of a near match"] == 0.1
    assert str(settings["rounds looked at"]) == "[1, 2, 3]"


def test_constants_of_attacks_that_did_not_run_are_left_out_and_none_hides_what_was_asked_for() -> None:
    values = {"model": {"base": "tiny-llama"}, "data": {"source": "clinics"}}
    every, quick = (parse_config(values, [f"audit.attacks={names}"]) for names in ('["extraction"]', '["exposure"]'))
    assert fixed_settings(quick).keys() == {"data.template", "train.max_tokens", "evaluate.batch_size"}
    assert fixed_settings(quick).items() <= fixed_settings(every).items()
    assert not fixed_settings(every).keys() & settings_of(every).keys()
