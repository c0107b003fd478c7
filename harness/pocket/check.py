"""Measure the pocket models against their targets on held-out questions (`loopbench show pocket --check`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from harness.pocket import model_path, oracle
from harness.pocket.answers import STYLES, core, corrupted, off_format
from harness.pocket.chats import RATINGS, Message, ask, message, prompts, shown
from harness.pocket.forms import Turn
from harness.pocket.pool import ANSWER_DEFECTS, spoiled
from harness.pocket.world import CATEGORIES, leaves, questions, understand
from harness.records.hashing import seed_of

SAMPLED = 1000
MAX_TOKENS = 96
"""Longest answer; the longest reference has about 60 tokens."""


@dataclass(frozen=True)
class Target:
    """One measured figure with its 95 % interval and what it must reach.

    `passed` compares the figure itself with `target`, not the bounds. `at_most` turns the comparison round.
    """

    name: str
    value: float
    low: float
    high: float
    n: int
    target: float
    passed: bool
    at_most: bool = False


def share(name: str, right: Sequence[bool], target: float, at_most: bool = False) -> Target:
    """A share of successes with its Wilson interval."""
    from statsmodels.stats.proportion import proportion_confint

    n, count = len(right), sum(right)
    value = count / n
    low, high = proportion_confint(count, n, method="wilson")
    return Target(
        name, value, float(low), float(high), n, target, value <= target if at_most else value >= target, at_most
    )


def ranked(name: str, good: Sequence[float], bad: Sequence[float], target: float) -> Target:
    """AUROC of scores of good against bad answers, ties as halves, with Hanley and McNeil's interval."""
    from scipy.stats import mannwhitneyu, norm

    m, n = len(good), len(bad)
    area = float(mannwhitneyu(good, bad).statistic) / (m * n)
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    spread = (area * (1 - area) + (m - 1) * (q1 - area**2) + (n - 1) * (q2 - area**2)) / (m * n)
    half = float(norm.ppf(0.975)) * max(spread, 0.0) ** 0.5
    return Target(name, area, max(0.0, area - half), min(1.0, area + half), m + n, target, area >= target)


class Player:
    """A model of the pocket world that answers, run by the same engine as in experiments."""

    def __init__(self, folder: Path) -> None:
        """Open a model folder in float32 on one thread."""
        from harness.engines.base import ModelSpec
        from harness.engines.open import open_engine

        self._engine = open_engine(ModelSpec(name=folder.name, path=folder))

    def answer(self, chats: Sequence[Sequence[Message]]) -> list[str]:
        """Greedy answers to chats that end with a user turn."""
        render = self._engine.chat.render
        return self._complete([render(list(chat), add_generation_prompt=True) for chat in chats], 0.0, 0)

    def ask_itself(self, systems: Sequence[str | None], seed: int) -> list[str]:
        """User turns that the model writes after its bare user prefix, at temperature 1; a system turn may precede."""
        return self._complete([self._engine.chat.pre_query(system) for system in systems], 1.0, seed)

    def sample(self, chats: Sequence[Sequence[Message]], seed: int) -> list[str]:
        """Answers at temperature 1."""
        render = self._engine.chat.render
        return self._complete([render(list(chat), add_generation_prompt=True) for chat in chats], 1.0, seed)

    def _complete(self, prompts: Sequence[tuple[int, ...]], temperature: float, seed: int) -> list[str]:
        from harness.engines.base import Completion, GenerateRequest, Sampling, in_order

        sampling = Sampling(max_tokens=MAX_TOKENS, temperature=temperature)
        requests = [
            GenerateRequest(id=str(i), prompt=prompt, sampling=sampling, seed=seed_of("pocket check", seed, i))
            for i, prompt in enumerate(prompts)
        ]
        given = (reply for reply in self._engine.generate(requests) if isinstance(reply, Completion))
        return [done[0].text for done in in_order(requests, given)]


def check(
    base: Path | None = None,
    chat_model: Path | None = None,
    items_per_family: int = 200,
    note: Callable[[str], None] | None = None,
) -> list[Target]:
    """Measure both models on the test split.

    Args:
        base: Folder of the base model; the shipped one if None.
        chat_model: Folder of the chat model; the shipped one if None.
        items_per_family: Held-out items for each figure.
        note: Called with the name of each part before it runs.

    Returns:
        All figures in a stable order. Base after fine-tuning needs training: `benchmarks/pocket_quality.py`.
    """
    player = Player(chat_model or model_path("pocket/chat"))
    parts = (_turns, _magpie, _steered, _rated, _critiqued, _rewritten, _proposed)
    found: list[Target] = []
    for part in parts:
        if note is not None:
            note(part.__name__.strip("_"))
        found += part(player, items_per_family)
    untuned = Player(base or model_path("pocket/base"))
    return [*found, *_untuned(untuned, items_per_family)]


def exchange(turns: Sequence[Turn], answers: Sequence[str]) -> list[Message]:
    """The chat before the turn that comes after `answers`, ending with that user turn."""
    messages = [
        part
        for t, a in zip(turns, answers, strict=False)
        for part in (message("user", t.user), message("assistant", a))
    ]
    return [*messages, message("user", turns[len(answers)].user)]


def _correct(turn: Turn, answer: str) -> bool:
    return oracle.grade(turn.truth, answer).score == oracle.RIGHT


