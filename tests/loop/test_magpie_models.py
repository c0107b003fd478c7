"""Which models can write a user's turn, and what is said of those that cannot."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.blocks import registry
from harness.config import load_model
from harness.config.model import Model
from harness.engines import scratch
from harness.engines.base import ModelSpec
from harness.engines.open import capabilities
from harness.errors import StageFailed, UserError
from harness.loop.apply import Applied, apply
from harness.synthesize.magpie import Magpie
from harness.synthesize.respond import Respond


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    texts = ["the cat sat on the mat"] * 9
    scratch.build(tmp_path / "model", hidden=16, layers=1, heads=2, vocab=300, seed=0, texts=texts, context=64)
    return tmp_path / "model"


def retold(folder: Path, template: str | None) -> None:
    """Gives the model another chat template, or none."""
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    file = folder / "tokenizer_config.json"
    about = json.loads(file.read_text())
    about.pop("chat_template", None)
    file.write_text(json.dumps(about if template is None else about | {"chat_template": template}))


def applied(folder: Path, tmp_path: Path, **options: int) -> Applied:
    given = {"rows": 3, "max_tokens": 40, "stop": tuple("aeiost"), "response_max_tokens": 6, "keep_cut": True}
    block = Magpie.model_validate(given | options)
    return apply(block, None, Model(name="one", path=str(folder)), 0, tmp_path / "work")


def test_rows_come_from_nothing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPBENCH_HOME", str(tmp_path / "home"))
    pocket = load_model("pocket/chat", registry)
    done = apply(Magpie(rows=3, max_tokens=90, response_max_tokens=90), None, pocket, 0, tmp_path / "pocket")
    assert done.rows
    assert len(done.rows) + len(done.dropped) == 3
    with pytest.raises(UserError, match="respond works on rows: add --data FILE"):
        apply(Respond(), None, Model(name="one", path=str(folder)), 0, tmp_path / "work")


def test_a_model_without_a_chat_template_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOPBENCH_HOME", str(tmp_path / "home"))
    assert "turns" in capabilities(ModelSpec(name="one", path=folder))
    retold(folder, None)
    assert capabilities(ModelSpec(name="one", path=folder)) >= {"generate", "continue"}
    with pytest.raises(UserError, match=r"to 'teacher' to write a user's turn, and .* a model without a chat template"):
        applied(folder, tmp_path)


def test_a_template_whose_prefix_cannot_be_told_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOPBENCH_HOME", str(tmp_path / "home"))
    retold(folder, "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | upper }}<|im_end|>\n{% endfor %}")
    with pytest.raises(
        UserError, match="leaves the user's text out or rewrites it: where it would begin cannot be told"
    ):
        applied(folder, tmp_path)


def test_what_leaves_no_room_for_an_answer_fails_with_the_reason(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The instruction fits the context of 64 tokens, the conversation with it does not."""
    monkeypatch.setenv("LOOPBENCH_HOME", str(tmp_path / "home"))
    ended = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    retold(folder, ended + "{% if add_generation_prompt %}" + "the cat sat on the mat " * 12 + "{% endif %}")
    with pytest.raises(StageFailed, match=r"magpie leaves no rows \(.*\d response not possible"):
        applied(folder, tmp_path, rows=8)
