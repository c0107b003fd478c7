"""The adapter against lm-eval's own `hf` model on the same weights, item by item: responses and metrics."""

from __future__ import annotations

from pathlib import Path

import pytest
from lm_reference import Rows, assert_equal_item_by_item, engine_of, ours, theirs, write

from harness.engines import scratch
from harness.evaluate.lm_eval import LMEval

pytestmark = pytest.mark.filterwarnings("ignore")
WORDS = "the quick brown fox jumps over lazy dogs while seven green boats sail past old stone bridges".split()
TEXTS = [f"Question: is {a} {b}? Answer: {b}, not {a}." for a in WORDS for b in WORDS]


def words(start: int, count: int) -> str:
    return " ".join(WORDS[(start * 7 + i * (start % 5 + 1)) % len(WORDS)] for i in range(count))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two layers with 192 tokens of context, its weights scaled up so that its answers differ."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("tiny")
    scratch.build(folder, hidden=64, layers=2, heads=4, vocab=400, seed=0, texts=TEXTS, context=192)
    model = AutoModelForCausalLM.from_pretrained(folder)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data *= 5
    model.save_pretrained(folder)
    return folder


def hellaswag(count: int) -> Rows:
    return [
        {
            "activity_label": words(i, 2),
            "ctx_a": words(i + 1, 6),
            "ctx_b": words(i + 2, 3),
            "endings": [f"{words(i + j, 4 + j)} [title] end." for j in range(4)],
            "label": str(i % 4),
        }
        for i in range(count)
    ]


def arc(count: int) -> Rows:
    return [
        {
            "question": words(i, 9) + "?",
            "choices": {"text": [words(i * 3 + j, 2 + j) for j in range(4)], "label": list("ABCD")},
            "answerKey": "ABCD"[i % 4],
        }
        for i in range(count)
    ]


def winogrande(count: int) -> Rows:
    return [
        {
            "sentence": f"{words(i, 5)} _ {words(i + 3, 4)}.",
            "option1": "fox",
            "option2": "boats",
            "answer": str(1 + i % 2),
        }
        for i in range(count)
    ]


def truthful(count: int) -> Rows:
    return [
        {
            "question": words(i, 7) + "?",
            "mc1_targets": {"choices": [words(i + j, 3) for j in range(3)], "labels": [1, 0, 0]},
            "mc2_targets": {"choices": [words(i + j, 2 + j) for j in range(4)], "labels": [1, 1, 0, 0]},
        }
        for i in range(count)
    ]


def mmlu(count: int) -> Rows:
    return [
        {"question": words(i, 8), "choices": [words(i + j, 2) for j in range(4)], "answer": i % 4} for i in range(count)
    ]


CHOICES: dict[str, tuple[dict[str, Rows], int]] = {
    "hellaswag": ({"train": hellaswag(6), "validation": hellaswag(8)}, 2),
    "arc_challenge": ({"train": arc(9), "test": arc(8)}, 3),
    "winogrande": ({"train": winogrande(7), "validation": winogrande(9)}, 1),
    "truthfulqa_mc1": ({"validation": truthful(6)}, 0),
    "truthfulqa_mc2": ({"validation": truthful(6)}, 0),
}


@pytest.mark.parametrize("task", CHOICES)
def test_choices(tiny: Path, tmp_path: Path, task: str) -> None:
    splits, shots = CHOICES[task]
    write(tmp_path, task, **splits)
    suite = LMEval(task=task, folder=str(tmp_path), fewshot=shots)
    run = ours(engine_of(tiny), suite)
    names = [m.name for m in suite.metrics()]
    if task == "winogrande":
        assert run[0][0].turns[0].count("\n") == 1, "an item's own text is both fillings, without examples"
    assert names == (["acc", "acc_norm"] if task in ("hellaswag", "arc_challenge") else ["acc"])
    assert_equal_item_by_item(run, theirs(tiny, suite, tmp_path), names)


GROUP = (
    "group: two\ntask: [mmlu_anatomy, mmlu_virology]\naggregate_metric_list: [{metric: acc, weight_by_size: false}]\n"
)


