"""Certificates and keys of a deployment's connections: an own authority, the server's certificate, Flower's node keys.

They protect the way between a member and the server. What a member says is signed with its identity
(`confide.membership.identity`), which is another key.
"""

import base64
import datetime
import hashlib
import ipaddress
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_public_key,
    ssh_key_fingerprint,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from confide.errors import ConfideError, DeployFolderError, KeyFileError, UsageError
from confide.files import write_atomic, write_new

SECRET_MODE = 0o600
PUBLIC_MODE = 0o644
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
"""In every server's certificate: its own machine reaches it by these."""

MAX_DAYS = 7300

_CURVE = ec.SECP384R1
_MAX_BYTES = 1 << 16
_CLOCK_SKEW = datetime.timedelta(hours=1)
_MAX_COMMON_NAME = 64
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_MAX_DNS_NAME = 253


@dataclass(frozen=True, kw_only=True)
class KeyPlaces:
    """Where a certificate and its key stand.

    Attributes:
        certificate: PEM, readable by all.
        key: PKCS #8 in PEM, readable by its owner.
    """

    certificate: Path
    key: Path


def make_authority(places: KeyPlaces, *, days: int) -> None:
    """Makes an authority that may sign servers' certificates and nothing below them.

    Raises:
        KeyFileError: there is a file already.
        UsageError: `days` is out of range.
        StorageError: a file cannot be written.
    """
    key = ec.generate_private_key(_CURVE())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Confide authority {secrets.token_hex(4)}")])
    builder = (
        _builder(name, key.public_key(), days)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
    )
    certificate = builder.sign(key, SHA384())
    _write_key(places.key, _to_pem(key))
    _write_public(places.certificate, certificate.public_bytes(Encoding.PEM))


def issue_server_certificate(authority: KeyPlaces, places: KeyPlaces, *, hosts: Sequence[str], days: int) -> None:
    """Makes a server's key and its certificate for `hosts` and for its own machine.

    Args:
        authority: signs it.
        places: of the new files.
        hosts: DNS names and IP addresses by which members reach the server.
        days: how long it is valid; no longer than the authority itself.

    Raises:
        KeyFileError: there is a file already, or the authority's key cannot be used.
        DeployFolderError: the authority's certificate cannot be used.
        UsageError: a host or `days` makes no sense.
        StorageError: a file cannot be written.
    """
    key, certificate = _issue(authority, hosts=hosts, days=days)
    _write_key(places.key, key)
    _write_public(places.certificate, certificate.public_bytes(Encoding.PEM))


def renew_server_certificate(authority: KeyPlaces, places: KeyPlaces, *, hosts: Sequence[str], days: int) -> KeyPlaces:
    """Gives a server a new key and certificate of the same authority; members need nothing new.

    Stopped in the middle, by a full disk perhaps, it can be done again; a pair that is half new is refused.

    Returns:
        Where the old ones are kept: beside the new ones, named after the old serial number.

    Raises:
        ConfideError: as `issue_server_certificate`.
    """
    old = load_certificate(places.certificate)
    key, certificate = _issue(authority, hosts=hosts, days=days)
    mark = f"{old.serial_number:x}"[:12]
    kept = KeyPlaces(certificate=_beside(places.certificate, mark), key=_beside(places.key, mark))
    if not kept.key.exists():  # else it is the old one, kept before an earlier renewal was stopped
        _write_key(kept.key, _read(places.key, KeyFileError))
    if not kept.certificate.exists():
        _write_public(kept.certificate, _read(places.certificate, DeployFolderError))
    write_atomic(places.key, key, mode=SECRET_MODE)
    write_atomic(places.certificate, certificate.public_bytes(Encoding.PEM), mode=PUBLIC_MODE)
    return kept


def make_node_key(*, private: Path, public: Path, comment: str) -> None:
    """Makes the key by which Flower knows a node: ECDSA on P-384 in OpenSSH's forms, without a passphrase.

    Flower can read it in no other way. It lets a node connect; what the node says is signed with its identity.

    Raises:
        KeyFileError: there is a file already.
        StorageError: a file cannot be written.
    """
    key = ec.generate_private_key(_CURVE())
    line = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + f" {comment}\n".encode()
    _write_key(private, key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    _write_public(public, line)


def node_key_fingerprint(path: Path) -> str:
    """Checks that a file is a node's public key, and gives its fingerprint as `ssh-keygen -lf` shows it.

    Raises:
        DeployFolderError: it is missing, or something else.
    """
    content = _read(path, DeployFolderError)
    key = _try_ssh(content)
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, _CURVE):
        raise DeployFolderError(
            f"{path} is no public node key (one line: ecdsa-sha2-nistp384 and the key). "
            "Take the file NAME.pub that `confide deploy join` made at the member."
        )
    return "SHA256:" + base64.b64encode(ssh_key_fingerprint(key, SHA256())).decode().rstrip("=")


def load_certificate(path: Path) -> x509.Certificate:
    """Reads a file that holds one certificate and no other: a second one would be trusted unseen.

    Raises:
        DeployFolderError: it is missing, or something else.
    """
    content = _read(path, DeployFolderError)
    try:
        (certificate,) = x509.load_pem_x509_certificates(content)
    except ValueError:
        raise DeployFolderError(
            f"{path} is no certificate in PEM (-----BEGIN CERTIFICATE-----), or more than one"
        ) from None
    return certificate


def certificate_pem(path: Path) -> bytes:
    """The one certificate of a file and nothing else that may stand in it.

    Raises:
        DeployFolderError: as `load_certificate`.
    """
    return load_certificate(path).public_bytes(Encoding.PEM)


