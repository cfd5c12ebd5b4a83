"""Vectors of equal lanes inside numba kernels: one load, one product, one sum at a time.

LLVM does not vectorise loops over 16 elements well: on every entry it must prove that the arrays
do not overlap. So a kernel names its vectors itself. In float32 a vector is LLVM's `<16 x float>`:
one register with AVX-512, two with AVX2, four with SSE or NEON; nothing needs to be switched on.

Arrays are addressed by the offset of an element from the first one. They must be contiguous, and
nothing checks bounds. `a + b`, `a - b` and `a * b` act lane by lane and contract to fused
multiply-adds where the machine has them; nothing is reordered.
"""

import operator
from collections.abc import Callable
from typing import Any, no_type_check

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.extending import intrinsic, lower_builtin, models, register_model, type_callable

from spectramind.model.scan.layout import VECTOR_BYTES

_FLAGS = ("contract", "nsz")
_SCALARS = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}
_MANTISSA_BITS = {types.float32: 23, types.float64: 52}
_LARGEST_EXPONENT = {types.float32: 127.0, types.float64: 1023.0}
# 2^f = 1 + f q(f) for |f| <= 1/2. float32: q interpolates at the Chebyshev points, relative error
# of 2^f 5e-9; float64: Taylor series, 4e-18.
_EXP2_SERIES = {
    types.float32: (
        6.93147188e-01, 2.40226509e-01, 5.55035710e-02,
        9.61805666e-03, 1.33908721e-03, 1.54614516e-04,
    ),
    types.float64: tuple(
        float(term) for term in np.cumprod(np.log(2.0) / np.arange(1.0, 14.0))
    ),
}  # fmt: skip

# Which of two vectors, and which lane of its first half, fills each of four lanes.
_IN_TURN = ((0, 0), (1, 0), (0, 1), (1, 1))
_SIDE_BY_SIDE = ((0, 0), (0, 1), (1, 0), (1, 1))


class Lanes(types.Type):
    """Numba's type of a vector of `count` numbers of type `element`."""

    def __init__(self, element: types.Float) -> None:
        self.element = element
        self.count = VECTOR_BYTES * 8 // element.bitwidth
        super().__init__(f"Lanes({element}, {self.count})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Lanes) -> None:
        super().__init__(manager, kind, _vector(kind))


def _vector(kind: Lanes) -> ir.VectorType:
    return ir.VectorType(_SCALARS[kind.element], kind.count)


def _operator(symbol: Callable[..., Any], instruction: str) -> None:
    """Let `symbol` of two equal vectors be LLVM's `instruction`."""

    @type_callable(symbol)
    @no_type_check
    def typer(context: Any) -> Callable[..., Any]:
        return lambda one, other: one if isinstance(one, Lanes) and one == other else None

    @lower_builtin(symbol, Lanes, Lanes)
    @no_type_check
    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return getattr(builder, instruction)(*args, flags=_FLAGS)


_operator(operator.add, "fadd")
_operator(operator.sub, "fsub")
_operator(operator.mul, "fmul")


@intrinsic
@no_type_check
def load(context, array, at):
    """The vector that starts at offset `at`."""
    kind = Lanes(array.dtype)

    def code(context, builder, signature, args):
        pointer = _address(context, builder, signature, args, _vector(kind))
        return builder.load(pointer, align=kind.element.bitwidth // 8)

    return kind(array, types.intp), code


@intrinsic
@no_type_check
def store(context, array, at, value):
    """Write a vector from offset `at` on."""

    def code(context, builder, signature, args):
        pointer = _address(context, builder, signature, args, args[2].type)
        builder.store(args[2], pointer, align=value.element.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), code


@intrinsic
@no_type_check
def load_some(context, array, at, live):
    """As `load`, but only the first `live` lanes; the others are 0."""
    kind = Lanes(array.dtype)

    def code(context, builder, signature, args):
        vector = _vector(kind)
        pointer = _address(context, builder, signature, args, vector)
        mask = _mask(builder, args[2], kind.count)
        parts = [vector.as_pointer(), ir.IntType(32), mask.type, vector]
        name = f"llvm.masked.load.{_suffix(kind)}.p0"
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, parts), name
        )
        align = ir.Constant(ir.IntType(32), kind.element.bitwidth // 8)
        return builder.call(function, [pointer, align, mask, ir.Constant(vector, None)])

    return kind(array, types.intp, types.intp), code


@intrinsic
@no_type_check
def store_some(context, array, at, value, live):
    """As `store`, but only the first `live` lanes."""

    def code(context, builder, signature, args):
        pointer = _address(context, builder, signature, args, args[2].type)
        mask = _mask(builder, args[3], value.count)
        parts = [args[2].type, pointer.type, ir.IntType(32), mask.type]
        name = f"llvm.masked.store.{_suffix(value)}.p0"
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), parts), name
        )
        align = ir.Constant(ir.IntType(32), value.element.bitwidth // 8)
        builder.call(function, [args[2], pointer, align, mask])
        return context.get_dummy_value()

    return types.void(array, types.intp, value, types.intp), code


@intrinsic
@no_type_check
def splat(context, array, at):
    """The number at offset `at` in every lane."""
    kind = Lanes(array.dtype)

    def code(context, builder, signature, args):
        pointer = _address(context, builder, signature, args, _SCALARS[kind.element])
        return _splat(builder, builder.load(pointer), kind.count)

    return kind(array, types.intp), code


@intrinsic
@no_type_check
def prefetch(context, array, at):
    """Ask for the cache line at offset `at`, which may lie outside."""

    def code(context, builder, signature, args):
        pointer = _address(context, builder, signature, args, ir.IntType(8))
        number = ir.IntType(32)
        parts = [pointer.type, number, number, number]
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), parts), "llvm.prefetch.p0"
        )
        read, second_level, data = (ir.Constant(number, value) for value in (0, 2, 1))
        builder.call(function, [pointer, read, second_level, data])
        return context.get_dummy_value()

    return types.void(array, types.intp), code


