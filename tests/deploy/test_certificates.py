import datetime
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from confide.deploy import certificates
from confide.deploy.certificates import (
    KeyPlaces,
    check_authority,
    check_server_certificate,
    days_left,
    issue_server_certificate,
    load_certificate,
    make_authority,
    make_node_key,
    node_key_fingerprint,
    renew_server_certificate,
)
from confide.errors import DeployFolderError, KeyFileError, StorageError, UsageError

HOSTS = ("federation.example.org", "192.0.2.7", "2001:db8::7")


def places(folder: Path, name: str) -> KeyPlaces:
    return KeyPlaces(certificate=folder / f"{name}.pem", key=folder / f"{name}.key")


@pytest.fixture
def authority(tmp_path: Path) -> KeyPlaces:
    made = places(tmp_path, "ca")
    make_authority(made, days=1000)
    return made


@pytest.fixture
def server(tmp_path: Path, authority: KeyPlaces) -> KeyPlaces:
    made = places(tmp_path, "server")
    issue_server_certificate(authority, made, hosts=HOSTS, days=365)
    return made


def handshake(server: KeyPlaces, authority: Path, host: str) -> str | None:
    """A TLS connection over a socket pair, strictly checked as by Python 3.13; None if it stands, else why not."""
    accepting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    accepting.load_cert_chain(server.certificate, server.key)
    connecting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    connecting.verify_flags |= ssl.VERIFY_X509_STRICT
    connecting.load_verify_locations(authority)
    ours, theirs = socket.socketpair()

    def accept() -> None:
        try:
            accepting.wrap_socket(theirs, server_side=True).close()
        except (ssl.SSLError, OSError):
            theirs.close()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        connecting.wrap_socket(ours, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    finally:
        ours.close()
        thread.join()
    return None


@pytest.mark.parametrize("host", [*HOSTS, "localhost", "127.0.0.1", "::1"])
def test_a_client_with_the_authority_accepts_the_server_by_every_host(
    authority: KeyPlaces, server: KeyPlaces, host: str
) -> None:
    assert handshake(server, authority.certificate, host) is None


@pytest.mark.parametrize("host", ["other.example.org", "example.org", "192.0.2.8"])
def test_a_wrong_host_name_is_refused(authority: KeyPlaces, server: KeyPlaces, host: str) -> None:
    assert "mismatch" in str(handshake(server, authority.certificate, host))


def test_a_client_with_another_authority_refuses_the_server(tmp_path: Path, server: KeyPlaces) -> None:
    other = places(tmp_path, "other")
    make_authority(other, days=10)
    assert handshake(server, other.certificate, HOSTS[0]) is not None


def test_what_a_servers_key_signs_is_no_server(tmp_path: Path, authority: KeyPlaces, server: KeyPlaces) -> None:
    with pytest.raises(DeployFolderError, match=r"server.pem is a certificate, but not an authority's: take ca.pem"):
        issue_server_certificate(server, places(tmp_path, "forged"), hosts=HOSTS, days=1)
    basic = load_certificate(authority.certificate).extensions.get_extension_for_class(x509.BasicConstraints)
    assert basic.critical
    assert basic.value.path_length == 0


def test_a_renewed_certificate_is_accepted_by_the_same_authority_and_the_old_one_is_kept(
    authority: KeyPlaces, server: KeyPlaces
) -> None:
    old = (server.certificate.read_bytes(), server.key.read_bytes())
    kept = renew_server_certificate(authority, server, hosts=HOSTS, days=700)
    assert handshake(server, authority.certificate, HOSTS[0]) is None
    assert (kept.certificate.read_bytes(), kept.key.read_bytes()) == old
    assert server.key.read_bytes() != old[1]
    assert days_left(server.certificate) == 699
    assert [path.stat().st_mode & 0o777 for path in (server.key, kept.key, server.certificate)] == [
        0o600,
        0o600,
        0o644,
    ]


@pytest.mark.parametrize("num_written", range(4))
def test_a_renewal_that_is_stopped_can_be_done_again_and_keeps_the_old_pair(
    authority: KeyPlaces, server: KeyPlaces, monkeypatch: pytest.MonkeyPatch, num_written: int
) -> None:
    old = (server.certificate.read_bytes(), server.key.read_bytes())
    left = num_written

    def stopped(write: Callable[..., None]) -> Callable[..., None]:
        def full(path: Path, content: bytes, *, mode: int) -> None:
            nonlocal left
            if not left:
                raise StorageError("no space left")
            left -= 1
            write(path, content, mode=mode)

        return full

    for name in ("write_new", "write_atomic"):
        monkeypatch.setattr(certificates, name, stopped(getattr(certificates, name)))
    with pytest.raises(StorageError, match="no space left"):
        renew_server_certificate(authority, server, hosts=HOSTS, days=700)
    monkeypatch.undo()
    kept = renew_server_certificate(authority, server, hosts=HOSTS, days=700)
    assert (kept.certificate.read_bytes(), kept.key.read_bytes()) == old
    assert handshake(server, authority.certificate, HOSTS[0]) is None
    assert days_left(server.certificate) == 699


def test_a_renewal_that_cannot_be_made_leaves_what_is_there(authority: KeyPlaces, server: KeyPlaces) -> None:
    before = {path.name: path.read_bytes() for path in server.key.parent.iterdir()}
    with pytest.raises(UsageError, match=r"after the authority that signs it .*: ask for fewer days"):
        renew_server_certificate(authority, server, hosts=HOSTS, days=1001)
    assert {path.name: path.read_bytes() for path in server.key.parent.iterdir()} == before


def test_files_are_never_overwritten_and_keys_are_their_owners_alone(
    tmp_path: Path, authority: KeyPlaces, server: KeyPlaces
) -> None:
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    attempts: list[Callable[[], None]] = [
        lambda: make_authority(authority, days=10),
        lambda: issue_server_certificate(authority, server, hosts=HOSTS, days=10),
        lambda: make_node_key(private=server.key, public=tmp_path / "new.pub", comment="north"),
    ]
    for attempt in attempts:
        with pytest.raises(KeyFileError, match="is there already, and keys and certificates are never overwritten"):
            attempt()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {
        "ca.key": 0o600,
        "ca.pem": 0o644,
        "server.key": 0o600,
        "server.pem": 0o644,
    }


@pytest.mark.parametrize(
    "host", ["", "a b", "-a.example.org", "a..example.org", "*.example.org", "300.1.2.3", "x" * 64, "bücher.example"]
)
def test_a_host_that_is_none_is_refused(tmp_path: Path, authority: KeyPlaces, host: str) -> None:
    with pytest.raises(UsageError, match="is no DNS name"):
        issue_server_certificate(authority, places(tmp_path, "server"), hosts=[host], days=1)
    assert not (tmp_path / "server.key").exists()


@pytest.mark.parametrize("days", [0, -1, 7301])
def test_days_out_of_range_are_refused(tmp_path: Path, days: int) -> None:
    with pytest.raises(UsageError, match=f"a certificate of {days} days was asked for, expected 1 to 7300"):
        make_authority(places(tmp_path, "ca"), days=days)


def test_a_server_that_fits_is_found_so_and_each_misfit_is_named(
    tmp_path: Path, authority: KeyPlaces, server: KeyPlaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_server_certificate(authority.certificate, server)
    other = places(tmp_path, "other")
    make_authority(other, days=10)
    with pytest.raises(DeployFolderError, match=r"was not signed by .*other.pem, so no member would accept it"):
        check_server_certificate(other.certificate, server)
    with pytest.raises(KeyFileError, match=r"ca.key is not the key of .*server.pem"):
        check_server_certificate(authority.certificate, KeyPlaces(certificate=server.certificate, key=authority.key))

    class Later(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> "Later":
            return cls.fromtimestamp(super().now(tz).timestamp() + 400 * 86400, tz)

    monkeypatch.setattr("confide.deploy.certificates.datetime.datetime", Later)
    with pytest.raises(DeployFolderError, match="Check the clock, or make a new one: confide deploy renew FOLDER"):
        check_server_certificate(authority.certificate, server)


def test_an_authority_is_told_by_the_fingerprint_that_openssl_shows(authority: KeyPlaces) -> None:
    command = ["openssl", "x509", "-noout", "-fingerprint", "-sha256", "-in", str(authority.certificate)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert shown.strip().split("=")[1] == check_authority(authority.certificate)


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"-----BEGIN CERTIFICATE-----\nAAAA\n", b"x" * 70_000])
def test_what_is_no_certificate_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(content)
    with pytest.raises(DeployFolderError, match=r"ca\.pem is (no certificate in PEM|longer than 65536 bytes)"):
        check_authority(path)


def test_a_second_certificate_in_the_file_is_refused(tmp_path: Path, authority: KeyPlaces) -> None:
    other = places(tmp_path, "other")
    make_authority(other, days=10)
    both = tmp_path / "both.pem"
    both.write_bytes(authority.certificate.read_bytes() + other.certificate.read_bytes())
    with pytest.raises(DeployFolderError, match="or more than one"):
        check_authority(both)


def test_a_key_that_cannot_be_read_is_named_and_nothing_of_it_shown(authority: KeyPlaces, tmp_path: Path) -> None:
    authority.key.write_text("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
    with pytest.raises(KeyFileError, match=r"ca.key is no key that this deployment made") as caught:
        issue_server_certificate(authority, places(tmp_path, "server"), hosts=HOSTS, days=1)
    assert "c2VjcmV0" not in str(caught.value)


def test_a_node_key_is_what_flower_reads(tmp_path: Path) -> None:
    """As flwr 1.41 reads them: supernode/cli/flower_supernode.py and cli/supernode/register.py."""
    private, public = tmp_path / "node.key", tmp_path / "north.pub"
    make_node_key(private=private, public=public, comment="north")
    key = load_ssh_private_key(private.read_bytes(), None)
    shown = load_ssh_public_key(public.read_bytes())
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(shown, ec.EllipticCurvePublicKey)
    assert isinstance(shown.curve, ec.SECP384R1)
    assert key.public_key() == shown
    assert public.read_text().startswith("ecdsa-sha2-nistp384 ")
    assert public.read_text().endswith(" north\n")
    assert private.read_text().startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    assert [path.stat().st_mode & 0o777 for path in (private, public)] == [0o600, 0o644]
    assert node_key_fingerprint(public).startswith("SHA256:")


def test_what_is_no_node_key_is_refused(tmp_path: Path) -> None:
    private, public = tmp_path / "node.key", tmp_path / "north.pub"
    make_node_key(private=private, public=public, comment="north")
    ed25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4e2sEYzoOv4Gm1kCe7hw9hR0cD0CkR9hFzQ7PzFh1c x\n"
    for content in (private.read_text(), ed25519, "", "ecdsa-sha2-nistp384 AAAA\n"):
        public.write_text(content)
        with pytest.raises(DeployFolderError, match=r"north\.pub is no public node key") as caught:
            node_key_fingerprint(public)
        assert "OPENSSH" not in str(caught.value)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot write .*none/ca.key"):
        make_authority(places(tmp_path / "none", "ca"), days=1)
