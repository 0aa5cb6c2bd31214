"""An array on the server that is indexed like one in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ndferry._array import Array, Layout
from ndferry._receipt import Stat
from ndferry._region import Part, Selection

if TYPE_CHECKING:
    from ndferry._client import Client


class RemoteArray:
    """An array of a server, made by `Client.open`. Reading needs the client to be open.

    It stays the array that was opened: when the name gets another one, reading raises `ConflictError`.
    """

    def __init__(self, client: Client, stat: Stat, layout: Layout) -> None:
        self._client = client
        self._layout = layout
        self.stat = stat

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return self._layout.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy's dtype, the very one that was put."""
        return self._layout.dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self._layout.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return self._layout.nbytes // self._layout.item.itemsize

    @property
    def attrs(self) -> dict[str, Any]:
        """The user's attributes."""
        return self.stat.attrs

    @property
    def dims(self) -> tuple[str | None, ...]:
        """Names of the axes."""
        return self.stat.dims

    @property
    def chunks(self) -> tuple[int, ...]:
        """Shape of a chunk."""
        return self._layout.cell

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<ndferry.RemoteArray {self.stat.name!r} {self.dtype} {self.shape}>"

    def __getitem__(self, key: Any) -> Any:
        """As NumPy's, for integers, slices, ``...``, and an array of integers or a mask on one axis."""
        selection = Selection(self._layout, key)
        result = selection.empty()
        part = Part(selection, self._layout, result, self.stat.fill_value)
        self._client._read(self.stat.name, self.stat.id, part, selection, None)
        result = selection.shaped(result)
        return result if result.ndim or _is_array_key(key) else result[()]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("the array is on a server: reading it makes a copy")
        whole: Array = np.asarray(self[(...,)])
        return whole if dtype is None else whole.astype(dtype, copy=False)


def _is_array_key(key: Any) -> bool:
    """NumPy returns a 0-d array, and no scalar, for a key with ``...``."""
    return any(part is Ellipsis for part in (key if isinstance(key, tuple) else (key,)))
