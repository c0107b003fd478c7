"""What `plan` says about served models: calls, tokens and money before anything is spent, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import api
from harness.errors import ConfigError, UserError
from harness.loop.forecast import Forecast, forecast
from harness.store.home import Home
from harness.store.spent import Ledger

PRICES = ", prices: {prompt: 10, completion: 20}"
TEXT = """
experiment: judged
models:
  student: STUDENT
  teacher: {url: "http://127.0.0.1:9/v1", model: judge-1PRICES}
  judge: {url: "http://127.0.0.1:9/v1", model: judge-1PRICES}
data: {pool: {use: pocket/defects, options: {rows: 16}}}
sentinels: {answers: WATCHED, repeats: 3}
suites: [{use: pocket, turns: 2, count: 24, max_tokens: 24, judge: {judge: rubric, max_tokens: 100}}]
LIMITS
recipes:
  - recipe: taught
    steps:
      - {select: sample, keep: 4}
      - STEP
"""
RESPOND = "{synthesize: respond, model: teacher, max_tokens: 24}"


def plan(
    folder: Path,
    *,
    prices: str = PRICES,
    limits: str = "",
    step: str = RESPOND,
    student: str = "pocket/chat",
    watched: int = 0,
) -> Forecast:
    text = TEXT.replace("PRICES", prices).replace("LIMITS", limits).replace("STEP", step).replace("STUDENT", student)
    text = text.replace("WATCHED", str(watched))
    (folder / "judged.yaml").write_text(text)
    return forecast(api.plan(str(folder / "judged.yaml")), Home(folder / "home"))


def test_the_judges_calls_are_counted_as_the_suite_will_make_them(tmp_path: Path) -> None:
    said = plan(tmp_path)
    judge = next(calls for calls in said.spending.served if calls.role == "judge")
    teacher = next(calls for calls in said.spending.served if calls.role == "teacher")
    assert judge.calls == 24 * 2, "one for each turn"
    assert judge.completion_tokens == 48 * 100, "its limit is lower than what is usual"
    assert judge.prompt_tokens > 48 * 250, "an answer of about 250 tokens, and the question around it"
    assert (teacher.calls, teacher.completion_tokens) == (4, 4 * 24)
    money = (judge.prompt_tokens + teacher.prompt_tokens) * 10e-6 + (48 * 100 + 4 * 24) * 20e-6
    assert said.spending.usd == pytest.approx(money)
    assert said.spending.most_usd == pytest.approx(money)
    assert said.money.startswith(f"about {money:.2f} USD, at most")
    assert "judge judge-1: 48 calls" in said.money


def test_the_judges_sentinels_are_counted_once_per_suite(tmp_path: Path) -> None:
    said = plan(tmp_path, watched=8)
    judge = next(calls for calls in said.spending.served if calls.role == "judge")
    assert judge.calls == 24 * 2 + 8 * 2 * 3


def test_history_and_limits_are_said(tmp_path: Path) -> None:
    ledger = Ledger(Home(tmp_path / "home").spent_file("judged"))
    with ledger.spending(0, model="judge-1") as bill:
        bill.settle(0.9, prompt_tokens=100, completion_tokens=7)
    said = plan(tmp_path, limits="limits: {usd: 1}")
    judge = next(calls for calls in said.spending.served if calls.role == "judge")
    assert judge.completion_tokens == 48 * 7
    assert "0.90 spent before; limits.usd is 1, which will not be enough" in said.money


def test_what_cannot_be_counted_is_not_called_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.evaluate.pocket import Pocket

    def broken(self: Pocket, *given: object) -> None:
        raise OSError

    monkeypatch.setattr(Pocket, "grade", broken)
    said = plan(tmp_path)
    assert said.spending.usd is None
    assert said.money.startswith("not known (")
    assert "judge judge-1: 0 calls, 0 + 0 tokens, and those of 1 stages that cannot be counted now" in said.money


def test_without_prices_money_is_not_known_and_cannot_be_limited(tmp_path: Path) -> None:
    said = plan(tmp_path, prices="")
    assert said.spending.usd is None
    assert said.money.startswith("not known, a served model has no prices (")
    with pytest.raises(ConfigError, match=r"limits\.usd: the served model judge has no prices; write `prices:"):
        plan(tmp_path, prices="", limits="limits: {usd: 1}")


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (
            "{score: ifd, model: teacher}",
            "ifd asks the model bound to 'teacher' for the log-probabilities of given texts",
        ),
        (
            "{score: confidence, model: teacher}",
            "confidence asks the model bound to 'teacher' for the log-probabilities",
        ),
        (
            "{synthesize: magpie, model: teacher, rows: 4}",
            "magpie asks the model bound to 'teacher' to write a user's turn",
        ),
        ("{finetune: sft, start: teacher}", "sft asks the model bound to 'teacher' for its weights, to train from"),
    ],
)
def test_what_a_server_cannot_give_is_refused_with_the_line(tmp_path: Path, step: str, said: str) -> None:
    with pytest.raises(UserError, match=rf"judged\.yaml:\d+: {said}") as caught:
        plan(tmp_path, step=step)
    assert "is a served model, which only answers conversations: bind a model folder to 'teacher'" in str(caught.value)


def test_a_served_student_can_be_measured_but_not_trained(tmp_path: Path) -> None:
    served = '{url: "http://127.0.0.1:9/v1", model: small' + PRICES + "}"
    said = plan(tmp_path, student=served)
    student = next(calls for calls in said.spending.served if calls.role == "model")
    assert student.calls == 48
    with pytest.raises(UserError, match="for its weights"):
        plan(tmp_path, student=served, step="{finetune: sft}")


def test_a_moved_server_with_a_revision_is_the_same_model(tmp_path: Path) -> None:
    def keys(url: str, more: str = "") -> set[str]:
        served = f'{{url: "{url}", model: small, prices: {{prompt: 1, completion: 1}}{more}}}'
        return {line.key for line in plan(tmp_path, student=served).stages if line.action == "answer"}

    assert keys("http://a/v1") == keys("http://a/v1/")
    assert keys("http://a/v1") != keys("http://b/v1")
    assert keys("http://a/v1", ", revision: v2") == keys("http://b/v1", ", revision: v2")
    assert keys("http://a/v1", ", concurrency: 3, deadline: 9") == keys("http://a/v1")
    assert keys("http://a/v1", ", body: {reasoning_effort: low}") != keys("http://a/v1")
