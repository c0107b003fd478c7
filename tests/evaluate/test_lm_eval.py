"""lm-eval tasks: the same prompts, requests and scores as lm-eval's own evaluation gives."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from suite_driver import answers, completion, drive, grades, said

from harness.blocks.kinds import Answer, Ask, Context, Score
from harness.engines.base import Logprobs
from harness.errors import Transient, UserError
from harness.evaluate._lm_encode import continuation, rendered
from harness.evaluate.lm_eval import LMEval
from harness.records.chat import DATE, ChatFormat

CHOICES = """
task: colours
dataset_path: nowhere/colours
output_type: multiple_choice
test_split: test
doc_to_text: "{{question}} "
doc_to_target: "{{answer}}"
doc_to_choice: "{{choices}}"
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
"""


@pytest.fixture(scope="module")
def gsm8k(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("gsm8k")
    for name, count in (("train", 30), ("test", 12)):
        rows = [
            {"question": f"{name} {i}: {i} + 2000?", "answer": f"{i} + 2000 = {i + 2000}\n#### 2,{i:03}"}
            for i in range(count)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return {
        "task": "gsm8k",
        "test_path": str(folder / "test.jsonl"),
        "train_path": str(folder / "train.jsonl"),
        "numeric": True,
    }


@pytest.fixture(scope="module")
def choices(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("choices")
    (folder / "colours.yaml").write_text(CHOICES)
    rows = [{"question": f"Colour {i}:", "choices": ["red", "dark blue", "green"], "answer": i % 3} for i in range(5)]
    (folder / "test.json").write_text(json.dumps(rows))
    return {"task": str(folder / "colours.yaml"), "test_path": str(folder / "test.json")}


def reference_run(suite: LMEval, task: Any, says: Any, fewshot: int, **options: Any) -> list[dict[str, Any]]:
    """lm-eval's own evaluation of the same task object with a model that `says` speaks for; its samples."""
    from lm_eval import simple_evaluate
    from lm_eval.api.model import LM
    from lm_eval.tasks import TaskManager

    class Model(LM):  # type: ignore[misc, unused-ignore]
        tokenizer_name = "none"

        def generate_until(self, requests: Sequence[Any], **_: Any) -> list[str]:
            return [says(r.args[0]) for r in requests]

        def loglikelihood(self, requests: Sequence[Any], **_: Any) -> list[tuple[float, bool]]:
            return [says(*r.args) for r in requests]

        def loglikelihood_rolling(self, requests: Sequence[Any], **_: Any) -> list[float]:
            pytest.fail("no task here asks for the likelihood of whole texts")

        def apply_chat_template(self, history: Any, add_generation_prompt: bool = True) -> str:
            return "".join(f"<{m['role']}>{m['content']}" for m in history) + "<assistant>" * add_generation_prompt

    options |= {"task_manager": TaskManager(include_defaults=False), "bootstrap_iters": 0}
    done = simple_evaluate(Model(), tasks=[task], num_fewshot=fewshot, **options)
    samples: list[dict[str, Any]] = next(iter(done["samples"].values()))
    return samples


