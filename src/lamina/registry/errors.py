"""What goes wrong in a registry, in the specification's codes ("Error Codes")."""

from __future__ import annotations

from lamina.errors import Conflict, Corrupt, Exhausted, Forbidden, InvalidArgument, LaminaError, NotFound, Unauthorized, Unsupported


class NameInvalid(InvalidArgument):
    """No repository can have that name."""


class NameUnknown(NotFound):
    """No repository has that name."""


class BlobUnknown(NotFound):
    """The repository does not have the blob."""


class BlobUploadUnknown(NotFound):
    """No upload is under way there."""


class BlobUploadInvalid(InvalidArgument):
    """A piece of an upload does not follow the one before."""

    http_status = 416


class SizeInvalid(InvalidArgument):
    """A length is missing, or is not that of the bytes."""


class ManifestUnknown(NotFound):
    """No manifest has that tag or digest."""


class ManifestInvalid(InvalidArgument):
    """The bytes are not a manifest that this registry keeps."""


class ManifestBlobUnknown(NotFound):
    """A manifest names what the repository does not have."""


class TooLarge(InvalidArgument):
    """A manifest beyond the limit."""

    http_status = 413


class DigestInvalid(InvalidArgument):
    """Bytes do not have the digest they were sent under, or that is not a digest."""


class NotAllowed(Unsupported):
    """The method is not for that path, or is switched off."""

    http_status = 405


_CODES: tuple[tuple[type[LaminaError], str], ...] = (
    (NameInvalid, "NAME_INVALID"),
    (NameUnknown, "NAME_UNKNOWN"),
    (BlobUnknown, "BLOB_UNKNOWN"),
    (BlobUploadUnknown, "BLOB_UPLOAD_UNKNOWN"),
    (BlobUploadInvalid, "BLOB_UPLOAD_INVALID"),
    (SizeInvalid, "SIZE_INVALID"),
    (TooLarge, "MANIFEST_INVALID"),
    (ManifestUnknown, "MANIFEST_UNKNOWN"),
    (ManifestInvalid, "MANIFEST_INVALID"),
    (ManifestBlobUnknown, "MANIFEST_BLOB_UNKNOWN"),
    (DigestInvalid, "DIGEST_INVALID"),
    (NotAllowed, "UNSUPPORTED"),
    (Unauthorized, "UNAUTHORIZED"),
    (Forbidden, "DENIED"),
    (NotFound, "NAME_UNKNOWN"),
    (InvalidArgument, "UNSUPPORTED"),
    (Conflict, "DENIED"),
    (Exhausted, "UNKNOWN"),
    (Corrupt, "UNKNOWN"),
)


def code(error: LaminaError) -> str:
    """The specification's word for an error."""
    return next((word for kind, word in _CODES if isinstance(error, kind)), "UNKNOWN")
