"""bfloat16 and the float8 family for zarr-python: entry points of the group ``zarr.data_type``.

Without them zarr-python refuses an array of such a type, and with it every listing of the group that holds it. The
classes load without ml_dtypes, so that zarr-python works where it is missing; they then match nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from zarr.core.dtype.common import DataTypeValidationError, HasEndianness, HasItemSize
from zarr.core.dtype.npy.common import endianness_to_numpy_str, get_endianness_from_numpy_dtype
from zarr.core.dtype.wrapper import ZDType

try:
    import ml_dtypes
except ImportError:  # pragma: no cover
    ml_dtypes = None  # type: ignore[assignment]


class _Small(ZDType[Any, Any], HasItemSize):  # type: ignore[misc]
    """A type of ml_dtypes."""

    _name: ClassVar[str]

    @classmethod
    def _native(cls) -> np.dtype[Any]:
        if ml_dtypes is None:
            raise DataTypeValidationError(f"data type {cls._name} needs the package ml_dtypes")
        native: np.dtype[Any] = np.dtype(getattr(ml_dtypes, cls._name))
        return native

    @classmethod
    def _check_native_dtype(cls, dtype: Any) -> Any:
        return ml_dtypes is not None and type(dtype) is type(cls._native())

    @classmethod
    def from_native_dtype(cls, dtype: Any) -> Self:
        if not cls._check_native_dtype(dtype):
            raise DataTypeValidationError(f"{dtype} is not {cls._name}")
        return cls()

    def to_native_dtype(self) -> Any:
        return self._native()

    @classmethod
    def _from_json_v2(cls, data: Any) -> Self:
        raise DataTypeValidationError(f"{cls._name} is not in Zarr v2")

    @classmethod
    def _from_json_v3(cls, data: Any) -> Self:
        if data != cls._name and data != {"name": cls._name}:
            raise DataTypeValidationError(f"{data!r} is not {cls._name}")
        cls._native()
        return cls()

    def to_json(self, zarr_format: Any) -> Any:
        if zarr_format == 2:
            raise ValueError(f"{self._name} is not in Zarr v2")
        return self._name

    def _check_scalar(self, data: object) -> bool:
        return isinstance(data, int | float | np.number | self._native().type)

    def cast_scalar(self, data: object) -> Any:
        return self._native().type(data)

    def default_scalar(self) -> Any:
        return np.zeros((), self._native())[()]

    def to_json_scalar(self, data: object, *, zarr_format: Any) -> Any:
        item = np.array(data, self._native()).tobytes()
        return "0x" + item[::-1].hex()

    def from_json_scalar(self, data: Any, *, zarr_format: Any) -> Any:
        if isinstance(data, str) and data.startswith("0x"):
            item = int(data, 16).to_bytes(self.item_size, "little")
            return np.frombuffer(item, self._native())[0]
        named = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
        return self._native().type(named.get(data, data) if isinstance(data, str) else data)

    @property
    def item_size(self) -> int:
        return int(self._native().itemsize)


def _small(name: str) -> type[_Small]:
    members: dict[str, Any] = {"_name": name, "_zarr_v3_name": name}
    if ml_dtypes is not None:
        members["dtype_cls"] = type(np.dtype(getattr(ml_dtypes, name)))
    made = type("".join(part.capitalize() for part in name.split("_")), (_Small,), members)
    return dataclass(frozen=True, kw_only=True)(made)


@dataclass(frozen=True, kw_only=True)
class BFloat16(_Small, HasEndianness):  # type: ignore[misc]
    """bfloat16, in either byte order."""

    _name: ClassVar[str] = "bfloat16"
    _zarr_v3_name: ClassVar[str] = "bfloat16"
    dtype_cls: ClassVar[Any] = None if ml_dtypes is None else type(np.dtype(ml_dtypes.bfloat16))

    @classmethod
    def from_native_dtype(cls, dtype: Any) -> Self:
        super().from_native_dtype(dtype)
        return cls(endianness=get_endianness_from_numpy_dtype(dtype))

    def to_native_dtype(self) -> Any:
        return self._native().newbyteorder(endianness_to_numpy_str(self.endianness))


Float8E3M4 = _small("float8_e3m4")
Float8E4M3 = _small("float8_e4m3")
Float8E4M3B11FNUZ = _small("float8_e4m3b11fnuz")
Float8E4M3FN = _small("float8_e4m3fn")
Float8E4M3FNUZ = _small("float8_e4m3fnuz")
Float8E5M2 = _small("float8_e5m2")
Float8E5M2FNUZ = _small("float8_e5m2fnuz")
Float8E8M0FNU = _small("float8_e8m0fnu")

ALL = (
    BFloat16, Float8E3M4, Float8E4M3, Float8E4M3B11FNUZ, Float8E4M3FN, Float8E4M3FNUZ, Float8E5M2, Float8E5M2FNUZ,
    Float8E8M0FNU,
)  # fmt: skip
