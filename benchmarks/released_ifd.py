"""Runs the released selection scripts on two tiny models and writes down what they say, for the tests to compare with.

    python benchmarks/released_ifd.py --cherry DIR --superfiltering DIR --reflection DIR --data DIR [-o FILE]

The folders are copies of tianyi-lab/Cherry_LLM, tianyi-lab/Superfiltering and tianyi-lab/Reflection_Tuning, each with
its commit in a file COMMIT; `--data` holds the Alpaca rows (`alpaca/alpaca_data_50002.json.gz`). The scripts run
unmodified, in this process, on files of their own. Those of Cherry name the Llama classes; for the GPT-2 models the
names are bound to the Auto classes. Nothing of their code is kept, only the numbers.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import platform
import runpy
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import released_models as tiny

CUT = 128
PACKAGES = ("torch", "transformers", "tokenizers", "scikit-learn", "numpy")
OUT = tiny.DATA / "released_ifd.json"
VECTORS = 20
"""Rows whose embeddings are kept; K-means saw them all."""
CLUSTERS, PER_CLUSTER, LOW, HIGH, TAKE = 8, 4, 25, 75, 11
ASK = "What was asked, if this is the answer?\n{answer}"
"""Our own wording for the way back from an answer to its instruction; the released one is not kept."""


class Scripts:
    """The released scripts, run on one model."""

    def __init__(self, places: argparse.Namespace, model: Path, rows: Sequence[Any], folder: Path) -> None:
        self.places, self.model, self.rows, self.folder = places, model, rows, folder
        self.count = 0
        self.data = folder / "rows.json"
        self.data.write_text(json.dumps(list(rows)), encoding="utf-8")

    def new(self, ending: str) -> Path:
        self.count += 1
        return self.folder / f"{self.count}{ending}"

    def run(self, script: Path, **options: Any) -> None:
        """One script with its command line, as `python script --name value`."""
        arguments = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
        with contextlib.ExitStack() as around:
            around.enter_context(_llama_names(self.model))
            around.enter_context(mock.patch.object(sys, "argv", [str(script), *arguments]))
            around.enter_context(contextlib.redirect_stdout(io.StringIO()))
            around.enter_context(contextlib.redirect_stderr(io.StringIO()))
            runpy.run_path(str(script), run_name="__main__")

    def superfiltering(self, length: int) -> dict[str, Any]:
        """CA and DA in nats, the score, and the rows that its selector keeps."""
        code, lines, whole, kept = (
            self.places.superfiltering / "code_ifd",
            self.new(".jsonl"),
            self.new(".json"),
            self.new(".json"),
        )
        about = {"data_path": self.data, "model_name_or_path": self.model, "max_length": length}
        self.run(code / "data_analysis.py", save_path=lines, **about)
        self.run(code / "put_analysis_to_data.py", pt_data_path=lines, json_data_path=self.data, json_save_path=whole)
        rate = (TAKE + 0.5) / 52002
        self.run(code / "select_data.py", json_data_path=whole, json_save_path=kept, sample_rate=rate)
        losses = [json.loads(line).get("loss") for line in lines.read_text().splitlines()]
        scores = [row["ifd_ppl"] for row in json.loads(whole.read_text())]
        return {
            "ca": [None if loss is None else loss[3] for loss in losses],
            "da": [None if loss is None else loss[1] for loss in losses],
            "ifd": scores,
            "kept": self.places_of(kept),
        }

    def cherry(self, prompt: str, length: int) -> dict[str, Any]:
        """The `_vic` scripts: CA and DA from their perplexities, the score of each row, the rows kept."""
        code, losses, scored, kept = (
            self.places.cherry / "cherry_seletion",
            self.new(".pt"),
            self.new(".json"),
            self.new(".json"),
        )
        about = {"model_name_or_path": self.model, "max_length": length, "prompt": prompt}
        self.run(code / "data_analysis_vic.py", data_path=self.data, save_path=losses, mod="cherry", **about)
        paths = {"pt_data_path": losses, "json_data_path": self.data}
        self.run(code / "data_by_IFD_vic.py", json_save_path=scored, **paths, **about)
        self.run(code / "select_from_ifd_json.py", json_data_path=scored, json_save_path=kept, sample_number=TAKE)
        scores = [row["ifd_score"] for row in json.loads(scored.read_text())]
        return self._perplexities(losses) | {"ifd": scores, "kept": self.places_of(kept)}

    def cherry_v1(self, prompt: str, length: int) -> dict[str, Any]:
        """The first scripts: losses, and (for rows of `alpaca`) the rows that the selector keeps."""
        code, losses, kept = self.places.cherry / "cherry_seletion", self.new(".pt"), self.new(".json")
        about = {"model_name_or_path": self.model, "max_length": length, "prompt": prompt}
        self.run(code / "data_analysis.py", data_path=self.data, save_path=losses, mod="cherry", **about)
        paths = {"pt_data_path": losses, "json_data_path": self.data, "json_save_path": kept}
        self.run(code / "data_by_IFD.py", sample_number=TAKE, **paths, **about)
        return self._perplexities(losses) | ({"kept": self.places_of(kept)} if prompt == "alpaca" else {})

    def experience(self, length: int) -> dict[str, Any]:
        """Vectors and perplexities of prompts, and the rows that K-means chooses for the pre-experienced model."""
        import torch

        code, found, kept = self.places.cherry / "cherry_seletion", self.new(".pt"), self.new(".json")
        about = {"model_name_or_path": self.model, "max_length": length, "prompt": "alpaca", "mod": "pre"}
        self.run(code / "data_analysis.py", data_path=self.data, save_path=found, **about)
        paths = {"pt_data_path": found, "json_data_path": self.data, "json_save_path": kept}
        window = {"low_th": LOW, "up_th": HIGH, "sample_num": PER_CLUSTER, "kmeans_num_clusters": CLUSTERS}
        self.run(code / "data_by_cluster.py", **paths, **window)
        rows = torch.load(found)
        return {
            "vectors": [row["sent_emb"][0][0].tolist() for row in rows[:VECTORS]],
            "perplexity": [row["ppl"][0].item() for row in rows],
            "kept": sorted(self.places_of(kept)),
        }

    def reverse(self, length: int) -> dict[str, Any]:
        """The functions of Reflection_Tuning on our wording of the way back: CQ, DQ and their perplexity ratio."""
        from transformers import AutoModelForCausalLM, AutoTokenizer

        code = runpy.run_path(str(self.places.reflection / "selection_code" / "data_analysis.py"))
        model, tokenizer = (
            AutoModelForCausalLM.from_pretrained(self.model).eval(),
            AutoTokenizer.from_pretrained(self.model),
        )
        form: dict[str, list[float | None]] = {"cq": [], "dq": []}
        for row in self.rows:
            if not row["output"]:
                form["cq"].append(None)
                form["dq"].append(None)
                continue
            asked = ASK.format(answer=row["output"])
            prompt = code["PROMPT_DICT_VICUNA"]["prompt_no_input"].format(instruction=asked)
            used = len(tokenizer.encode(prompt, truncation=True, max_length=length))
            text = row["instruction"] + row["input"]
            direct = code["get_perplexity_and_embedding_whole_text"](tokenizer, model, text, length - used + 1)
            given = code["get_perplexity_and_embedding_part_text"](
                tokenizer, model, prompt + text, row["instruction"], length
            )
            form["cq"].append(given[1])
            form["dq"].append(direct[1])
        return dict(form)

    def _perplexities(self, file: Path) -> dict[str, Any]:
        import torch

        rows = torch.load(file)
        return {
            "ca": [math.log(row["ppl"][2].item()) for row in rows],
            "da": [math.log(row["ppl"][1].item()) for row in rows],
        }

    def places_of(self, file: Path) -> list[int]:
        """Which of our rows a selector wrote, in its order."""
        texts = [(row["instruction"], row["input"], row["output"]) for row in self.rows]
        return [texts.index((r["instruction"], r["input"], r["output"])) for r in json.loads(file.read_text())]


@contextlib.contextmanager
def _llama_names(model: Path) -> Iterator[None]:
    import transformers

    if "llama" in model.name:
        yield
        return
    names = {"LlamaTokenizer": transformers.AutoTokenizer, "LlamaForCausalLM": transformers.AutoModelForCausalLM}
    with mock.patch.multiple(transformers, **names):
        yield


def values_of(scripts: Scripts) -> dict[str, Any]:
    """Everything on one model, at the scripts' own lengths and cut to 128 tokens."""
    found: dict[str, Any] = {}
    for length, name in ((None, "whole"), (CUT, "cut")):
        found[name] = {
            "superfiltering": scripts.superfiltering(length or 1024),
            "cherry_alpaca": scripts.cherry("alpaca", length or 512),
            "cherry_vicuna": scripts.cherry("vicuna", length or 512),
            "cherry_wiz": scripts.cherry("wiz", length or 512),
            "cherry_alpaca_v1": scripts.cherry_v1("alpaca", length or 512),
            "wiz": scripts.cherry_v1("wiz", length or 512),
            "experience": scripts.experience(length or 512),
            "reverse": scripts.reverse(length or 1024),
        }
    return found


