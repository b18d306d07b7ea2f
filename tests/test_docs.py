"""The documentation says what the code does: numbers, names, files, tests and commands agree with it."""

import itertools
import math
import re
import shlex
from pathlib import Path

import click
import numpy as np
import pytest
import seal
import typer
from typer.testing import CliRunner

from confide.agreed import opening_threshold
from confide.audit.epsilon_bounds import Claim
from confide.audit.epsilon_gate import check_epsilon_asked, parse_epsilon_condition
from confide.audit.epsilons import epsilon_bounds
from confide.audit.membership import EPSILON_SCORES
from confide.audit.told import Told
from confide.build.data import build_flipped
from confide.cli.main import app
from confide.config.load import load_config
from confide.config.schema import Config
from confide.config.sections import FederationSection
from confide.membership import frames
from confide.membership.envelope import OVERHEAD_BYTES
from confide.membership.groupkey import KEY_BYTES, encrypt_for_group
from confide.membership.roster import SIGNATURE_BYTES
from confide.messages import Message
from confide.parties.client import TOLD, TOLD_ALWAYS
from confide.parties.server import FIGURES
from confide.seal import published
from confide.seal.profiles import PROFILES, Profile, failure_log2

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.glob("*.md")), ROOT / "README.md"]
KINDS = {kind.__name__ for kind in Message.__subclasses__()}
_SECURITY = {bits: getattr(seal.sec_level_type, f"tc{bits}") for bits in (128, 192, 256)}

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def text_of(name: str) -> str:
    return (DOCS / name).read_text()


def marked(page: str, mark: str) -> str:
    """What stands between `<!-- mark -->` and `<!-- /mark -->`."""
    found = re.search(rf"<!-- {mark} -->\n(.*?)<!-- /{mark} -->", text_of(page), re.DOTALL)
    assert found is not None, f"docs/{page} has no part marked {mark}"
    return found.group(1)


