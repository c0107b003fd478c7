"""The pocket taxonomy in InstructLab's form (schema version 3): one leaf per subtopic of the world.

`python -m harness.pocket.leaves DIR` writes it; the shipped `taxonomy/` folder is its output. Knowledge leaves (stem
and humanities) carry a document with the facts; the other categories are compositional skills.
"""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random
from typing import Any

from harness.pocket.forms import Turn
from harness.pocket.words import HARDNESS, LAND, LEGS, REIGN, WEIGHT, WORK
from harness.pocket.world import CATEGORIES, draw, leaves

KNOWLEDGE = ("stem", "humanities")
_CONTEXTS, _PAIRS, _SEEDS = 5, 3, 5


def documents() -> dict[str, list[str]]:
    """Knowledge leaf -> the sentences of its document."""
    return {
        "metals": [f"{m} has weight {WEIGHT[m]} and hardness {HARDNESS[m]} ." for m in WEIGHT],
        "animals": [f"one of the {animal} stands on {legs} legs ." for animal, legs in LEGS.items()],
        "reigns": [f"{who} came in {year} ." for who, year in REIGN.items()],
        "works": [f"the {work} is by {who} ." for who, work in WORK.items()],
        "lands": [f"{who} was from {land} ." for who, land in LAND.items()],
    }


def leaf_path(category: str, leaf: str) -> str:
    """Folder of a leaf inside the taxonomy, such as `knowledge/stem/metals`."""
    return f"{'knowledge' if category in KNOWLEDGE else 'compositional_skills'}/{category}/{leaf}"


def _examples(category: str, leaf: str, count: int) -> list[Turn]:
    rng = Random(f"pocket/taxonomy/{category}/{leaf}")
    found: dict[str, Turn] = {}
    while len(found) < count:
        turn = draw(rng, category, split="train", leaf=leaf)[0]
        found.setdefault(turn.user, turn)
    return list(found.values())


def _pair(turn: Turn) -> dict[str, str]:
    return {"question": turn.user, "answer": turn.reference}


def leaf_data(category: str, leaf: str) -> dict[str, Any]:
    """Content of one `qna.yaml`."""
    head = {"version": 3, "created_by": "loopbench"}
    if category not in KNOWLEDGE:
        examples = _examples(category, leaf, _SEEDS)
        return {**head, "task_description": f"{category} {leaf}", "seed_examples": [_pair(turn) for turn in examples]}
    sentences, examples = documents()[leaf], _examples(category, leaf, _CONTEXTS * _PAIRS)
    contexts = []
    for i in range(_CONTEXTS):
        pairs = examples[i * _PAIRS : (i + 1) * _PAIRS]
        asked = {word for turn in pairs for word in turn.user.split(" ")}
        context = " ".join(sentence for sentence in sentences if asked & set(sentence.split(" ")) - _COMMON)
        contexts.append({"context": context, "questions_and_answers": [_pair(turn) for turn in pairs]})
    document = {"patterns": [f"{leaf}.md"]}
    outline = f"{category} {leaf}"
    return {**head, "domain": category, "document_outline": outline, "document": document, "seed_examples": contexts}


_COMMON = {"the", "is", "by", "and", "of", "one", "has", "weight", "hardness", "in", "from", "legs", "on", ".", ","}


def write(folder: Path) -> None:
    """Write the taxonomy below `folder`, documents beside the knowledge leaves."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 120
    for category in CATEGORIES:
        for leaf in leaves(category):
            place = folder / leaf_path(category, leaf)
            place.mkdir(parents=True, exist_ok=True)
            with (place / "qna.yaml").open("w", encoding="utf-8") as file:
                yaml.dump(leaf_data(category, leaf), file)
            if category in KNOWLEDGE:
                (place / f"{leaf}.md").write_text("\n".join(documents()[leaf]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