@intrinsic
@no_type_check
def fill(context, array, value):
    """`value` in every lane, in the precision of the array's elements."""
    kind = Lanes(array.dtype)

    def code(context, builder, signature, args):
        number = context.cast(builder, args[1], signature.args[1], kind.element)
        return _splat(builder, number, kind.count)

    return kind(array, value), code


@intrinsic
@no_type_check
def exp2(context, value):
    """2 to the power of each lane; powers out of the normal range end at its limits.

    Source: 2^z = 2^n 2^f with n the nearest integer. z + 1.5 * 2^mantissa bits has n in its last
    bits, from where it is shifted into the exponent.
    """
    bits, series = _MANTISSA_BITS[value.element], _EXP2_SERIES[value.element]
    limit = _LARGEST_EXPONENT[value.element]

    def code(context, builder, signature, args):
        def constant(number):
            return ir.Constant(_vector(value), [number] * value.count)

        integers = ir.VectorType(ir.IntType(value.element.bitwidth), value.count)
        z = _bounded(builder, args[0], constant(1.0 - limit), constant(limit))
        shift = constant(1.5 * 2.0**bits)
        shifted = builder.fadd(z, shift)  # without flags: the rounding is what is wanted
        f = builder.fsub(z, builder.fsub(shifted, shift))
        power = constant(series[-1])
        for term in (*series[-2::-1], 1.0):
            product = builder.fmul(power, f, flags=_FLAGS)
            power = builder.fadd(product, constant(term), flags=_FLAGS)
        exponent = builder.shl(
            builder.bitcast(shifted, integers), ir.Constant(integers, [bits] * value.count)
        )
        scaled = builder.add(builder.bitcast(power, integers), exponent)
        return builder.bitcast(scaled, _vector(value))

    return value(value), code


@intrinsic
@no_type_check
def add_totals(context, array, at, v0, v1, v2, v3):
    """Add the sums over the lanes of four vectors to four numbers from offset `at` on."""

    def code(context, builder, signature, args):
        one, other = (_pair_sums(builder, args[i], args[i + 1], _IN_TURN) for i in (2, 4))
        total = _pair_sums(builder, one, other, _SIDE_BY_SIDE)
        while total.type.count > 4:
            half = total.type.count // 2
            low, high = (_shuffle(builder, total, total, range(i, i + half)) for i in (0, half))
            total = builder.fadd(low, high)
        pointer = _address(context, builder, signature, args, total.type)
        before = builder.load(pointer, align=v0.element.bitwidth // 8)
        builder.store(builder.fadd(before, total), pointer, align=v0.element.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, v0, v1, v2, v3), code


def _pair_sums(builder: Any, u: Any, v: Any, order: tuple[tuple[int, int], ...]) -> Any:
    """Within each four lanes, (source, lane) of `order` plus the lane two further on."""
    count = u.type.count
    low = [source * count + four + lane for four in range(0, count, 4) for source, lane in order]
    return builder.fadd(*(_shuffle(builder, u, v, [pick + i for pick in low]) for i in (0, 2)))


def _bounded(builder: Any, z: Any, low: Any, high: Any) -> Any:
    """The lanes between `low` and `high`; NaN stays NaN."""
    z = builder.select(builder.fcmp_ordered("<", z, low), low, z)
    return builder.select(builder.fcmp_ordered(">", z, high), high, z)


def _shuffle(builder: Any, u: Any, v: Any, picks: Any) -> Any:
    index = ir.VectorType(ir.IntType(32), len(picks))
    return builder.shuffle_vector(u, v, ir.Constant(index, list(picks)))


def _splat(builder: Any, scalar: Any, count: int) -> Any:
    vector = ir.VectorType(scalar.type, count)
    one = builder.insert_element(
        ir.Constant(vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0)
    )
    return _shuffle(builder, one, one, [0] * count)


def _mask(builder: Any, live: Any, count: int) -> Any:
    lane = ir.Constant(ir.VectorType(live.type, count), list(range(count)))
    return builder.icmp_signed("<", lane, _splat(builder, live, count))


def _address(context: Any, builder: Any, signature: Any, args: Any, target: Any) -> Any:
    """Pointer to `target` at the offset that is the second argument of an array intrinsic."""
    array = context.make_array(signature.args[0])(context, builder, args[0])
    pointer = builder.gep(array.data, [args[1]])
    return builder.bitcast(pointer, target.as_pointer())


def _suffix(kind: Lanes) -> str:
    return f"v{kind.count}f{kind.element.bitwidth}"