def test_a_group_with_a_chat_template_and_examples_as_turns(tiny: Path, tmp_path: Path) -> None:
    write(tmp_path, "mmlu_anatomy", test=mmlu(8), dev=mmlu(5))
    write(tmp_path, "mmlu_virology", test=mmlu(4), dev=mmlu(5))
    (tmp_path / "two.yaml").write_text(GROUP)
    options = {"folder": str(tmp_path), "fewshot": 1, "chat_template": True, "system": "Be brief."}
    suite = LMEval(task=str(tmp_path / "two.yaml"), **options)
    run, reference = ours(engine_of(tiny), suite), theirs(tiny, suite, tmp_path)
    assert {item.category for item in run[0]} == {"mmlu_anatomy", "mmlu_virology"}
    assert_equal_item_by_item(run, reference, ["acc"])
    found = suite.summarise(run[2])
    means = [reference["results"][f"mmlu_{name}"]["acc,none"] for name in ("anatomy", "virology")]
    assert [found[f"acc:mmlu_{name}"] for name in ("anatomy", "virology")] == pytest.approx(means)
    assert found["acc:two"] == pytest.approx(sum(means) / 2), "each subject weighs the same, as the group says"
    assert (found["acc:two.n"], found["acc:two.missing"]) == (12, 0)
    assert (found["acc:two.low"] or 0) < sum(means) / 2 < (found["acc:two.high"] or 0)


def test_perplexity_of_texts_longer_than_the_context(tiny: Path, tmp_path: Path) -> None:
    write(tmp_path, "wikitext", test=[{"page": words(i, 60 + 90 * i)} for i in range(6)])
    suite = LMEval(task="wikitext", folder=str(tmp_path))
    run, reference = ours(engine_of(tiny), suite), theirs(tiny, suite, tmp_path)
    assert_equal_item_by_item(run, reference, [])
    found, results = suite.summarise(run[2]), reference["results"]["wikitext"]
    for name in ("word_perplexity", "byte_perplexity", "bits_per_byte"):
        assert found[name] == pytest.approx(results[f"{name},none"], rel=1e-4)
        assert (found[f"{name}.low"] or 0) < (found[name] or 0) < (found[f"{name}.high"] or 0)
        assert (found[f"{name}.n"], found[f"{name}.missing"]) == (6, 0)
    assert all(not metric.higher_is_better for metric in suite.metrics())


def test_the_last_word_and_its_perplexity(tiny: Path, tmp_path: Path) -> None:
    write(tmp_path, "lambada_openai", test=[{"text": words(i, 12 + 30 * i)} for i in range(8)])
    suite = LMEval(task="lambada_openai", folder=str(tmp_path))
    run, reference = ours(engine_of(tiny), suite), theirs(tiny, suite, tmp_path)
    assert_equal_item_by_item(run, reference, ["acc"])
    assert [m.name for m in suite.metrics()] == ["acc", "item_perplexity"]
    perplexity = reference["results"]["lambada_openai"]["perplexity,none"]
    assert suite.summarise(run[2])["perplexity"] == pytest.approx(perplexity, rel=1e-4)
    assert any(answer.data.get("cut") for answer in run[1]), "some texts do not fit the context of 192 tokens"
    cut = [grade for grade in run[2] if "cut" in grade.tags]
    assert suite.summarise(run[2])["n_cut"] == len(cut) > 0