def _tidy(value: Any) -> Any:
    """Seven digits are enough for 1e-4; what is no number is missing."""
    if isinstance(value, dict):
        return {name: _tidy(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_tidy(part) for part in value]
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("cherry", "superfiltering", "reflection", "data"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, default=OUT)
    places = parser.parse_args()
    for name in ("cherry", "superfiltering", "reflection", "data"):
        setattr(places, name, getattr(places, name).resolve())
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch

    torch.set_num_threads(1)
    numbers, rows = tiny.rows_of(places.data / tiny.POOL)
    commits = {
        f"tianyi-lab/{name}": (getattr(places, option) / "COMMIT").read_text().strip()
        for name, option in (
            ("Cherry_LLM", "cherry"),
            ("Superfiltering", "superfiltering"),
            ("Reflection_Tuning", "reflection"),
        )
    }
    about = {
        "made by": "benchmarks/released_ifd.py",
        "commits": commits,
        "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "rows": {"file": tiny.POOL, "numbers": numbers, "sha256": tiny.digest(rows)},
        "cut": CUT,
        "ask": ASK,
        "take": TAKE,
        "kmeans": {"clusters": CLUSTERS, "per_cluster": PER_CLUSTER, "window": [LOW, HIGH]},
    }
    models = {}
    for name in tiny.MODELS:
        with tempfile.TemporaryDirectory() as folder:
            model = tiny.build(name, Path(folder) / name, rows)
            models[name] = {"fingerprint": tiny.fingerprint(model)}
            models[name] |= _tidy(values_of(Scripts(places, model, rows, Path(folder))))
            print(name, models[name]["fingerprint"][:12], flush=True)
    text = json.dumps(about | {"models": models}, indent=1, ensure_ascii=False)
    places.output.write_text(_compact(text) + "\n", encoding="utf-8")
    return 0


def _compact(text: str) -> str:
    """One line per list of numbers."""
    import re

    return re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda found: "[" + re.sub(r"\s+", " ", found[1]) + "]", text)


if __name__ == "__main__":
    sys.exit(main())
