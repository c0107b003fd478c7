"""The decode loop on the kinds of model that are common, each with random weights, against its own plain forward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engines.conftest import Opener, Requests, first_gap, sharpen

from harness.engines.base import LogprobRequest
from harness.errors import UserError

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 318}
GLU = SIZES | {"num_key_value_heads": 2, "intermediate_size": 64, "max_position_embeddings": 96, "pad_token_id": 1}
KINDS: dict[str, dict[str, Any]] = {
    "Llama": GLU | {"tie_word_embeddings": True},
    "Qwen2": GLU,
    "Qwen3": GLU | {"head_dim": 8},
    "Mistral": GLU | {"sliding_window": 12},
    "Gemma2": GLU | {"sliding_window": 12, "head_dim": 8, "final_logit_softcapping": 20.0},
    "Phi3": GLU | {"sliding_window": None},
    "GPTNeoX": SIZES | {"intermediate_size": 64, "max_position_embeddings": 96},
    "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 318, "n_positions": 96},
}


def build(kind: str, tokenizer: Path, folder: Path) -> Path:
    import torch
    import transformers
    from transformers import AutoTokenizer

    config = getattr(transformers, f"{kind}Config")(**KINDS[kind])
    if kind == "GPT2":
        config.bos_token_id = config.eos_token_id = 2
    torch.manual_seed(1)
    getattr(transformers, f"{kind}LMHeadModel" if kind == "GPT2" else f"{kind}ForCausalLM")(config).save_pretrained(
        folder
    )
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)
    sharpen(folder)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_decoded_and_scored_as_its_own_forward_would(
    kind: str, tiny: Path, opener: Opener, requests: Requests, tmp_path: Path
) -> None:
    import torch

    engine = opener(build(kind, tiny, tmp_path), batch_rows=5)
    assert engine._forward is not None
    assert engine.context == 96
    assert (engine._forward.window is not None) == (kind in {"Mistral", "Gemma2"})
    model = engine._forward.model
    asked = requests(8, max_tokens=30)
    for completion in engine.generate(asked):
        request = next(r for r in asked if r.id == completion.request_id)
        gap = first_gap(model, request, 0, completion.token_ids)
        assert gap is None or gap < 1e-3
    for result in engine.logprobs([LogprobRequest(id=r.id, ids=r.prompt + r.prompt, start=1) for r in asked]):
        ids = torch.tensor([next(r.prompt + r.prompt for r in asked if r.id == result.request_id)])
        with torch.inference_mode():
            truth = model(input_ids=ids).logits[0, :-1].float().log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
        np.testing.assert_allclose(result.values, truth.numpy(), atol=2e-4)


def test_half_precision_runs(tiny: Path, opener: Opener, requests: Requests) -> None:
    engine = opener(tiny, dtype="bfloat16")
    assert engine._forward is not None
    assert str(engine._forward.dtype) == "torch.bfloat16"
    assert len(list(engine.generate(requests(4, max_tokens=4)))) == 4
    (scored,) = engine.logprobs([LogprobRequest(id="x", ids=(20, 21, 22), start=0)])
    assert scored.values.dtype == np.float32


def test_a_recurrent_model_is_refused(tiny: Path, opener: Opener, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, MambaConfig, MambaForCausalLM

    MambaForCausalLM(MambaConfig(hidden_size=16, num_hidden_layers=1, vocab_size=318)).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="MambaForCausalLM has layers with .*cannot decode"):
        opener(tmp_path)
