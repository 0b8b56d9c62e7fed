"""The key schedule (RFC 9420 section 8)."""

from dataclasses import dataclass, field

from restante_crypto import primitives
from restante_crypto.mls import codec, labels
from restante_crypto.suites import CipherSuite


@dataclass(frozen=True, slots=True)
class EpochSecrets:
    """The secrets of one epoch; the encryption_secret is not among them: it becomes the secret tree."""

    sender_data_secret: bytes = field(repr=False)
    exporter_secret: bytes = field(repr=False)
    external_secret: bytes = field(repr=False)
    confirmation_key: bytes = field(repr=False)
    membership_key: bytes = field(repr=False)
    resumption_psk: bytes = field(repr=False)
    epoch_authenticator: bytes
    init_secret: bytes = field(repr=False)

    def encode(self) -> bytes:
        """Return the secrets as bytes, for storage."""
        return b"".join(codec.opaque(getattr(self, name)) for name in _FIELDS)

    @classmethod
    def decode(cls, reader: codec.Reader) -> "EpochSecrets":
        """Read what ``encode`` wrote."""
        return cls(*(reader.opaque() for _ in _FIELDS))


_FIELDS = (
    "sender_data_secret",
    "exporter_secret",
    "external_secret",
    "confirmation_key",
    "membership_key",
    "resumption_psk",
    "epoch_authenticator",
    "init_secret",
)


def joiner_secret(suite: CipherSuite, init_secret: bytes, commit_secret: bytes, context: bytes) -> bytes:
    """Return the joiner_secret of the next epoch, whose GroupContext is ``context``."""
    extracted = primitives.hkdf_extract(suite.hash_name, init_secret, commit_secret)
    return labels.expand_with_label(suite, extracted, b"joiner", context, suite.hash_bytes)


def member_secret(suite: CipherSuite, joiner: bytes, psk_secret: bytes) -> bytes:
    """Return the extract of joiner_secret and psk_secret, from which Welcome and epoch secrets derive."""
    return primitives.hkdf_extract(suite.hash_name, joiner, psk_secret)


def welcome_key_nonce(suite: CipherSuite, member: bytes) -> tuple[bytes, bytes]:
    """Return key and nonce of the Welcome's encrypted GroupInfo (section 12.4.3.1)."""
    secret = labels.derive_secret(suite, member, b"welcome")
    return (
        labels.expand_with_label(suite, secret, b"key", b"", suite.key_bytes),
        labels.expand_with_label(suite, secret, b"nonce", b"", suite.nonce_bytes),
    )


def epoch_secrets(suite: CipherSuite, member: bytes, context: bytes) -> tuple[EpochSecrets, bytes]:
    """Return the epoch's secrets and its encryption_secret."""
    return from_epoch_secret(suite, labels.expand_with_label(suite, member, b"epoch", context, suite.hash_bytes))


def from_epoch_secret(suite: CipherSuite, epoch_secret: bytes) -> tuple[EpochSecrets, bytes]:
    """Return what derives from an epoch_secret: the epoch's secrets and its encryption_secret."""

    def derive(label: bytes) -> bytes:
        return labels.derive_secret(suite, epoch_secret, label)

    secrets = EpochSecrets(
        sender_data_secret=derive(b"sender data"),
        exporter_secret=derive(b"exporter"),
        external_secret=derive(b"external"),
        confirmation_key=derive(b"confirm"),
        membership_key=derive(b"membership"),
        resumption_psk=derive(b"resumption"),
        epoch_authenticator=derive(b"authentication"),
        init_secret=derive(b"init"),
    )
    return secrets, derive(b"encryption")


def export(suite: CipherSuite, exporter_secret: bytes, label: bytes, context: bytes, length: int) -> bytes:
    """Return MLS-Exporter(label, context, length), section 8.5; the context is hashed."""
    derived = labels.derive_secret(suite, exporter_secret, label)
    hashed = primitives.hash_bytes(suite.hash_name, context)
    return labels.expand_with_label(suite, derived, b"exported", hashed, length)
