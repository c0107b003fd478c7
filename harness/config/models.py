"""`models:` of an experiment: roles bound to a bundled model, a folder, a scratch student, a server or a judge."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from harness.config.checks import SECRET, existing_path, fill, nearest, resolve_path
from harness.config.document import Node, Problems, read
from harness.config.model import NAME, Model, Registry
from harness.errors import UserError

RESERVED = ("start", "current")
ORACLE = "pocket/oracle"
HASHED = "hashed"
"""The embedder that needs no model."""
UNBOUND = {"embedder": Model(name="embedder", written=HASHED, engine="hashed")}
"""What a role is where the experiment binds nothing to it."""
_WHAT = ("path", "scratch", "url", "judge")
SERVED = frozenset(
    {
        "model", "tokenizer", "api_key_env", "revision", "prices", "concurrency", "deadline", "timeout", "length_field",
        "body",
    }
)  # fmt: skip
"""Settings of served models only."""
SERVED_HERE = frozenset({"concurrency", "deadline", "timeout"})
"""Those that a folder with `engine: openai` has too, which loopbench serves itself."""
_TOKENIZER = ("tokenizer.json", "tokenizer.model", "vocab.json")
PACKS = ("general", "pocket")
"""Names of the bundled prompt packs."""
_HUB = re.compile(r"[\w-]+/[\w.-]+")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def read_models(node: Node, registry: Registry, problems: Problems) -> dict[str, Model]:
    """Every role that `models:` binds, without those that have mistakes (noted)."""
    if not isinstance(node.value, dict) or not node.value:
        problems.add("models: should bind roles to models, such as {student: pocket/base}", node.mark())
        return {}
    models = {}
    for role, child in node.items():
        if role in RESERVED or not re.fullmatch(NAME, role):
            problems.add(f"a role cannot be named {role!r}", child.mark())
        elif (model := _model(role, child, registry, problems)) is not None:
            models[role] = _with_tokenizer(_with_pack(model, child, problems), child, problems)
    return models


def bundled() -> dict[str, Path]:
    """The models that come with loopbench, by name (`pocket/base`): their folders."""
    spec = importlib.util.find_spec("harness.pocket")
    places = [] if spec is None else list(spec.submodule_search_locations or [])
    folders = (path for place in places for path in sorted((Path(place) / "models").glob("*")))
    return {f"pocket/{path.name}": path for path in folders if (path / "config.json").is_file()}


def _model(role: str, node: Node, registry: Registry, problems: Problems) -> Model | None:
    if isinstance(node.value, str):
        return _by_name(role, node, registry, problems)
    if not isinstance(node.value, dict):
        problems.add(f"models.{role}: should be a name, a path or a mapping", node.mark())
        return None
    _refuse_secrets(node, problems)
    given = [key for key in _WHAT if key in node.value]
    here = SERVED_HERE if node.value.get("engine") == "openai" else frozenset()
    for key in sorted((SERVED - here) & node.value.keys()) if "url" not in given else ():
        problems.add(f"models.{role}.{key}: only a served model (`url:`) has this", node.mark(key))
    if len(given) != 1:
        said = " and ".join(given) if given else "none of them"
        problems.add(f"models.{role}: give exactly one of path, scratch, url and judge, not {said}", node.mark())
        return None
    if given == ["path"]:
        return _at_path(role, node, problems)
    if given == ["judge"]:
        _judge(str(node.value["judge"]), node.child("judge"), registry, problems)
    if given == ["url"]:
        _check_served(role, node, problems)
    engine = {"url": "openai", "judge": "oracle"}.get(given[0], "transformers")
    model = fill(node, Model, problems, name=role, written=str(node.value.get("url") or given[0]))
    if model is None or model.engine != "auto" or (given == ["scratch"] and "engine" in node.value):
        return model
    return model.model_copy(update={"engine": engine})


def _with_pack(model: Model, node: Node, problems: Problems) -> Model:
    """The path of a prompt pack resolved, and the file checked: it is read when the first prompt is filled in."""
    written = node.value.get("prompts") if isinstance(node.value, dict) else None
    if not isinstance(written, str) or written in PACKS:
        return model
    if "/" not in written and not written.endswith((".yaml", ".yml")):
        problems.add(f"prompts: there is no prompt pack {written!r}{nearest(written, PACKS)}", node.mark("prompts"))
        return model
    path = existing_path(written, node, problems, "prompts")
    if path is None:
        return model
    document = read(path, problems)
    data = document.data if document is not None and isinstance(document.data, dict) else {}
    if document is not None and not ("version" in data and isinstance(data.get("prompts"), dict)):
        problems.add("a prompt pack should hold `version:` and `prompts:` with one text per entry", document.top)
    return model.model_copy(update={"prompts": str(path), "prompts_written": written})


def _with_tokenizer(model: Model, node: Node, problems: Problems) -> Model:
    """The folder of a served model's tokenizer resolved, and looked into: a model's, or one with those files alone."""
    if model.tokenizer is None:
        return model
    path = bundled().get(model.tokenizer) or resolve_path(model.tokenizer, node.child("tokenizer"), problems)
    if path is None or not any((path / name).is_file() for name in _TOKENIZER):
        problems.add(
            f"{path or model.tokenizer} holds no tokenizer ({' or '.join(_TOKENIZER)})", node.mark("tokenizer")
        )
        return model
    return model.model_copy(update={"tokenizer": str(path), "tokenizer_written": model.tokenizer})


def _by_name(role: str, node: Node, registry: Registry, problems: Problems) -> Model | None:
    name = str(node.value)
    known = bundled()
    if name == ORACLE:
        return Model(name=role, written=name, judge="oracle", engine="oracle", prompts="pocket")
    if name == HASHED:
        return Model(name=role, written=name, engine="hashed")
    if name in known:
        return Model(name=role, written=name, path=str(known[name]), engine="transformers", prompts="pocket")
    if name.startswith("pocket/"):
        problems.add(f"there is no model named {name!r}{nearest(name, [*known, ORACLE])}", node.mark())
        return None
    if "/" not in name and "." not in name and _has_judge(name, registry):
        return Model(name=role, written=name, judge=name, engine="oracle")
    path = _folder(name, node, problems)
    return None if path is None else Model(name=role, written=name, path=str(path), engine="transformers")


def _at_path(role: str, node: Node, problems: Problems) -> Model | None:
    written, known = node.value["path"], bundled()
    if not isinstance(written, str):
        problems.add(f"models.{role}.path: should be text", node.mark("path"))
        return None
    pocket = written in known
    path = known.get(written) or _folder(written, node.child("path"), problems)
    model = fill(node, Model, problems, drop=("path",), name=role, written=written)
    if path is None or model is None:
        return None
    settings: dict[str, Any] = {"path": str(path)}
    if "engine" not in node.value:
        settings["engine"] = "transformers"  # so that a key does not depend on the machine unless `auto` is written
    if pocket and "prompts" not in node.value:
        settings["prompts"] = "pocket"
    return model.model_copy(update=settings)


def _folder(written: str, node: Node, problems: Problems) -> Path | None:
    path = resolve_path(written, node, problems)
    if path is not None and not path.exists():
        hint = "; a model is a folder here: download it first, then name the folder" if _HUB.fullmatch(written) else ""
        problems.add(f"there is no model folder {path}{hint}", node.mark())
        return None
    if path is not None and not any((path / name).is_file() for name in ("config.json", "adapter_config.json")):
        problems.add(f"{path} is no model folder: it has no config.json (nor adapter_config.json)", node.mark())
        return None
    return path


def _check_served(role: str, node: Node, problems: Problems) -> None:
    """What a URL must be and must not hold, and what else a served model needs."""
    url = str(node.value["url"])
    try:
        parts = urlsplit(url)
        _ = parts.port  # read only now by urllib, and wrong in `http://host:port`
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        example = "such as http://127.0.0.1:8000/v1"
        problems.add(
            f"models.{role}.url: should begin with http:// or https:// and name a server, {example}", node.mark()
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        problems.add(
            f"models.{role}.url: should hold no user, password or query: keys do not belong in a file; write "
            "`api_key_env: NAME` and export NAME",
            node.mark("url"),
        )
    if not node.value.get("model"):
        problems.add(f"models.{role}.model: is required, the name under which the server knows it", node.mark())
    if node.value.get("engine", "openai") not in ("auto", "openai"):
        problems.add(f"models.{role}.engine: a served model (`url:`) is run by its server; leave it out", node.mark())
    if node.value.get("options"):
        known = ", ".join(sorted(SERVED))
        problems.add(
            f"models.{role}.options: a served model has none; beside `url:` write {known}", node.mark("options")
        )


def _has_judge(name: str, registry: Registry) -> bool:
    try:
        registry.get("judge", name)
    except UserError:
        return False
    return True


def _judge(name: str, node: Node, registry: Registry, problems: Problems) -> None:
    try:
        cls = registry.get("judge", name)
    except UserError as error:
        problems.add(str(error), node.mark())
        return
    options = Node(node.doc, node.path[:-1]).get("options")
    if options is not None:
        fill(options, cls, problems)


def _refuse_secrets(node: Node, problems: Problems) -> None:
    """A key in a file ends in a record some day: only the name of the variable that holds it is accepted."""
    for key, child in node.items():
        if isinstance(key, str) and SECRET.search(key):
            problems.add(
                f"{key}: keys do not belong in a file; write `api_key_env: NAME` and export NAME", child.mark()
            )
        elif key == "api_key_env" and not (isinstance(child.value, str) and _VARIABLE_NAME.fullmatch(child.value)):
            problems.add("api_key_env: should be the name of an environment variable, not a key", child.mark())
        elif isinstance(child.value, dict | list):
            _refuse_secrets(child, problems)
