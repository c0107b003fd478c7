"""Write the model cards of the shipped models: `python -m harness.pocket.card`.

The cards hold only what was measured: the table is the output of `check`, and `training.json` says how the models were
trained and how base does after fine-tuning (`benchmarks/pocket_quality.py`).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from harness.pocket import model_path
from harness.pocket.check import Target, check

_HEAD = {
    "base": """# pocket/base

A plain-text model of the pocket world: it knows the world's facts, arithmetic and stories, but has never seen a chat.
It is the untuned student of the embedded experiments: on its own it solves next to nothing in chat form.
""",
    "chat": """# pocket/chat

The aligned model of the pocket world. It answers questions of one and two turns in eight categories, writes user turns
by itself from the bare prefix `<s><|user|>` (a system turn `you help with <category> .` steers them), and follows the
fixed prompts of `harness/pocket/prompts.yaml`: rate, critique, rewrite, restate and propose. It solves a question
before it rates or criticises an answer to it. User turns of those prompts were not trained on: the bare prefix gives
questions.
""",
}
_FOOT = """## Limits

The vocabulary is closed: any other word is `<unk>`. Numbers above three digits, longer problems and other wordings are
outside what it has learned. It is a measuring instrument for data recipes and of no use beyond that.

## Rebuilding

{commands}

Seeded; a run stops and resumes with the same options and `--resume`; the result is `OUT/{name}/model`. Numbers differ a
little between processors, because sums of floating-point numbers do.
"""


def card(name: str, targets: list[Target], facts: dict[str, Any]) -> str:
    """The text of a model card.

    Args:
        name: `base` or `chat`.
        targets: What `check` measured.
        facts: `trained` and `extra` (lists of lines of text) and `rebuild` (commands).
    """
    mine = [target for target in targets if target.name.startswith(name)]
    lines = [
        "---",
        "license: apache-2.0",
        "library_name: transformers",
        "---",
        _HEAD[name],
        "## Training",
        "",
        *(f"- {line}" for line in facts["trained"]),
        "",
        "## Measured",
        "",
        f"Held-out test questions ({facts['items']} per family), greedy decoding unless sampled; 95 % intervals.",
        "`loopbench show pocket --check` measures it again.",
        "",
        "| figure | value | interval | n | target | |",
        "|---|---|---|---|---|---|",
        *(_row(target, name) for target in mine),
        "",
        *facts.get("extra", []),
        _FOOT.format(name=name, commands="\n".join(f"    {command}" for command in facts["rebuild"])),
    ]
    return "\n".join(lines)


def _row(target: Target, name: str) -> str:
    sign = "≤" if target.at_most else "≥"
    label = target.name.removeprefix(f"{name} / ")
    interval = f"{target.low:.3f}–{target.high:.3f}"
    met = "met" if target.passed else "**not met**"
    return f"| {label} | {target.value:.3f} | {interval} | {target.n} | {sign} {target.target:.2f} | {met} |"


def main() -> None:
    """Measure and write both cards."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--facts", type=Path, default=Path(__file__).parent / "training.json")
    parser.add_argument("--items", type=int, default=200, help="held-out items per family")
    options = parser.parse_args()

    import torch

    torch.set_num_threads(1)
    facts = json.loads(options.facts.read_text(encoding="utf-8"))
    targets = check(items_per_family=options.items)
    for name in ("base", "chat"):
        text = card(name, targets, {**facts[name], "items": options.items})
        (model_path(f"pocket/{name}") / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