WRITE = """
task: write
dataset_path: nowhere/write
output_type: generate_until
test_split: test
training_split: train
doc_to_text: "{{question}} Answer:"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["UNTIL", "<|im_start|>"], do_sample: false}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""


@pytest.mark.parametrize("chat", [False, True])
def test_written_answers_stop_where_lm_evals_do(tiny: Path, tmp_path: Path, chat: bool) -> None:
    rows = [{"question": words(i, 4 + 12 * i), "answer": words(i, 1)} for i in range(12)]
    write(tmp_path, "write", test=rows, train=rows[3:9])
    task = tmp_path / "write.yaml"
    options = {"task": str(task), "folder": str(tmp_path), "fewshot": 1, "max_tokens": 40, "chat_template": chat}
    stop, lengths = "zzzz", []
    for _ in range(2):
        task.write_text(WRITE.replace("UNTIL", stop))
        suite = LMEval(**options)
        run = ours(engine_of(tiny), suite)
        assert_equal_item_by_item(run, theirs(tiny, suite, tmp_path), ["exact_match"])
        lengths.append(sum(len(answer.outputs[0]) for answer in run[1]))
        assert any(answer.data.get("cut") for answer in run[1])
        longest = max((answer.outputs[0] for answer in run[1]), key=len)
        stop = longest[len(longest) // 2 :][:2].replace('"', "").replace("\\", "") or "e"
    assert lengths[1] < lengths[0], "the stop string cut nothing"


def test_instructions_that_a_program_checks(tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("langdetect", reason="IFEval needs lm-eval[ifeval]")
    names = ["punctuation:no_comma", "length_constraints:number_words", "detectable_format:number_bullet_lists"]
    kwargs = [{}, {"relation": "at least", "num_words": 3}, {"num_bullets": 2}]
    rows = [
        {"key": i, "prompt": words(i, 8), "instruction_id_list": names[: 1 + i % 3], "kwargs": kwargs[: 1 + i % 3]}
        for i in range(6)
    ]
    write(tmp_path, "ifeval", train=rows)
    suite = LMEval(task="ifeval", folder=str(tmp_path), max_tokens=30)
    run, reference = ours(engine_of(tiny), suite), theirs(tiny, suite, tmp_path)
    assert_equal_item_by_item(run, reference, ["prompt_level_strict_acc", "prompt_level_loose_acc"])
    found = suite.summarise(run[2])
    for name in ("inst_level_strict_acc", "inst_level_loose_acc"):
        assert found[name] == pytest.approx(reference["results"]["ifeval"][f"{name},none"])
    assert suite.gold(run[0][0]) is None, "no text is known to follow every instruction"


def test_nearness_to_true_answers(tiny: Path, tmp_path: Path) -> None:
    rows = [
        {"question": words(i, 6), "correct_answers": [words(i, 4), "x"], "incorrect_answers": [words(i + 1, 4)]}
        for i in range(3)
    ]
    write(tmp_path, "truthfulqa_gen", validation=rows)
    suite = LMEval(task="truthfulqa_gen", folder=str(tmp_path), max_tokens=12, headline="bleu_acc")
    names = [metric.name for metric in suite.metrics()]
    assert (names[0], len(names)) == ("bleu_acc", 12)
    assert_equal_item_by_item(ours(engine_of(tiny), suite), theirs(tiny, suite, tmp_path), names)


def test_our_engine_as_a_model_of_lm_eval(tiny: Path, tmp_path: Path) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager
    from lm_reference import evaluated

    from harness.evaluate.lm_model import lm

    write(tmp_path, "wikitext", test=[{"page": words(i, 80 + 90 * i)} for i in range(3)])
    write(tmp_path, "arc_challenge", test=arc(5), train=arc(6))
    write(tmp_path, "write", test=[{"question": words(i, 5), "answer": "x"} for i in range(4)])
    (tmp_path / "write.yaml").write_text(WRITE.replace("UNTIL", "x"))
    manager = TaskManager(include_defaults=False)
    for name, metrics in (
        ("wikitext", []),
        ("arc_challenge", ["acc"]),
        (str(tmp_path / "write.yaml"), ["exact_match"]),
    ):
        suite = LMEval(task=name, folder=str(tmp_path), fewshot=0, max_tokens=None if name != "write" else 30)
        if name.endswith("yaml"):
            suite = suite.model_copy(update={"max_tokens": 30})
        engine = engine_of(tiny)
        done = evaluated(lm(engine), suite, tmp_path, simple_evaluate, manager)
        assert_equal_item_by_item(ours(engine, suite), done, metrics)


@pytest.fixture(scope="module")
def begun(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a tokenizer that puts a BOS token before every text, as Llama's does."""
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, tokenizer = tmp_path_factory.mktemp("begun"), AutoTokenizer.from_pretrained(tiny)
    bos = scratch.END
    number = tokenizer.convert_tokens_to_ids(bos)
    processor = TemplateProcessing(single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, number)])
    tokenizer.backend_tokenizer.post_processor = processor
    tokenizer.bos_token = bos
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    tokenizer.save_pretrained(folder)
    AutoModelForCausalLM.from_pretrained(tiny).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("chat", [False, True])
