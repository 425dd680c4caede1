"""G.711 against the Recommendation's own tables: segments, decision values and quantised values.

ITU-T G.711 (11/88) gives, for each law, 8 segments of growing step (tables 1 and 2). A code's value is the
middle of its decision interval. Below, those tables are built from the segment definition, and encoding is a
search in them: no bit tricks, nothing shared with the code under test.

What G.711 leaves open: it is defined on 14-bit (μ-law) and 13-bit (A-law) uniform values; how 16-bit samples
are rounded to these, and to which side a value exactly on a decision value goes, is not said. The codec drops
the low 2 or 3 bits (towards minus infinity), as the well-known Sun reference code does; ties go outwards, for
negative A-law inwards. So here only values on the uniform grid are compared, ties as that code has them.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.core.g711 import FRAME_BYTES, Codec

# Table 2: steps of 2, 4, … 256 in 14-bit units; 16 intervals a segment, the first of half width (0-1).
_MU_STEPS = [2 << segment for segment in range(8) for _ in range(16)]
_MU_DECISIONS = [0, 1]
for _step in _MU_STEPS[1:]:
    _MU_DECISIONS.append(_MU_DECISIONS[-1] + _step)
_MU_VALUES = [0] + [(a + b) // 2 for a, b in zip(_MU_DECISIONS[1:], _MU_DECISIONS[2:], strict=False)]

# Table 1: in units of 13 bits (4096 full scale) the two first segments have steps of 2, then 4, 8, … 128.
_A_STEPS = [2 << max(0, segment - 1) for segment in range(8) for _ in range(16)]
_A_DECISIONS = [0]
for _step in _A_STEPS:
    _A_DECISIONS.append(_A_DECISIONS[-1] + _step)
_A_VALUES = [(a + b) // 2 for a, b in zip(_A_DECISIONS, _A_DECISIONS[1:], strict=False)]


def mu_code(value14: int) -> int:
    """Polarity bit 1 for positive; all bits but the polarity are inverted (§3.2 note)."""
    interval = min(127, bisect_right(_MU_DECISIONS, abs(value14)) - 1)
    return (0x80 if value14 >= 0 else 0x00) | (127 - interval)


def mu_value(code: int) -> int:
    magnitude = _MU_VALUES[127 - (code & 0x7F)]
    return magnitude if code & 0x80 else -magnitude


def a_code(value13: int) -> int:
    """Polarity bit 1 for positive; the even bits are inverted (§3.1, note 2 of table 1)."""
    magnitude = value13 if value13 >= 0 else -value13 - 1
    interval = min(127, bisect_right(_A_DECISIONS, magnitude) - 1)
    return ((0x80 if value13 >= 0 else 0x00) | interval) ^ 0x55


def a_value(code: int) -> int:
    plain = code ^ 0x55
    magnitude = _A_VALUES[plain & 0x7F]
    return magnitude if plain & 0x80 else -magnitude


def pcm(values: list[int]) -> bytes:
    return np.array(values, dtype="<i2").tobytes()


def test_the_tables_are_the_recommendations() -> None:
    # Corner values printed in G.711, tables 1a and 2a.
    assert (_MU_DECISIONS[16], _MU_DECISIONS[32], _MU_DECISIONS[112], _MU_DECISIONS[128]) == (
        31,
        95,
        4063,
        8159,
    )
    assert (_MU_VALUES[0], _MU_VALUES[1], _MU_VALUES[127]) == (0, 2, 8031)
    assert (_A_DECISIONS[32], _A_DECISIONS[48], _A_DECISIONS[112], _A_DECISIONS[128]) == (64, 128, 2048, 4096)
    assert (_A_VALUES[0], _A_VALUES[127]) == (1, 4032)


def test_all_mu_law_codes_decode_to_the_tables_values() -> None:
    decoded = np.frombuffer(Codec.PCMU.decode(bytes(range(256))), "<i2")
    assert decoded.tolist() == [4 * mu_value(code) for code in range(256)]


def test_all_a_law_codes_decode_to_the_tables_values() -> None:
    decoded = np.frombuffer(Codec.PCMA.decode(bytes(range(256))), "<i2")
    assert decoded.tolist() == [8 * a_value(code) for code in range(256)]


def test_every_14_bit_value_encodes_to_mu_law() -> None:
    values = range(-8192, 8192)
    assert Codec.PCMU.encode(pcm([4 * v for v in values])) == bytes(mu_code(v) for v in values)


def test_every_13_bit_value_encodes_to_a_law() -> None:
    values = range(-4096, 4096)
    assert Codec.PCMA.encode(pcm([8 * v for v in values])) == bytes(a_code(v) for v in values)


@pytest.mark.parametrize("codec", Codec)
def test_encoding_what_was_decoded_gives_the_same_codes(codec: Codec) -> None:
    codes = bytes(range(256))
    again = codec.encode(codec.decode(codes))
    # μ-law has a negative zero, 0x7F: its value is 0, and zero encodes as the positive one.
    expected = codes.replace(b"\x7f", b"\xff") if codec is Codec.PCMU else codes
    assert again == expected
    assert codec.encode(codec.decode(again)) == again


@pytest.mark.parametrize("codec", Codec)
def test_silence_is_the_code_of_zero(codec: Codec) -> None:
    assert codec.encode(pcm([0])) == codec.silence
    assert abs(int(np.frombuffer(codec.decode(codec.silence), "<i2")[0])) <= 8
    assert len(codec.encode(pcm([0] * FRAME_BYTES))) == FRAME_BYTES


@given(st.lists(st.integers(-32768, 32767), max_size=400), st.sampled_from(Codec))
def test_any_16_bit_audio_keeps_its_order_and_its_loudness(values: list[int], codec: Codec) -> None:
    decoded = np.frombuffer(codec.decode(codec.encode(pcm(values))), "<i2").astype(int)
    assert len(decoded) == len(values)
    for value, back in zip(values, decoded.tolist(), strict=True):
        # Half a step of the segment: never more than 1/32 of the value, plus the smallest steps.
        assert abs(back - max(-32635, min(32635, value))) <= abs(value) / 31 + 16


def test_louder_never_becomes_quieter() -> None:
    ramp = pcm(list(range(-32768, 32768)))
    for codec in Codec:
        decoded = np.frombuffer(codec.decode(codec.encode(ramp)), "<i2").astype(int)
        assert (np.diff(decoded) >= 0).all()