def check_authority(path: Path) -> str:
    """Checks that a file is an authority's certificate, and gives its fingerprint to compare by telephone.

    Returns:
        SHA-256 of the certificate, as `openssl x509 -noout -fingerprint -sha256` shows it.

    Raises:
        DeployFolderError: it is missing, or something else.
    """
    certificate = load_certificate(path)
    try:
        is_authority = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        is_authority = False
    if not is_authority:
        raise DeployFolderError(
            f"{path} is a certificate, but not an authority's: take ca.pem of the server's folder, not server.pem"
        )
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest().hex(":").upper()


def check_server_certificate(authority: Path, places: KeyPlaces) -> None:
    """Checks that a server's key, certificate and authority belong together and are valid now.

    Raises:
        KeyFileError: the key is another one's, or none.
        DeployFolderError: the certificate is another authority's, or too old or too new.
    """
    certificate = load_certificate(places.certificate)
    if _load_key(places.key).public_key() != certificate.public_key():
        raise KeyFileError(
            f"{places.key} is not the key of {places.certificate}: put back the two that were made together"
        )
    try:
        certificate.verify_directly_issued_by(load_certificate(authority))
    except (ValueError, TypeError, InvalidSignature):
        raise DeployFolderError(
            f"{places.certificate} was not signed by {authority}, so no member would accept it. "
            "Make a new one: confide deploy renew FOLDER"
        ) from None
    now = datetime.datetime.now(datetime.UTC)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise DeployFolderError(
            f"{places.certificate} is valid from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} to "
            f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC, and it is {now:%Y-%m-%d %H:%M}. "
            "Check the clock, or make a new one: confide deploy renew FOLDER"
        )


def check_is_for(certificate: Path, host: str) -> None:
    """Checks that a server's certificate is for a host, so that whoever connects to the host can know it by it.

    Raises:
        DeployFolderError: it is not.
    """
    names = load_certificate(certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    if _general_name(host) not in names:
        known = ", ".join(str(name.value) for name in names)
        raise DeployFolderError(
            f"{certificate} is not for {host}, so nobody could check who answers there: it is for {known}. Add the "
            "host to hosts in server.toml, and make a new certificate: confide deploy renew FOLDER"
        )


def days_left(path: Path) -> int:
    """Whole days until a certificate ends; negative if it has ended.

    Raises:
        DeployFolderError: there is no certificate.
    """
    return (load_certificate(path).not_valid_after_utc - datetime.datetime.now(datetime.UTC)).days


def host_problem(host: str) -> str | None:
    """Says why a text cannot be a host in a certificate; None if it can."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        labels = host.split(".")
        is_name = len(host) <= _MAX_DNS_NAME and all(map(_LABEL.fullmatch, labels)) and not labels[-1].isdigit()
        return None if is_name else "is no DNS name (letters, digits, '-' and '.') and no IP address"
    return None


def _issue(authority: KeyPlaces, *, hosts: Sequence[str], days: int) -> tuple[bytes, x509.Certificate]:
    if not hosts:
        raise UsageError("a server's certificate needs at least one host: the name or address that members reach it by")
    for host in hosts:
        if problem := host_problem(host):
            raise UsageError(f"the host {host!r} {problem}")
    check_authority(authority.certificate)
    issuer, issuer_key = load_certificate(authority.certificate), _load_key(authority.key)
    if issuer.public_key() != issuer_key.public_key():
        raise KeyFileError(f"{authority.key} is not the key of {authority.certificate}: put back the two made together")
    key = ec.generate_private_key(_CURVE())
    common = hosts[0] if len(hosts[0]) <= _MAX_COMMON_NAME else "Confide server"
    builder = (
        _builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)]), key.public_key(), days)
        .issuer_name(issuer.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(list(map(_general_name, _with_local(hosts)))), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    if ends > issuer.not_valid_after_utc:
        raise UsageError(
            f"the certificate would end on {ends:%Y-%m-%d}, after the authority that signs it "
            f"({issuer.not_valid_after_utc:%Y-%m-%d}): ask for fewer days"
        )
    return _to_pem(key), builder.sign(issuer_key, SHA384())


def _with_local(hosts: Sequence[str]) -> list[str]:
    return list(dict.fromkeys([*hosts, *LOCAL_HOSTS]))


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host.lower())


def _builder(subject: x509.Name, key: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
    if not 1 <= days <= MAX_DAYS:
        raise UsageError(f"a certificate of {days} days was asked for, expected 1 to {MAX_DAYS}")
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _to_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    content = _read(path, KeyFileError)
    key = _try_key(content)
    if not isinstance(key, ec.EllipticCurvePrivateKey):  # raised here: the library's errors quote the file
        raise KeyFileError(f"{path} is no key that this deployment made (PKCS #8 in PEM, elliptic curve)")
    return key


def _try_key(content: bytes) -> object | None:
    try:
        return load_pem_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None


def _try_ssh(content: bytes) -> object | None:
    try:
        return load_ssh_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        return None


def _beside(path: Path, mark: str) -> Path:
    return path.with_name(f"{path.stem}-{mark}{path.suffix}")


def _write_key(path: Path, content: bytes) -> None:
    _write(path, content, SECRET_MODE)


def _write_public(path: Path, content: bytes) -> None:
    _write(path, content, PUBLIC_MODE)


def _write(path: Path, content: bytes, mode: int) -> None:
    try:
        write_new(path, content, mode=mode)
    except FileExistsError:
        raise KeyFileError(
            f"{path} is there already, and keys and certificates are never overwritten: choose another folder"
        ) from None


def _read(path: Path, error: type[ConfideError]) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as problem:
        raise error(f"{path} cannot be read: {problem.strerror or problem}") from problem
    if len(content) > _MAX_BYTES:
        raise error(f"{path} is longer than {_MAX_BYTES} bytes, which no key or certificate is")
    return content
