from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tuning import examples, turn

from harness.blocks.kinds import TrainContext
from harness.errors import StageFailed
from harness.finetune._batches import Order
from harness.finetune._guards import Watch
from harness.finetune._mask import mask_problem
from harness.finetune.sft import Sft
from harness.records.chat import ChatFormat
from harness.records.example import Example

OPEN, CLOSE = "{% generation %}", "{% endgeneration %}"
USERS = (
    "{% for message in messages %}"
    + OPEN
    + "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' }}"
    + CLOSE
    + "{{ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def with_template(base: Path, folder: Path, template: str) -> Path:
    shutil.copytree(base, folder)
    (folder / "chat_template.jinja").write_text(template)
    return folder


def test_a_template_that_trains_users_is_refused_by_row(
    context: Callable[..., TrainContext], base: Path, tmp_path: Path
) -> None:
    wrong = with_template(base, tmp_path / "wrong", USERS)
    with pytest.raises(StageFailed) as failure:
        Sft(epochs=1).train(examples(10), context(start=wrong))
    text = str(failure.value)
    assert "trains words of the user, in 10 rows: row/0, row/1, " in text
    assert "and 2 more" in text
    assert "{% generation %}" in text
    assert not (tmp_path / "run" / "model").exists()


def test_the_same_template_may_train_on_all(context: Callable[..., TrainContext], base: Path, tmp_path: Path) -> None:
    wrong = with_template(base, tmp_path / "wrong", USERS)
    assert Sft(epochs=1, loss_on="all").train(examples(4), context(start=wrong)).rows == 4


def test_single_tokens_out_of_place_are_noticed(base: Path) -> None:
    chat = ChatFormat.from_folder(base)
    row = Example(id="r", messages=(turn("user", "blue red nine?"), turn("assistant", "plum over seven.")))
    ids, mask = chat.mask(row.messages)
    assert mask_problem(row, ids, mask, chat) is None
    said = {"user": "bluerednine?"}
    opening = len("".join(chat.decode(ids[: mask.index(1)]).split())) - len(said["user"]) - len("assistant")
    for at, flag in enumerate(mask):
        before = len("".join(chat.decode(ids[:at]).split()))
        theirs = opening <= before < opening + len(said["user"])
        if chat.decode([ids[at]]).strip() and (flag or theirs):
            other = (*mask[:at], 1 - flag, *mask[at + 1 :])
            problem = mask_problem(row, ids, other, chat)
            assert problem == ("leaves out words of the assistant" if flag else "trains words of the user")


@pytest.mark.parametrize("trained", [0, 6])
def test_a_batch_must_train_what_its_rows_train(trained: int) -> None:
    watch = Watch(["a", "b"], [9, 9], [3, 4], Order([9, 9], 0, 2, False), "", 60.0, None)
    watch.check_trained([0, 1], 7)
    with pytest.raises(StageFailed, match=f"trains {trained} tokens where its rows train 7. Its rows: a, b"):
        watch.check_trained([0, 1], trained)