def own_task(suite: LMEval) -> Any:
    from harness.evaluate import _lm_build

    (leaf,) = suite._tree().leaves()
    return _lm_build.build(suite._source(leaf, "test"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("chat", [False, True])
def test_prompts_and_scores_are_lm_evals_own(gsm8k: dict[str, Any], chat: bool) -> None:
    suite = LMEval(**gsm8k, fewshot=3, chat_template=chat, system="Think." if chat else None)
    items = suite.items("test")
    texts = [f"it is {2000 + i}" if i % 3 else f"so\n#### 2,{i:03}" for i in range(12)]
    prompts: list[str] = []

    def say(ask: Ask) -> str:
        flat = "".join(f"<{m['role']}>{m['content']}" for m in ask.messages) + "<assistant>"
        prompts.append(flat if ask.text is None else ask.text)
        return texts[len(prompts) - 1]

    given = grades(suite, items, answers(suite, items, say), None)
    by_prompt = dict(zip(prompts, texts, strict=True))
    options = (
        {"apply_chat_template": True, "fewshot_as_multiturn": True, "system_instruction": "Think."} if chat else {}
    )
    samples = reference_run(suite, own_task(suite), lambda prompt: by_prompt[prompt], 3, **options)
    assert len(samples) == 24
    for sample in samples:
        assert sample["arguments"][0][0] == prompts[sample["doc_id"]]
        assert given[sample["doc_id"]].values[sample["filter"]] == sample["exact_match"]
    assert [g.values["numeric"] for g in given] == [1.0] * 12
    assert sum(g.values["strict-match"] or 0 for g in given) == 4


@pytest.mark.filterwarnings("ignore")
def test_choices_are_scored_as_lm_eval_scores_them(choices: dict[str, Any]) -> None:
    suite = LMEval(**choices)
    items = suite.items("test")

    def value(context: str, continuation: str) -> float:
        return -float((len(continuation.strip()) * (int(context.strip()[-2]) + 1) * 7) % 11) - 0.5

    def reply(score: Score) -> Any:
        text = "".join(map(chr, score.ids))
        context, _, continuation = text.partition(":")
        values = np.full(
            len(score.ids) - score.start, value(context + ":", continuation) / (len(score.ids) - score.start)
        )
        return Logprobs(request_id="0", values=values, greedy=values > -0.6)

    given = grades(suite, items, answers(suite, items, reply, Context(chats={"model": Letters()})), None)  # type: ignore[dict-item]
    samples = reference_run(suite, own_task(suite), lambda c, t: (value(c, t), False), 0)
    assert [g.values["acc"] for g in given] == [s["acc"] for s in samples]
    assert [g.values["acc_norm"] for g in given] == [s["acc_norm"] for s in samples]
    assert {0.0, 1.0} == {g.values["acc"] for g in given}
    assert suite.metrics()[0].name == "acc"


class Letters:
    """A chat format whose tokens are characters."""

    name, bos, eos, context = "letters", None, 0, None
    tokenizer = type("T", (), {"bos_token": None, "decode": staticmethod(lambda ids: "".join(map(chr, ids)))})

    def encode(self, text: str, special: bool = False) -> tuple[int, ...]:
        return tuple(map(ord, text))


def test_spaces_move_to_the_continuation() -> None:
    request = continuation("Colour: ", " red", Letters())  # type: ignore[arg-type]
    assert "".join(map(chr, request.ids)) == "Colour:  red"
    assert request.start == len("Colour:")
    alone = continuation("", "red", Letters())  # type: ignore[arg-type]
    assert (alone.ids[0], alone.start) == (0, 1)


def test_generation_settings_and_seeds(gsm8k: dict[str, Any]) -> None:
    suite = LMEval(**gsm8k, fewshot=0)
    seen: list[Ask] = []

    def say(ask: Ask) -> Any:
        seen.append(ask)
        return completion("x", "length")

    item = suite.items("test")[0]
    answer = drive(suite.answer(item, Context(seed=3)), say)
    assert answer.finish == ("length",)
    assert seen[0].sampling.stop == ("Question:", "</s>", "<|im_end|>")
    assert (seen[0].sampling.max_tokens, seen[0].sampling.temperature) == (256, 0.0)
    drive(suite.answer(item, Context(seed=4)), say)
    assert seen[0].fixed_seed == seen[1].fixed_seed
    drive(LMEval(**gsm8k, fewshot=0, max_tokens=9).answer(item, Context()), say)
    assert seen[2].sampling.max_tokens == 9


@pytest.mark.parametrize("options", [{"num_beams": 4}, {"do_sample": True, "temperature": 0.7, "top_k": 5}])
def test_what_our_engines_do_not_decode_is_refused(gsm8k: dict[str, Any], options: dict[str, Any]) -> None:
    suite = LMEval(**gsm8k, fewshot=0, limit=1, config={"generation_kwargs": {"until": ["x"], **options}})
    with pytest.raises(UserError, match=r"`generation_kwargs` set (num_beams|top_k), which our engines do not do"):
        answers(suite, suite.items("test"), lambda _: "never")


def test_numeric_needs_a_gold_number(choices: dict[str, Any]) -> None:
    suite = LMEval(**choices, numeric=True, limit=1)
    items = suite.items("test")
    given = [Answer(item=item.id, outputs=("3",), data={"loglikelihoods": [[0.0, True]] * 3}) for item in items]
    with pytest.raises(UserError, match="has no number, so `numeric: true` does not fit"):
        grades(suite, items, given, None)


def test_an_item_that_does_not_fit_is_missing_with_the_reason(gsm8k: dict[str, Any]) -> None:
    suite = LMEval(**gsm8k, fewshot=0, limit=3)
    items = suite.items("test")
    given = answers(suite, items, lambda ask: Transient("too long") if "test 1" in (ask.text or "") else "#### 2,000")
    found = grades(suite, items, given, None)
    assert [g.values["strict-match"] for g in found] == [1.0, None, 0.0]
    assert [g.missing for g in found] == [None, "no answer: too long", None]
    assert list(found[1].values) == [m.name for m in suite.metrics()]
    gone = grades(suite, items, [*given[:2], Answer(item=items[2].id, outputs=())], None)
    assert gone[2].missing == "no answer"


def test_a_log_likelihood_that_is_no_number_is_missing(choices: dict[str, Any]) -> None:
    suite = LMEval(**choices, limit=1)
    items = suite.items("test")
    nan = Logprobs(request_id="0", values=np.array([np.nan]), greedy=np.array([True]))
    context = Context(chats={"model": Letters()})  # type: ignore[dict-item]
    (grade,) = grades(suite, items, answers(suite, items, lambda _: nan, context), None)
    assert grade.missing == "no answer: a log-likelihood is not a finite number"


def test_the_headline_comes_first_and_wrong_answers_are_wrong(gsm8k: dict[str, Any]) -> None:
    assert [m.name for m in LMEval(**gsm8k).metrics()] == ["numeric", "strict-match", "flexible-extract"]
    suite = LMEval(**gsm8k, headline="strict-match", fewshot=0)
    assert suite.metrics()[0].name == "strict-match"
    items = suite.items("test")
    found = grades(suite, items, said(items, [("2000.0",)] * len(items)), None)
    assert list(found[0].values.items()) == [("strict-match", 0.0), ("numeric", 1.0), ("flexible-extract", 0.0)]


def test_dev_rows_are_those_that_the_dataset_withholds(gsm8k: dict[str, Any]) -> None:
    from harness.config.model import Dataset, Withhold
    from harness.records.example import Example, prompt_text
    from harness.records.sources import load

    suite = LMEval(**gsm8k, dev_rows=6, fewshot=2)
    data = Dataset(
        name="d",
        kind="file",
        path=gsm8k["train_path"],
        format="prompt_completion",
        columns={"prompt": "question", "completion": "answer"},
        withhold=Withhold(rows=6),
        part="withheld",
    )
    apart = {prompt_text(row) for row in load(data) if isinstance(row, Example)}
    dev = suite.items("dev")
    assert {item.turns[0] for item in dev} == {f"Question: {text}\nAnswer:" for text in apart}
    shown = json.dumps([item.data["requests"] for item in dev])
    assert all(shown.count(f"Question: {text}\\nAnswer:") == 1 for text in apart), "a dev item was shown as an example"
    assert suite.splits() == ("dev", "test")
    assert [i.data for i in suite.items("test")] == [i.data for i in LMEval(**gsm8k, fewshot=2).items("test")]


def test_changed_data_is_another_suite_wherever_it_lies(gsm8k: dict[str, Any], tmp_path: Path) -> None:
    copy = tmp_path / "copy.jsonl"
    copy.write_text(Path(gsm8k["test_path"]).read_text())
    suite, other = LMEval(**gsm8k), LMEval(**gsm8k | {"test_path": str(copy)})
    assert suite.fingerprint("test") == other.fingerprint("test")
    assert suite.identity_options() == other.identity_options()
    copy.write_text('{"question": "1?", "answer": "#### 1"}')
    assert suite.fingerprint("test") != other.fingerprint("test")
    assert len(other.items("test")) == 1


def test_a_share_set_apart_as_dev_is_not_in_test(gsm8k: dict[str, Any]) -> None:
    suite = LMEval(**gsm8k, fewshot=0, dev=0.4)
    dev, test = ({item.turns[0] for item in suite.items(split)} for split in ("dev", "test"))
    assert dev
    assert test
    assert not dev & test
    assert dev | test == {item.turns[0] for item in LMEval(**gsm8k, fewshot=0).items("test")}


class Dated:
    """A tokenizer whose chat template prints the date that it is given, else today's; tokens are characters."""

    bos_token_id = eos_token_id = bos_token = None

    def apply_chat_template(self, messages: Any, *, add_generation_prompt: bool, **given: Any) -> str:
        said = "".join(m["content"] for m in messages)
        return f"{given.get('date_string', 'today')}: {said}" + ">" * add_generation_prompt

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [ord(letter) for letter in text]}


def test_a_conversation_is_rendered_as_everywhere_else_and_not_with_todays_date() -> None:
    chat = ChatFormat(Dated(), "", "", "dated")
    text = rendered([{"role": "user", "content": "hi"}], False, chat)
    assert text == f"{DATE}: hi>"
    assert chat.text([{"role": "user", "content": "hi"}]) == f"{DATE}: hi"


def test_a_limit_is_called_a_subset(gsm8k: dict[str, Any]) -> None:
    suite = LMEval(**gsm8k, limit=2, fewshot=0)
    assert len(suite.items("test")) == 2
    assert "the first 2 items only" in suite.notes()[0]


@pytest.mark.parametrize(("options", "message"), [
    ({"task": "gsm8q"}, "no task, group or tag named 'gsm8q'.*gsm8k"),
    ({"task": "gsm8k", "headline": "acc"}, "its metrics: strict-match, flexible-extract"),
    ({"task": "/nowhere/x.yaml"}, "which is not there"),
])  # fmt: skip
def test_a_mistake_is_found_before_anything_runs(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        LMEval(**options).metrics()


def test_examples_without_a_file_are_refused(gsm8k: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="train_path"):
        LMEval(task="gsm8k", test_path=gsm8k["test_path"]).items("test")
    with pytest.raises(ValidationError, match="needs train_path"):
        LMEval(task="gsm8k", test_path=gsm8k["test_path"], dev_rows=3)


def test_tasks_that_run_code_are_refused(gsm8k: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="runs code that the model writes"):
        LMEval(**gsm8k | {"task": "humaneval"}).items("test")