def rows(page: str, mark: str) -> list[list[str]]:
    """The cells of a marked table, without its head."""
    lines = [line.strip() for line in marked(page, mark).splitlines() if line.strip()]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def code_in(page: Path) -> list[str]:
    """Every span and every line of code of a page."""
    text = page.read_text()
    fenced = re.findall(r"^```.*?\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    indented = re.findall(r"^ {4}(\S.*)$", text, re.MULTILINE)
    spans = re.findall(r"`([^`\n]+)`", text)
    return [*spans, *indented, *(line for block in fenced for line in block.splitlines())]


# --- Numbers


def security_row(profile: Profile) -> int:
    """The strictest row of SEAL's table that the whole modulus meets; 0 if none."""
    primes = [*profile.modulus, *([] if profile.special_prime is None else [profile.special_prime])]
    bits = math.prod(primes).bit_length()
    met = [row for row, level in _SECURITY.items() if bits <= seal.CoeffModulus.MaxBitCount(profile.ring_degree, level)]
    return max(met, default=0)


def failure_cell(profile: Profile) -> str:
    """The bound as the page rounds it: to a whole power of two above it, at least 2^-1000."""
    return f"2^{max(-1000, math.ceil(failure_log2(profile, profile.max_clients)))}"


def test_the_table_of_profiles_is_the_code() -> None:
    expected = [
        [
            f"`{one.scheme}/{one.name}`",
            str(one.ring_degree),
            " + ".join(str(prime.bit_length()) for prime in one.modulus),
            "-" if one.special_prime is None else f"{one.special_prime.bit_length()} bits",
            f"2^{one.plain_bits}",
            str(one.value_bits),
            str(one.values_per_coefficient),
            str(one.field_bits),
            f"{one.initial_limit:g}",
            f"{one.wire_bytes(one.chunk_values) / one.chunk_values:.4g}",
            failure_cell(one),
            str(security_row(one)),
        ]
        for one in PROFILES.values()
    ]
    assert rows("sealing.md", "profiles") == expected


def test_the_numbers_beside_the_profiles_are_the_code() -> None:
    text = text_of("sealing.md")
    assert {one.max_clients for one in PROFILES.values()} == {64}
    assert "At most 64 clients" in text
    overhead = frames.HEADER_BYTES + SIGNATURE_BYTES
    sizes = [one.wire_bytes(one.chunk_values) / 1e6 for one in PROFILES.values()]
    assert f"Frames add {overhead} bytes to a chunk of {min(sizes):.1f} to {max(sizes):.1f} MB" in text
    raw = 2 * len(published.PRIMES) * published.RING_DEGREE * 8 // published.SLOTS
    assert f"{raw} bytes before compression" in text


def test_the_bytes_of_keys_are_the_code() -> None:
    text = text_of("sealing.md")
    share = PROFILES["onetime", "compact"].ring_degree
    released = SIGNATURE_BYTES + len(encrypt_for_group(bytes(KEY_BYTES), bytes(share), b""))
    assert f"It adds {OVERHEAD_BYTES} bytes" in text
    assert f"uploads {share + KEY_BYTES + 2 * OVERHEAD_BYTES} bytes of key material" in text
    assert f"({share} + {OVERHEAD_BYTES})" in text
    assert f"({KEY_BYTES} + {OVERHEAD_BYTES})" in text
    assert f"A released share takes {released} bytes" in text


def test_the_table_of_a_frame_is_the_code() -> None:
    named = rows("sealing.md", "frame")
    assert tuple(name for name, _, _ in named[:-2]) == frames._FIELDS
    at = 0
    for name, size, start in named[:-2]:
        assert int(start) == at, name
        at += int(size)
    assert at == frames.HEADER_BYTES == int(named[-2][2])
    assert [named[-1][0], int(named[-1][1])] == ["signature", SIGNATURE_BYTES]
    spec = frames.FrameSpec(
        sealing_digest=b"s" * 32,
        roster_digest=b"r" * 32,
        run="run",
        round_number=0x01020304,
        num_values=5,
        limit=0.25,
        chunk_values=5,
    )
    (frame,) = frames.write_frames(spec, 0x0506, [b"body"], lambda statement: b"x" * SIGNATURE_BYTES)
    place = {name: slice(int(start), int(start) + int(size)) for name, size, start in named[:-2]}
    assert frame[place["magic"]] == b"CFRM"
    assert frame[place["sealing digest"]] == b"s" * 32
    assert frame[place["roster digest"]] == b"r" * 32
    assert frame[place["round"]] == bytes([1, 2, 3, 4])
    assert frame[place["sender"]] == bytes([5, 6])
    assert frame[frames.HEADER_BYTES :] == b"body" + b"x" * SIGNATURE_BYTES


def config_with(threshold: int) -> Config:
    return Config.model_validate(
        {"model": {"base": "tiny-llama"}, "data": {"source": "clinics"}, "seal": {"threshold": threshold}}
    )


def test_the_table_of_collusion_follows_from_its_three_bounds() -> None:
    default = FederationSection().min_clients
    assert f"by default {default})" in text_of("trust.md")
    for cells in rows("trust.md", "collusion"):
        clients, threshold, members, most = map(int, cells)
        assert most == min(threshold - 1, 2 * threshold - clients - 1, members - 2)
        assert opening_threshold(config_with(threshold), clients) == threshold


def test_every_figure_that_the_server_takes_is_told() -> None:
    (trained, private, opened) = ([*re.findall(r"`(\w+)`", cells[1])] for cells in rows("trust.md", "figures"))
    assert {*trained, *private, *opened} == FIGURES
    assert set(trained) == set(TOLD)
    assert set(private) == {*TOLD_ALWAYS, "epsilon", "client_epsilon"}
    assert not {*trained, *private} & {*opened}


# --- Names


def test_every_message_of_the_pages_exists_and_every_message_is_told() -> None:
    text = text_of("sealing.md")
    named = set(re.findall(r"\b[A-Z][A-Za-z]*(?:Request|Reply)\b", text + text_of("round.svg") + text_of("trust.md")))
    assert named <= KINDS
    assert set(re.findall(r"\b[A-Z][A-Za-z]*(?:Request|Reply)\b", text)) == KINDS


def test_the_picture_shows_the_messages_of_a_round_in_their_order() -> None:
    shown = re.findall(r'class="kind">(\w+)<', text_of("round.svg"))
    phases = ("Train", "Sign", "Release", "Open")
    assert shown == [f"{phase}{end}" for phase in phases for end in ("Request", "Reply")]


@every_page
def test_every_file_and_test_of_a_page_exists(page: Path) -> None:
    for code in code_in(page):
        for path, names in re.findall(r"((?:src|tests|docs|examples)/[\w./-]*\w)((?:::\w+)*)", code):
            place = ROOT / path
            assert place.exists() or (ROOT / "src" / path).exists(), f"{page.name} names {path}, which does not exist"
            for name in names.split("::")[1:]:
                assert re.search(rf"^ *(?:def|class) {name}\b", place.read_text(), re.MULTILINE), (
                    f"{path} has no {name}"
                )


@every_page
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}, which does not exist"


