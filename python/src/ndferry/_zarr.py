"""What zarr-python needs to be told."""

from __future__ import annotations


def register_zarr_types() -> None:
    """Teach zarr-python bfloat16 and the float8 family of ml_dtypes.

    zarr-python 3.2 and later finds them by itself, by entry points; 3.1 lists the entry points and never loads them.
    Where zarr-python does not know them it refuses such an array, and with it every listing of the group that holds it.
    """
    from zarr.core.dtype import data_type_registry

    from ndferry import _zarr_types

    for kind in _zarr_types.ALL:
        data_type_registry.register(kind._zarr_v3_name, kind)
