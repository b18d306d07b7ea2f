"""A sealed round over real Flower on this machine: TLS, registered nodes, three members, nothing left behind."""

from pathlib import Path

import pytest

from tests.deploy.one_process import run_in_one_process
from tests.deploy.real import CONFIG, NAMES, SETTINGS, needs_proc, network, processes_at, wait_for, within

SECONDS = 110.0  # and ten more to kill everybody: less than two minutes in all
ONE_ROUND = CONFIG.replace("rounds = 2", "rounds = 1")


@needs_proc
def test_a_sealed_round_over_real_flower_is_that_of_one_process_bit_for_bit(tmp_path: Path) -> None:
    pytest.importorskip("flwr", reason="needs the extra flower")
    with within(SECONDS):
        with network(tmp_path, ONE_ROUND) as made:
            running = made.run("trial")
            assert running.end(SECONDS) == 0, running.output
            directory = made.directory("trial")
        assert directory.status == "finished"
        assert [record.members for record in directory.records()] == [NAMES]
        expected = run_in_one_process(tmp_path, ONE_ROUND, SETTINGS)
        for name in NAMES:
            for file in ("adapter_model.safetensors", "adapter_config.json"):
                assert (made.final("trial", name) / file).read_bytes() == (expected / file).read_bytes()
        wait_for(lambda: not processes_at(tmp_path), 10.0, "the end of all processes")
