"""Move large numeric arrays between processes and machines: verified, resumable, stored as Zarr. ::

    import ndferry

    with ndferry.connect() as c:
        receipt = c.put("lab/run7", array)
        same = c.get("lab/run7")

`connect` gives a `Client`. Everything that goes wrong is an `Error`; see `ndferry._errors` for the tree.
"""

from ndferry._client import Client, connect
from ndferry._direct import Received, recv_array, send_array
from ndferry._errors import (
    CancelledError,
    ConflictError,
    ConnectionError,
    DTypeError,
    Error,
    IntegrityError,
    InternalError,
    InvalidError,
    LimitError,
    NoSpaceError,
    NotFoundError,
    PermissionError,
    ProtocolError,
    TemporaryError,
    TimeoutError,
    UnsupportedError,
)
from ndferry._receipt import Damage, Digest, Entry, Receipt, Report, Stat, UncheckedWarning
from ndferry._remote import RemoteArray
from ndferry._zarr import register_zarr_types

__version__ = "0.1.0"

__all__ = [
    "CancelledError",
    "Client",
    "ConflictError",
    "ConnectionError",
    "DTypeError",
    "Damage",
    "Digest",
    "Entry",
    "Error",
    "IntegrityError",
    "InternalError",
    "InvalidError",
    "LimitError",
    "NoSpaceError",
    "NotFoundError",
    "PermissionError",
    "ProtocolError",
    "Receipt",
    "Received",
    "RemoteArray",
    "Report",
    "Stat",
    "TemporaryError",
    "TimeoutError",
    "UncheckedWarning",
    "UnsupportedError",
    "connect",
    "recv_array",
    "register_zarr_types",
    "send_array",
]
