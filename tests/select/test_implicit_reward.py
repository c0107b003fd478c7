"""`implicit_reward`: DPO's reward of an answer from two models, and why a row has none."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from harness.blocks.kinds import Context
from harness.cli.apply import apply_command
from harness.engines import open_engine
from harness.engines.base import Engine, ModelSpec
from harness.finetune._data import encode_pairs
from harness.loop.drive import Desk, drive
from harness.records.cut import CUT_ANSWER
from harness.records.example import Example
from harness.select._losses import NO_ANSWER, TOO_LONG
from harness.select.implicit_reward import NO_FIT, NO_PROMPT, ImplicitReward

BLOCK = ImplicitReward(model="tuned", reference="base")
PROBLEM = "tag:implicit_reward.problem"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two tiny models of one tokenizer and other weights."""
    from harness.engines import scratch

    found = {role: tmp_path_factory.mktemp(role) for role in ("tuned", "base")}
    texts = ["the quick brown fox jumps over a lazy dog while seven small birds sing in old trees near my house"] * 9
    for seed, folder in enumerate(found.values()):
        scratch.build(folder, hidden=32, layers=2, heads=2, vocab=400, seed=seed, texts=texts)
    return found


@pytest.fixture(scope="module")
def engines(folders: dict[str, Path]) -> Iterator[dict[str, Engine]]:
    opened: dict[str, Engine] = {r: open_engine(ModelSpec(name=r, path=path)) for r, path in folders.items()}
    yield opened
    for engine in opened.values():
        engine.close()


def through(engines: dict[str, Engine], rows: Sequence[Example], block: ImplicitReward = BLOCK) -> dict[str, Any]:
    context = Context(block=block.name, chats={role: engine.chat for role, engine in engines.items()})
    desk = Desk(lambda role: engines[role], context)
    return dict(drive({"batch": block.score(rows, context)}, desk, tolerate=False)["batch"])


def plain(folder: Path) -> Callable[[Example, Any], tuple[float, int]]:
    """Log-probability of a row's answer, and its tokens: one row, one forward pass, the ids that DPO trains."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def one(row: Example, chat: Any) -> tuple[float, int]:
        (pair,) = encode_pairs([replace(row, rejected=f"{row.answer} no")], chat, 4096).rows
        ids = torch.tensor([[*pair.prompt.tolist(), *pair.chosen.tolist()]])
        with torch.no_grad():
            logs = model(ids).logits[0].log_softmax(-1)
        first = len(pair.prompt)
        return float(logs[range(first - 1, ids.shape[1] - 1), ids[0, first:]].double().sum()), len(pair.chosen)

    return one


def test_it_is_beta_times_the_log_ratio_of_what_dpo_trains(
    engines: dict[str, Engine], folders: dict[str, Path], triples: list[Example]
) -> None:
    rows = [*triples, replace(triples[4], id="cut", fields={CUT_ANSWER: True})]
    tuned, base = ([plain(folders[r])(row, engines[r].chat) for row in rows] for r in ("tuned", "base"))
    found = through(engines, rows)
    assert found["logp_model"] == pytest.approx([value for value, _ in tuned], abs=1e-4)
    assert found["logp_reference"] == pytest.approx([value for value, _ in base], abs=1e-4)
    wanted = [0.1 * (one - two) for (one, _), (two, _) in zip(tuned, base, strict=True)]
    assert found["implicit_reward"] == pytest.approx(wanted, abs=1e-4)
    assert found[PROBLEM] == [None] * len(rows)
    assert tuned[-1][1] == tuned[4][1] - 1, "an answer that was cut has no end token"
    means = through(engines, rows, BLOCK.model_copy(update={"per_token": True, "beta": 2.0}))
    wanted = [2 * (one - two) / count for (one, count), (two, _) in zip(tuned, base, strict=True)]
    assert means["implicit_reward"] == pytest.approx(wanted, abs=1e-4)


def test_a_model_that_is_its_own_reference_prefers_nothing(engines: dict[str, Engine], triples: list[Example]) -> None:
    one = {"tuned": engines["tuned"], "base": engines["tuned"]}
    assert through(one, triples)["implicit_reward"] == [0.0] * len(triples)


def test_rows_without_a_reward_say_why(engines: dict[str, Engine], example: Any) -> None:
    fits = example("fits", "a dog", "the quick fox")
    alone = replace(fits, id="alone", messages=fits.messages[1:])
    rows = [example("none", "a", None), example("empty", "a", ""), alone, example("long", "a", "dog " * 200), fits]
    found = through(engines, rows, BLOCK.model_copy(update={"max_length": 60}))
    assert found[PROBLEM] == [NO_ANSWER, NO_ANSWER, NO_PROMPT, NO_FIT, None]
    for name in ("implicit_reward", "logp_model", "logp_reference"):
        assert [value is None for value in found[name]] == [True, True, True, True, False]


def test_a_row_that_one_model_refuses_keeps_what_the_other_says(
    engines: dict[str, Engine], example: Any, score: Any
) -> None:
    import numpy as np

    def say(request: Any) -> Any:
        if request.model == "base":
            return ValueError("prompt of 3005 tokens exceeds the context of 512")
        return type("L", (), {"values": np.full(len(request.ids) - request.start, -1.0, dtype="float32")})()

    chats = {role: engine.chat for role, engine in engines.items()}
    found = score(BLOCK, [example("a", "a dog", "the fox")], say, Context(chats=chats))
    assert found["implicit_reward"] == found["logp_reference"] == [None]
    assert found["logp_model"][0] < -1
    assert found[PROBLEM] == [f"of the reference: {TOO_LONG}"]


def test_a_beta_of_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="beta"):
        ImplicitReward(beta=0)


# --- loopbench apply -------------------------------------------------------------------------------------------------
def applied(folders: dict[str, Path], folder: Path, *words: str) -> Any:
    data = folder / "rows.json"
    data.write_text(
        json.dumps([{"instruction": "a dog", "output": "the quick fox"}, {"instruction": "a", "output": ""}])
    )
    return CliRunner().invoke(
        apply_command, ["implicit_reward", "--data", str(data), *words, "-o", str(folder / "out.jsonl")]
    )


def test_apply_gives_each_role_a_model_of_its_own(
    folders: dict[str, Path], engines: dict[str, Engine], example: Any, tmp_path: Path
) -> None:
    models = ["--model", str(folders["base"]), "--model", f"current={folders['tuned']}"]
    result = applied(folders, tmp_path, *models)
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    wanted = through(engines, [example("a", "a dog", "the quick fox")])["implicit_reward"]
    assert [row["scores"]["implicit_reward"] for row in rows] == [pytest.approx(wanted[0], abs=1e-5), None]
    assert rows[0]["scores"]["implicit_reward"] != 0
    assert rows[1]["tags"] == {"implicit_reward.problem": NO_ANSWER}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "current={tuned}"], "add --model start=PATH"),
        ([], "add --model PATH"),
        (["--model", "{tuned}", "--model", "{base}"], "one for each as ROLE=PATH (roles: current, start)"),
        (["--model", "start={tuned}", "--model", "start={base}"], "one for each as ROLE=PATH (roles: current, start)"),
    ],
)
def test_apply_says_which_model_it_lacks(folders: dict[str, Path], tmp_path: Path, words: list[str], said: str) -> None:
    result = applied(folders, tmp_path, *(word.format(**{k: str(v) for k, v in folders.items()}) for word in words))
    assert result.exit_code != 0
    assert said in f"{result.output} {result.exception}"
