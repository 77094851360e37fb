"""Names that engines give their quantisations, and the tier each is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshnode.model.quant import TIERS, bits_of, least_bits, split_quant

KNOWN = {
    1: ["IQ1_S", "IQ1_M", "TQ1_0", "1.58bit"],
    2: ["Q2_K", "IQ2_XXS", "TQ2_0", "2-bit", "2.55bpw"],
    3: ["Q3_K_L", "IQ3_XS", "3bit", "3.5bpw"],
    4: ["Q4_K_M", "q4_0", "Q4_K - Medium", "mostly Q4_K - Small", "IQ4_NL", "UD-Q4_K_XL", "4bit", "4-bit", "4.65bpw",
        "AWQ", "GPTQ", "awq_marlin", "MXFP4", "nvfp4", "NF4", "bnb-4bit", "int4", "INT4", "W4A16", "q4f16_1",
        "GPTQ-Int4", "Q4_0_4_4", "4 bit"],
    5: ["Q5_K_M", "q5_1", "5bit", "5.0bpw"],
    6: ["Q6_K", "6bit", "FP6", "6.5bpw", "MXFP6"],
    8: ["Q8_0", "q8_0", "8bit", "FP8", "fp8_e4m3", "F8_E4M3", "float8", "INT8", "W8A8", "GPTQ-Int8", "awq-8bit",
        "MXFP8"],
    16: ["F16", "fp16", "BF16", "bfloat16", "float16", "half", "q0f16", "16bit"],
    32: ["F32", "all F32", "fp32", "float32", "q0f32"],
    0: ["", "unknown", "qat", "llama", "qwen3:8b", "phi-3.5-mini", "f5-tts", "e5-large", "kimi-k2", "64bit", "q",
        "squeeze4", "2.5-72b", "gemma3:4b"],
}  # fmt: skip


@pytest.mark.parametrize(("bits", "name"), [(bits, name) for bits, names in KNOWN.items() for name in names])
def test_a_name_means_its_tier(bits: int, name: str) -> None:
    assert bits_of(name) == bits


@pytest.mark.parametrize(
    ("name", "bits"),
    [("llama3:8b-instruct-q4_K_M", 4), ("Llama-3.1-8B-Instruct-AWQ-INT4", 4), ("Qwen2.5-7B-Instruct-GPTQ-Int8", 8),
     ("smollm2-135m-instruct-q8_0.gguf", 8), ("mlx-community/Qwen3-4B-6bit", 6)],
)  # fmt: skip
def test_a_models_name_may_say_it(name: str, bits: int) -> None:
    assert bits_of(name) == bits


@given(st.text(max_size=200))
def test_any_text_is_a_tier_or_nothing(text: str) -> None:
    assert bits_of(text) in (0, *TIERS)
    assert bits_of(text.upper()) == bits_of(text.upper().lower())


@pytest.mark.parametrize(("wish", "bits"), [("q5", 5), ("Q5_K_M", 5), (" fp16 ", 16), ("8", 8), ("7", 6), ("4bit", 4)])
def test_a_wish_is_any_spelling_or_bare_bits(wish: str, bits: int) -> None:
    assert least_bits(wish) == bits


@pytest.mark.parametrize("wish", ["", "best", "0", "99", "q0", "-4"])
def test_a_wish_that_means_nothing_is_refused(wish: str) -> None:
    with pytest.raises(ValueError, match="no quantisation"):
        least_bits(wish)


@pytest.mark.parametrize(
    ("asked", "name", "bits"),
    [("llama:q5", "llama", 5), ("a/b:7b:Q8", "a/b:7b", 8), ("llama:q4_K_M", "llama:q4_K_M", 0),
     ("llama", "llama", 0), (":q5", ":q5", 0), ("llama:q0", "llama:q0", 0), ("llama:8b", "llama:8b", 0)],
)  # fmt: skip
def test_only_a_bare_tier_behind_a_name_is_a_wish(asked: str, name: str, bits: int) -> None:
    assert split_quant(asked) == (name, bits)