# --- Commands


def commands_of(page: Path) -> list[list[str]]:
    """The words behind each `confide` of a page's code, up to a comment or a pipe."""
    lines = [re.split(r"\s[#>|]\s|\s#", code)[0].split() for code in code_in(page)]
    return [words[1:] for words in lines if len(words) > 1 and words[0] == "confide"]


def find_command(words: list[str]) -> tuple[list[str], click.Command]:
    """The command that words call, and its path."""
    command: click.Command = typer.main.get_command(app)
    path: list[str] = []
    for word in words:
        if not isinstance(command, click.Group) or word.startswith("-"):
            break
        assert word in command.commands, f"there is no command confide {' '.join([*path, word])}"
        command = command.commands[word]
        path.append(word)
    return path, command


@every_page
def test_every_command_of_a_page_exists_with_its_options(page: Path) -> None:
    seen = set()
    for words in commands_of(page):
        path, command = find_command(words)
        options = {option for parameter in command.params for option in parameter.opts} | {"--help", "-h"}
        used = {word.split("=")[0] for word in words if word.startswith("-")}
        assert used <= options, f"confide {' '.join(path)} has no option {', '.join(sorted(used - options))}"
        seen.add(tuple(path))
    for called in sorted(seen):
        result = CliRunner().invoke(app, [*called, "--help"])
        assert result.exit_code == 0, f"confide {' '.join(called)} --help: {result.output}"


def commands_under(page: str, heading: str) -> list[list[str]]:
    """The words of the indented commands between a heading and the next, as a shell reads them."""
    part = text_of(page).split(f"\n## {heading}\n")[1].split("\n## ")[0].replace("\\\n", " ")
    return [shlex.split(line) for line in re.findall(r"^ {4}(confide .*)$", part, re.MULTILINE)]


def values_of(words: list[str], option: str) -> list[str]:
    """What is given behind each such option."""
    return [value for name, value in itertools.pairwise(words) if name == option]


def test_the_gate_on_a_claimed_epsilon_is_about_one_that_so_many_rows_can_exceed() -> None:
    """Where the ceiling is no higher than the claim such a gate is "not known", whatever was trained."""
    train, audit = commands_under("privacy.md", "Is the epsilon true? The audit measures")
    config = load_config(ROOT / train[2], values_of(train, "--set"))
    assert audit[2] == f"runs/{config.run.name}"
    (gate,) = values_of(audit, "--fail-if")
    condition = parse_epsilon_condition(gate)
    check_epsilon_asked(condition, views=values_of(audit, "--view"), families=values_of(audit, "--attack"))
    assert (condition.view, condition.bound) == ("client", None)
    flipped = build_flipped(config)
    attacker = min(client.name for client in flipped.clients)
    coins = [coin for coin in flipped.plan.coins if coin.kind == condition.population and coin.client != attacker]
    scores = np.random.default_rng(0).normal(size=len(coins))
    told = [
        Told(
            view=condition.view,
            population=condition.population,
            attack=attack,
            scores=scores,
            coins=np.array([coin.included for coin in coins]),
        )
        for attack in EPSILON_SCORES
    ]
    claim = Claim(unit="example", epsilon=config.privacy.target_epsilon, delta=config.privacy.delta)
    (bound,) = [one for one in epsilon_bounds(told, claim, delta=claim.delta) if condition.covers(one)]
    assert bound.ceiling is not None
    assert bound.ceiling > config.privacy.target_epsilon
    page = text_of("privacy.md")
    assert f"made with {len(coins)} rows of the two other clinics" in " ".join(page.split())
    assert f"| `{bound.method}` | {config.privacy.target_epsilon:.2f} | 0 | {bound.ceiling:.2f} |" in page


def test_the_pages_name_the_commands_that_they_are_about() -> None:
    named = {" ".join(find_command(words)[0]) for page in PAGES for words in commands_of(page)}
    assert {"keys new", "keys show", "keys roster", "bench sealing", "bench key-recovery", "resume"} <= named


def test_the_measured_table_names_every_scheme_and_the_command_that_makes_it() -> None:
    page = text_of("sealing.md")
    assert "confide bench sealing --values 1048576" in page
    for scheme, name in PROFILES:
        assert f"| {scheme}/{name} |" in page
    assert "| published |" in page
