import copy
import errno
import json
import os
import pickle
import stat
import traceback
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from confide.errors import KeyFileError, MessageError, RosterError, SecretKeyError, StorageError
from confide.membership import identity as module
from confide.membership.identity import ENVELOPE_SUITE, Identity, read_public_half
from confide.membership.roster import verify_signature

SIGNING_SECRET = bytes(range(1, 33))
ENVELOPE_SECRET = bytes(range(101, 133))
PASSPHRASE = b"correct horse battery staple"


@pytest.fixture
def north() -> Identity:
    return Identity(
        "north",
        Ed25519PrivateKey.from_private_bytes(SIGNING_SECRET),
        X25519PrivateKey.from_private_bytes(ENVELOPE_SECRET),
    )


@pytest.fixture(autouse=True)
def quick_stretching(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SCRYPT_COST", 2)


def assert_holds_no_secret(text: str) -> None:
    for secret in (SIGNING_SECRET, ENVELOPE_SECRET, PASSPHRASE):
        for spelling in (secret.hex(), repr(secret)[2:-1], repr(list(secret))[1:-1], secret.decode("latin-1")):
            assert spelling not in text
    assert "PRIVATE KEY" not in text


def chain(error: BaseException) -> str:
    """All that a traceback shows of an error and those behind it, and all their arguments."""
    shown = "".join(traceback.format_exception(error))
    link: BaseException | None = error
    while link is not None:
        shown += repr(link) + repr(vars(link)) + repr(link.args)
        link = link.__cause__ or link.__context__
    return shown


def test_generated_keys_are_new_each_time_and_work() -> None:
    one, other = Identity.generate("north"), Identity.generate("north")
    assert one.public.signing_key != other.public.signing_key
    assert one.public.envelope_key != other.public.envelope_key
    verify_signature(one.public, b"statement", one.sign(b"statement"))
    key = X25519PublicKey.from_public_bytes(one.public.envelope_key)
    sealed = ENVELOPE_SUITE.encrypt(b"hello", key, info=b"context")
    assert one.open(sealed, b"context") == b"hello"
    with pytest.raises(MessageError, match="does not open for north"):
        one.open(sealed, b"other")
    with pytest.raises(MessageError, match="does not open for north"):
        other.open(sealed, b"context")


def test_a_name_no_roster_takes_is_refused() -> None:
    with pytest.raises(RosterError, match="the member name"):
        Identity.generate(" ")


def test_no_text_of_an_identity_shows_a_secret(north: Identity) -> None:
    for text in (repr(north), str(north), f"{north}", repr([north]), repr(north.public), north.public.to_json()):
        assert_holds_no_secret(text)
    assert repr(north) == "<Identity of north, keys hidden>"
    assert not hasattr(north, "__dict__")


def test_an_identity_cannot_be_copied_or_pickled(north: Identity) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(SecretKeyError, match="keys of north cannot be copied or pickled") as caught:
            pickle.dumps(north, protocol)
        assert_holds_no_secret(chain(caught.value))
    with pytest.raises(SecretKeyError):
        copy.copy(north)
    with pytest.raises(SecretKeyError):
        copy.deepcopy({"nested": [north]})


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
def test_a_file_gives_the_identity_back(north: Identity, tmp_path: Path, passphrase: bytes | None) -> None:
    path = tmp_path / "north.key"
    north.save(path, passphrase)
    loaded = Identity.load(path, passphrase)
    assert loaded.public == north.public
    assert loaded.sign(b"statement") == north.sign(b"statement")
    assert read_public_half(path) == (north.public, passphrase is not None)
    assert list(tmp_path.iterdir()) == [path]


def test_only_the_owner_can_read_the_file(north: Identity, tmp_path: Path) -> None:
    path = tmp_path / "north.key"
    before = os.umask(0)
    try:
        north.save(path, None)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_encrypted_file_shows_no_secret_and_never_twice_the_same(north: Identity, tmp_path: Path) -> None:
    texts = []
    for name in ("a", "b"):
        north.save(tmp_path / name, PASSPHRASE)
        texts.append((tmp_path / name).read_text())
        assert_holds_no_secret(texts[-1].replace("ENCRYPTED PRIVATE KEY", ""))
    assert texts[0] != texts[1]


def test_the_passphrase_is_stretched_before_it_encrypts(north: Identity, tmp_path: Path) -> None:
    north.save(tmp_path / "key", PASSPHRASE)
    fields = json.loads((tmp_path / "key").read_text())
    salt = bytes.fromhex(fields["passphrase_salt"])
    assert len(salt) == 16
    stretched = Scrypt(salt=salt, length=32, n=2, r=8, p=1).derive(PASSPHRASE).hex().encode()
    key = load_pem_private_key(fields["signing_private_key"].encode(), stretched)
    assert isinstance(key, Ed25519PrivateKey)
    assert key.private_bytes_raw() == SIGNING_SECRET


def test_stretching_costs_what_is_recommended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert module._SCRYPT_COST == 2**17
    # RFC 7914, section 12: the third test vector.
    known = Scrypt(salt=b"SodiumChloride", length=64, n=16384, r=8, p=1).derive(b"pleaseletmein")
    assert known.hex().startswith("7023bdcb3afd7348461c06cd81fd38eb")


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
def test_a_file_is_never_overwritten(north: Identity, tmp_path: Path, passphrase: bytes | None) -> None:
    path = tmp_path / "north.key"
    path.write_text("mine")
    with pytest.raises(KeyFileError, match=r"north\.key is there already, and keys are never overwritten"):
        north.save(path, passphrase)
    assert path.read_text() == "mine"
    dangling = tmp_path / "link"
    dangling.symlink_to("elsewhere")
    with pytest.raises(KeyFileError, match="link is there already"):
        north.save(dangling, passphrase)
    assert sorted(tmp_path.iterdir()) == [dangling, path]


@pytest.mark.parametrize("step", ["fsync", "link", "write"])
def test_a_failed_write_leaves_nothing_behind(
    north: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def full_disk(*arguments: object, **more: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if step == "write":
        monkeypatch.setattr(os, "open", full_disk)
    else:
        monkeypatch.setattr(os, step, full_disk)
    with pytest.raises(StorageError, match=r"cannot write .*north\.key: No space left") as caught:
        north.save(tmp_path / "north.key", None)
    assert list(tmp_path.iterdir()) == []
    assert_holds_no_secret(chain(caught.value))


def test_a_kill_before_the_end_leaves_no_key_file(
    north: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def look(descriptor: int) -> None:
        seen.append([path.name for path in tmp_path.iterdir()])

    monkeypatch.setattr(os, "fsync", look)
    north.save(tmp_path / "north.key", None)
    assert len(seen[0]) == 1
    assert seen[0][0].startswith(".tmp-")
    assert seen[-1] == ["north.key"]


def test_a_folder_that_is_missing_is_named(north: Identity, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot write .*/no/north\.key: No such file"):
        north.save(tmp_path / "no" / "north.key", None)
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"cannot write .*/file/north\.key: Not a directory"):
        north.save(tmp_path / "file" / "north.key", None)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o777])
def test_a_file_open_to_others_is_refused_with_what_to_do(north: Identity, tmp_path: Path, mode: int) -> None:
    path = tmp_path / "my north.key"
    north.save(path, None)
    path.chmod(mode)
    for read in (lambda: Identity.load(path, None), lambda: read_public_half(path)):
        with pytest.raises(KeyFileError, match=rf"\(mode 0{mode:o}\). Close it with: chmod 600 '.*my north\.key'"):
            read()


def test_a_wrong_missing_or_needless_passphrase_says_so(north: Identity, tmp_path: Path) -> None:
    sealed, plain = tmp_path / "sealed", tmp_path / "plain"
    north.save(sealed, PASSPHRASE)
    north.save(plain, None)
    for path, passphrase, reason in [
        (sealed, None, "sealed is encrypted: give its passphrase"),
        (sealed, b"wrong horse", "the passphrase is wrong, or the file is damaged"),
        (sealed, PASSPHRASE + b"\n", "the passphrase is wrong"),
        (sealed, b"", "the passphrase is empty"),
        (plain, PASSPHRASE, "plain is not encrypted: leave the passphrase out"),
        (tmp_path / "none", None, "there is no key file .*none. Make one with: confide keys new"),
        (tmp_path, None, "can be read or written by others|cannot be read"),
    ]:
        with pytest.raises(KeyFileError, match=reason) as caught:
            Identity.load(path, passphrase)
        assert_holds_no_secret(chain(caught.value))
        assert "wrong horse" not in chain(caught.value)
    with pytest.raises(KeyFileError, match="the passphrase is empty"):
        north.save(tmp_path / "new", b"")
    assert not (tmp_path / "new").exists()


def rewrite(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    path.chmod(0o600)


@pytest.mark.parametrize(("passphrase", "stride"), [(None, 1), (PASSPHRASE, 7)])
def test_truncations_and_edits_are_refused_or_harmless_and_show_nothing(
    north: Identity, tmp_path: Path, passphrase: bytes | None, stride: int
) -> None:
    path = tmp_path / "key"
    north.save(path, passphrase)
    data = path.read_bytes()
    damaged = [data[:length] for length in range(len(data) - 1)]
    damaged += [data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :] for place in range(len(data))]
    num_harmless = 0
    for content in damaged[::stride]:
        rewrite(path, content)
        try:
            loaded = Identity.load(path, passphrase)
            assert loaded.public == north.public
            assert loaded.sign(b"x") == north.sign(b"x")
            num_harmless += 1
        except KeyFileError as error:
            if error.__context__ is not None or len(content) % 50 == 0:
                assert_holds_no_secret(chain(error))
    # What may change: space, the line ends of PEM, unused bits of base64. No edit gives other keys.
    assert num_harmless < 100


def test_files_that_fit_together_badly_are_refused(north: Identity, tmp_path: Path) -> None:
    path = tmp_path / "key"
    north.save(path, None)
    Identity.generate("north").save(tmp_path / "other", None)
    fields, other = json.loads(path.read_text()), json.loads((tmp_path / "other").read_text())
    for change, reason in [
        ({"public": other["public"]}, "are not those of its public half"),
        ({"signing_private_key": other["signing_private_key"]}, "are not those of its public half"),
        ({"signing_private_key": fields["envelope_private_key"]}, "keys of another kind"),
        ({"envelope_private_key": fields["signing_private_key"]}, "keys of another kind"),
        ({"signing_private_key": "no key"}, "signing_private_key cannot be read: it is damaged"),
        ({"public": {**fields["public"], "name": "south"}}, "fingerprint must be"),
        ({"version": 2}, "version must be 1"),
        ({"format": "confide public identity"}, "format must be"),
        ({"more": ""}, "exactly the fields"),
        ({"passphrase_salt": "0g"}, "passphrase_salt must be"),
        ({"public": []}, "public must be an object"),
    ]:
        rewrite(path, json.dumps({**fields, **change}).encode())
        with pytest.raises(KeyFileError, match=reason) as caught:
            Identity.load(path, None)
        assert str(path) in str(caught.value)
        assert_holds_no_secret(chain(caught.value))


def test_a_long_file_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.touch(mode=0o600)
    with path.open("r+b") as file:
        file.truncate(10_000_000_000)
    with pytest.raises(KeyFileError, match="has 1048577 bytes, at most"):
        Identity.load(path, None)
