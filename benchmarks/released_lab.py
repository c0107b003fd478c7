"""LAB against its released parts: the taxonomy's schema over its whole history, prompts and the reading of replies.

    git clone https://github.com/instructlab/taxonomy; git clone https://github.com/instructlab/schema
    git clone https://github.com/instructlab/sdg
    python benchmarks/released_lab.py taxonomy schema sdg

Needs copies with their history (of sdg, commit faa84ef is enough). `LLMBlock._parse` is taken out of its file and run
as it is; the schemas are read by jsonschema. Prints counts of equal outcomes and each difference.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import random
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from jinja2 import Environment, StrictUndefined
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from harness.records import leaves
from harness.records.values import DataFile
from harness.synthesize._released import PARTS, SERIES, Released, released

PLACES = (
    "task_description seed_question seed_response seed_context num_samples question response context document domain "
    "document_outline icl_document icl_query_1 icl_query_2 icl_query_3 icl_response_1 icl_response_2 icl_response_3"
)
NOT_OURS = ("simple_generate_qa", "mcq_generation")
TEXTS = 400


def git(repository: str, *words: str) -> str:
    done = subprocess.run(["git", "-C", repository, *words], capture_output=True, check=True)
    return done.stdout.decode("utf-8", "replace")


# --- schema -----------------------------------------------------------------------------------------------------------
def validators(schema: str) -> dict[tuple[int, str], Any]:
    """(version, kind) to the published validator; None for a version that its parser refuses."""
    found: dict[tuple[int, str], Any] = {}
    for version in leaves.VERSIONS:
        folder = f"HEAD:src/instructlab/schema/v{version}"
        kinds = ("compositional_skills", "knowledge", "version")
        docs = {kind: json.loads(git(schema, "show", f"{folder}/{kind}.json")) for kind in kinds}
        resources = [
            (f"./{kind}.json", Resource.from_contents(doc, default_specification=DRAFT202012))
            for kind, doc in docs.items()
        ]
        registry: Any = Registry().with_resources(resources)
        for kind in kinds[:2]:
            given = docs[kind]
            found[version, kind] = None if given.get("deprecated") else Draft202012Validator(given, registry=registry)
    return found


def accepted(text: str, path: str, known: dict[tuple[int, str], Any]) -> bool:
    """Whether the published schema takes a leaf."""
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return False
    if not isinstance(data, dict) or data.get("version", 1) not in leaves.VERSIONS:
        return False
    root = PurePosixPath(path).parts[0]
    kind = root if root != "foundational_skills" else "knowledge" if "document" in data else "compositional_skills"
    validator = known[data.get("version", 1), kind]
    return validator is not None and bool(validator.is_valid(data))


def read(text: str, path: str) -> bool:
    """Whether ours does."""
    try:
        leaves.parse(text, str(PurePosixPath(path).parent))
    except leaves.BadLeaf:
        return False
    return True


def history(taxonomy: str) -> Iterator[tuple[str, str]]:
    """Every different leaf file that the history holds: its blob, and its path from the root folder on."""
    listed = git(taxonomy, "rev-list", "--objects", "--missing=allow-any", "HEAD").splitlines()
    named = {line.partition(" ")[0]: PurePosixPath(line.partition(" ")[2]).parts for line in listed}
    for blob, parts in named.items():
        root = next((i for i, part in enumerate(parts) if part in leaves.FOLDERS), None)
        if root is not None and parts[-1] == leaves.NAME and len(parts) - root > 2:
            yield blob, "/".join(parts[root:])


def schemas(taxonomy: str, schema: str) -> None:
    known, outcomes = validators(schema), Counter[tuple[bool, bool]]()
    for blob, path in history(taxonomy):
        text = git(taxonomy, "cat-file", "blob", blob)
        outcome = accepted(text, path, known), read(text, path)
        outcomes[outcome] += 1
        if outcome[0] != outcome[1]:
            print("differs:", blob, path, outcome)
    print(f"leaves {outcomes.total()}: both accept {outcomes[True, True]}, both refuse {outcomes[False, False]}")


# --- prompts and replies ----------------------------------------------------------------------------------------------
def parser(sdg: str, folder: Path) -> Any:
    """The released class with nothing but its `_parse`."""
    text = git(sdg, "show", "HEAD:src/instructlab/sdg/blocks/llmblock.py")
    nodes = ast.walk(ast.parse(text))
    method = next(n for n in nodes if isinstance(n, ast.FunctionDef) and n.name == "_parse")
    source = "\n".join(text.splitlines()[method.lineno - 1 : method.end_lineno])
    path = folder / "released_parser.py"
    path.write_text(f"import re\n\n\nclass Block:\n{source}\n")
    spec = importlib.util.spec_from_file_location("released_parser", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Block


def block_of(block: Any, config: dict[str, Any]) -> Any:
    one = block()
    one.block_config = config
    tags = config.get("start_tags") or []
    one.parser_name = None if tags else "custom"
    one.parsing_pattern, one.parser_cleanup_tags = SERIES, ["[END]", "[End]"]
    one.output_cols = [f"c{n}" for n in range(len(tags))] or ["question", "response"]
    return one


def replies(config: dict[str, Any], rng: random.Random) -> Iterator[str]:
    """Texts of tags and words in any order."""
    tags = [tag for key in ("start_tags", "end_tags") for tag in config.get(key) or [] if tag]
    tags = tags or ["[QUESTION]", "[ANSWER]", "[END]", "[Question]", "[Answer]"]
    for _ in range(TEXTS):
        yield "\n".join(rng.choice([*tags, *tags, "1", "2", "YES", "words", "\n"]) for _ in range(rng.randint(1, 12)))


def equal(theirs: dict[str, list[str]], ours: Released, text: str) -> bool:
    columns = [[value.strip() for value in values] for values in theirs.values()]
    wanted = list(zip(*columns, strict=False)) if not ours.tags else [(value,) for value in columns[-1]]
    return wanted == ours.found(text)


def prompts(sdg: str) -> None:
    rng, counts = random.Random(0), Counter[str]()
    values = {name: f"<{name}>\n with {{{{braces}}}} & 'quotes'" for name in PLACES.split()}
    paths = git(sdg, "ls-tree", "-r", "--name-only", "HEAD", "src/instructlab/sdg/configs").splitlines()
    with tempfile.TemporaryDirectory() as folder:
        block = parser(sdg, Path(folder))
        for path in (p for p in paths if p.endswith(".yaml") and not PurePosixPath(p).name.startswith(NOT_OURS)):
            file = Path(folder) / PurePosixPath(path).name
            file.write_text(git(sdg, "show", f"HEAD:{path}"))
            config, ours = yaml.safe_load(file.read_text()), released(DataFile(name=path, path=str(file)), "prompt")
            joined = "\n".join(str(config.get(part) or "") for part in PARTS)
            theirs = Environment(undefined=StrictUndefined, autoescape=False).from_string(joined).render(values).strip()
            counts["prompts"] += 1
            counts["prompts equal"] += theirs == ours.render(values)
            one = block_of(block, config)
            for text in replies(config, rng):
                found = one._parse(text)  # noqa: SLF001
                counts["replies"] += 1
                counts["replies equal"] += equal(found, ours, text)
                if len(ours.tags) > 1 and ours.found(text):
                    counts["verdicts that can be read"] += 1
                    counts["of which the released code loses"] += not min(len(v) for v in found.values())
    print(", ".join(f"{name} {count}" for name, count in counts.items()))


if __name__ == "__main__":
    schemas(sys.argv[1], sys.argv[2])
    prompts(sys.argv[3])