def _turns(player: Player, each: int) -> Iterator[Target]:
    asked = questions("test", each * len(CATEGORIES), 2)
    first = player.answer([exchange(q.turns, []) for q in asked])
    second = player.answer([exchange(q.turns, [a]) for q, a in zip(asked, first, strict=True)])
    for category in CATEGORIES:
        rows = [(q, a, b) for q, a, b in zip(asked, first, second, strict=True) if q.category == category]
        yield share(f"chat / {category}", [_correct(q.turns[0], a) for q, a, _ in rows], 0.90)
        # As in MT-Bench the model's own first answer stands in the history.
        yield share(f"chat / {category}, second turn", [_correct(q.turns[1], b) for q, _, b in rows], 0.80)


def _magpie(player: Player, _each: int) -> Iterator[Target]:
    texts = player.ask_itself([None] * SAMPLED, seed=1)
    yield share("chat / sampled user turns well-formed", [understand(text) is not None for text in texts], 0.95)
    first_seen = [text not in texts[:i] for i, text in enumerate(texts)]
    yield share("chat / sampled user turns distinct", first_seen, 0.60)


def _steered(player: Player, each: int) -> Iterator[Target]:
    per = -(-each // len(CATEGORIES))
    wanted = [category for category in CATEGORIES for _ in range(per)]
    template = prompts()["steer"]["system"]
    texts = player.ask_itself([template.format(category=category) for category in wanted], seed=2)
    found = [understand(text) for text in texts]
    hit = [t is not None and t.truth["category"] == c for t, c in zip(found, wanted, strict=True)]
    yield share("chat / system turn steers the category", hit, 0.80)


def rating_of(text: str) -> int | None:
    """The rating that an answer to the rate prompt ends with."""
    match = re.search(prompts()["rate"]["parse"], text)
    return int(match.group(1)) if match else None


def _rated(player: Player, each: int) -> Iterator[Target]:
    rng = Random("pocket check rate")
    turns = [q.turns[0] for q in questions("test", 2 * each)]
    shown_ = [t.reference if i < each else spoiled(t, rng.choice(ANSWER_DEFECTS), rng) for i, t in enumerate(turns)]
    said = player.answer([[ask("rate", question=t.user, answer=a)] for t, a in zip(turns, shown_, strict=True)])
    ratings = [rating_of(text) for text in said]
    yield share("chat / ratings that can be read", [rating is not None for rating in ratings], 0.95)
    good = [float(r) for r in ratings[:each] if r is not None]
    bad = [float(r) for r in ratings[each:] if r is not None]
    name = "chat / AUROC of ratings, good against defective"
    # Nothing that can be read is a failed target, not a missing one.
    yield ranked(name, good, bad, 0.85) if good and bad else Target(name, 0.0, 0.0, 1.0, 0, 0.85, passed=False)


def _critiqued(player: Player, each: int) -> Iterator[Target]:
    rng = Random("pocket check critique")
    turns = [q.turns[0] for q in questions("test", each * len(CATEGORIES))]
    problems = [rng.choice(list(RATINGS)) for _ in turns]
    chats = [
        [ask("critique", question=t.user, answer=shown(t, p, rng, None))] for t, p in zip(turns, problems, strict=True)
    ]
    said = player.answer(chats)
    hit = [text.endswith(f"problem : {problem}") for text, problem in zip(said, problems, strict=True)]
    yield share("chat / critiques that name the problem", hit, 0.80)


def _rewritten(player: Player, each: int) -> Iterator[Target]:
    rng = Random("pocket check rewrite")
    turns = [q.turns[0] for q in questions("test", each * len(CATEGORIES))]
    meant = [t.reference if rng.random() < 0.6 else corrupted(t.truth, t.reference, rng) for t in turns]
    given = [off_format(t.truth, text, rng.choice(STYLES)) for t, text in zip(turns, meant, strict=True)]
    said = player.answer([[ask("rewrite", question=t.user, answer=a)] for t, a in zip(turns, given, strict=True)])
    kept = [_same_meaning(t.truth, text, new) for t, text, new in zip(turns, meant, said, strict=True)]
    yield share("chat / rewrites in the asked form, meaning kept", kept, 0.80)


def _same_meaning(truth: dict[str, Any], meant: str, said: str) -> bool:
    return oracle.in_form(truth, said) and core(truth, said) == core(truth, meant)


def _proposed(player: Player, each: int) -> Iterator[Target]:
    every = [(category, leaf) for category in CATEGORIES for leaf in leaves(category)]
    wanted = every * -(-each // len(every))
    asked = [[ask("propose", leaf=f"{category} {leaf}")] for category, leaf in wanted]
    found = [understand(text) for text in player.sample(asked, seed=3)]
    hit = [t is not None and (t.truth["category"], t.truth["leaf"]) == w for t, w in zip(found, wanted, strict=True)]
    yield share("chat / proposed questions on the leaf", hit, 0.80)


def _untuned(player: Player, each: int) -> Iterator[Target]:
    asked = questions("test", each * len(CATEGORIES))
    said = player.answer([exchange(q.turns, []) for q in asked])
    right = [oracle.grade(q.turns[0].truth, text).correct for q, text in zip(asked, said, strict=True)]
    yield share("base / solved in chat form before tuning", right, 0.05, at_most=True)