def test_a_tokenizer_that_begins_texts(begun: Path, tmp_path: Path, chat: bool) -> None:
    write(tmp_path, "arc_challenge", test=arc(5), train=arc(6))
    write(tmp_path, "wikitext", test=[{"page": words(i, 100 + 90 * i)} for i in range(3)])
    write(tmp_path, "write", test=[{"question": words(i, 5 + 30 * i), "answer": "x"} for i in range(6)])
    (tmp_path / "write.yaml").write_text(WRITE.replace("UNTIL", "e"))
    engine = engine_of(begun)
    assert engine.chat.encode("fox", special=True)[0] == engine.chat.bos
    for name, metrics in (
        ("arc_challenge", ["acc"]),
        ("wikitext", []),
        (str(tmp_path / "write.yaml"), ["exact_match"]),
    ):
        limit = 30 if name.endswith("yaml") else None
        shots = 1 if name == "arc_challenge" else 0
        suite = LMEval(task=name, folder=str(tmp_path), fewshot=shots, chat_template=chat, max_tokens=limit)
        assert_equal_item_by_item(ours(engine, suite), theirs(begun, suite, tmp_path), metrics)


@pytest.mark.parametrize("name", ["base", "chat"])
def test_the_pocket_models(name: str, tmp_path: Path) -> None:
    import harness

    folder = Path(harness.__file__).parent / "pocket" / "models" / name
    write(tmp_path, "arc_challenge", test=arc(6), train=arc(6))
    write(tmp_path, "write", test=[{"question": words(i, 3), "answer": "x"} for i in range(6)])
    (tmp_path / "write.yaml").write_text(WRITE.replace("UNTIL", "e"))
    engine = engine_of(folder)
    for task, metrics in (("arc_challenge", ["acc", "acc_norm"]), (str(tmp_path / "write.yaml"), ["exact_match"])):
        limit = 30 if task.endswith("yaml") else None
        suite = LMEval(task=task, folder=str(tmp_path), fewshot=0, chat_template=name == "chat", max_tokens=limit)
        assert_equal_item_by_item(ours(engine, suite), theirs(folder, suite, tmp_path), metrics)


def test_an_answer_that_the_task_begins(tiny: Path, tmp_path: Path) -> None:
    write(tmp_path, "write", test=[{"question": words(i, 5), "answer": "x"} for i in range(4)])
    (tmp_path / "write.yaml").write_text(WRITE.replace("UNTIL", "zzzz") + 'gen_prefix: "My answer is"\n')
    task, folder = str(tmp_path / "write.yaml"), str(tmp_path)
    suite = LMEval(task=task, folder=folder, fewshot=0, chat_template=True, max_tokens=20)
    assert_equal_item_by_item(ours(engine_of(tiny), suite), theirs(tiny, suite, tmp_path), ["exact_match"])


def test_an_answer_that_leaves_no_room_is_refused(tiny: Path, tmp_path: Path) -> None:
    from harness.errors import UserError

    write(tmp_path, "write", test=[{"question": "a", "answer": "x"}])
    (tmp_path / "write.yaml").write_text(WRITE)
    suite = LMEval(task=str(tmp_path / "write.yaml"), folder=str(tmp_path), fewshot=0)
    with pytest.raises(UserError, match="answers of up to 256 tokens leave no room .* 192 tokens .* set `max_tokens`"):
        ours(engine_of(tiny), suite)


def test_grades_do_not_depend_on_the_other_items(tiny: Path, tmp_path: Path) -> None:
    from harness.blocks.kinds import Context
    from harness.loop.drive import Desk, drive

    write(tmp_path, "lambada_openai", test=[{"text": words(i, 12)} for i in range(6)])
    suite = LMEval(task="lambada_openai", folder=str(tmp_path))
    engine = engine_of(tiny)
    items, answers, whole = ours(engine, suite)
    desk = Desk(engine=lambda _: engine, context=Context())
    parts = []
    for at in (0, 2, 4):
        made = {"all": suite.grade(items[at : at + 2], answers[at : at + 2], None, Context())}
        parts += drive(made, desk, tolerate=False)["all"]
    assert parts == whole
