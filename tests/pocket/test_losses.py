"""The loss of the pocket models, and growing a trained one."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest

from harness.pocket.batches import IGNORED, chat_row, document_row, tensors
from harness.pocket.chats import chat
from harness.pocket.documents import document
from harness.pocket.losses import STRAY_WEIGHT, training_loss
from harness.pocket.shape import SHAPES, grow, new_model
from harness.pocket.tokens import build

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build()


def test_without_open_places_it_is_the_usual_cross_entropy(tokenizer: PreTrainedTokenizerFast) -> None:
    import torch

    rng = Random(1)
    given = tensors([document_row(document(rng), tokenizer) for _ in range(4)], tokenizer.pad_token_id)
    logits = torch.randn(*given.ids.shape, len(tokenizer), generator=torch.Generator().manual_seed(0))
    usual = torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), given.labels[:, 1:].flatten(), ignore_index=IGNORED
    )
    assert float(training_loss(logits, given)) == pytest.approx(float(usual), rel=1e-5)


def test_an_open_place_costs_least_when_the_whole_table_is_predicted(tokenizer: PreTrainedTokenizerFast) -> None:
    import torch

    given = tensors([chat_row(chat(Random(3), kind="single"), tokenizer)], tokenizer.pad_token_id)
    places, tokens, shares = given.spread
    assert len(places)
    right = torch.full((*given.ids.shape, len(tokenizer)), -30.0)
    for at, label in enumerate(given.labels[0].tolist()):
        if at and label != IGNORED:
            right[0, at - 1, label] = 0.0
    right[0, places - 1, tokens] = shares.log()
    stray = right.clone()
    stray[0, int(places[-1]) - 1, tokenizer.unk_token_id] = 0.0  # half of the probability on what cannot stand there
    entropy = -(shares * shares.log()).sum()
    count = int((given.labels[0, 1:] != IGNORED).sum()) + len(places.unique())
    assert float(training_loss(right, given)) == pytest.approx(float(entropy) / count, rel=1e-3)
    extra = (1 + STRAY_WEIGHT * float(given.closed[0, int(places[-1])])) * 0.6931 / count
    assert float(training_loss(stray, given) - training_loss(right, given)) == pytest.approx(extra, rel=1e-2)


def test_a_verdict_counts_more_than_the_lines_before_it(tokenizer: PreTrainedTokenizerFast) -> None:
    row = chat_row(chat(Random(1), kind="critique"), tokenizer)
    heavy = tokenizer.decode(row.ids[row.heavy.start : row.heavy.stop], skip_special_tokens=True)
    assert heavy.strip().startswith("problem :")
    assert not chat_row(chat(Random(1), kind="double"), tokenizer).heavy


def test_a_grown_model_computes_what_the_trained_one_does(tokenizer: PreTrainedTokenizerFast) -> None:
    import torch

    small = new_model("chat", tokenizer, layers=SHAPES["chat"].layers - 3)
    big = new_model("chat", tokenizer)
    grow(big, small.state_dict())
    ids = torch.randint(0, len(tokenizer), (2, 24), generator=torch.Generator().manual_seed(0))
    assert torch.equal(small(ids).logits, big(ids).logits)
    with pytest.raises(ValueError, match="cannot grow"):
        grow(small, big.state_dict())
