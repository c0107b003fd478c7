"""The settings of each family of teachers against a table of what the released scripts set (magpie-align/magpie)."""

from __future__ import annotations

import pytest

from harness.synthesize._teachers import TEACHERS
from harness.synthesize.magpie import Magpie

HEADINGS = ("#", "##", "###", "####")
HOT, WARM, COOL = (1.0, 1.0), (0.7, 1.0), (0.6, 1.0)
GREEDY, SAMPLED = (0.0, 1.0), (0.6, 0.9)
SCRIPTS = {
    # family: instruction T / p, answer T / p, line-end stop, sanitised, bans, divisor, caps of both
    "llama-3": (HOT, GREEDY, True, False, (), None, 2048, 4096),
    "llama-3.1-8b": ((0.8, 1.0), SAMPLED, False, True, HEADINGS, None, 1024, 4096),
    "llama-3.1-70b": ((0.9, 1.0), SAMPLED, False, True, HEADINGS, None, 1024, 4096),
    "llama-3.3-70b": (HOT, GREEDY, False, True, (), None, 1024, 4096),
    "qwen2": (HOT, GREEDY, True, False, (), None, 2048, 4096),
    "qwen2-math-7b": (HOT, GREEDY, True, False, (), None, 2048, 4096),
    "qwen2.5-3b": (WARM, GREEDY, True, False, (), None, 2048, 4096),
    "qwen2.5-7b": (WARM, GREEDY, True, False, (), None, 2048, 4096),
    "qwen2.5-14b": (WARM, GREEDY, True, False, (), None, 2048, 4096),
    "qwen2.5-32b": (COOL, GREEDY, True, False, (), None, 2048, 4096),
    "qwen2.5-72b": (COOL, GREEDY, True, False, (), None, 2048, 4096),
    "qwen2.5-coder-32b": (HOT, GREEDY, True, False, (), None, 2048, 4096),
    "qwen2.5-math-72b": (SAMPLED, SAMPLED, True, False, (), 1.2, 2048, 4096),
    "gemma-2": (HOT, GREEDY, False, True, (), None, 512, 2048),
    **dict.fromkeys(
        ("gemma-1.1", "phi-3", "phi-3-small", "mistral-v0.3", "llama-2", "vicuna", "yi-1.5", "deepseek-coder-v2-lite"),
        (HOT, GREEDY, True, False, (), None, 2048, 4096),
    ),
}


def test_every_family_is_in_the_table() -> None:
    assert set(SCRIPTS) == set(TEACHERS)


@pytest.mark.parametrize("family", sorted(SCRIPTS))
def test_a_family_is_sampled_as_its_script_samples_it(family: str) -> None:
    block = Magpie.model_validate({"family": family, "released_stops": True})
    found = (
        (block.temperature, block.top_p),
        (block.response_temperature, block.response_top_p),
        "\n" in block.stops(),
        block.sanitise,
        block.first_bans,
        block.first_divisor,
        block.max_tokens,
        block.response_max_tokens,
    )
    assert found == SCRIPTS[family]
    assert "assistant" in block.stops()
    assert not Magpie.model_validate({"family": family}).stops(), "textual stops are the released code's, not ours"
