"""Datasets as they are loaded: what comes out, what is dropped, and what is refused with the rows named."""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from harness.config import Dataset, SuiteRef, Withhold
from harness.errors import Transient, UserError
from harness.records.example import Dropped, Example
from harness.records.sources import check, fingerprint, load, withheld

ROWS = [{"prompt": f"question {k}", "completion": f"answer {k}"} for k in range(20)]


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def dataset(path: Path, text: str | bytes, **options: Any) -> Dataset:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return Dataset(name="set", path=str(path), written=path.name, **options)


def examples(source: Dataset) -> list[Example]:
    return [row for row in load(source) if isinstance(row, Example)]


def dropped(source: Dataset) -> list[str]:
    return [row.reason for row in load(source) if isinstance(row, Dropped)]


def test_every_file_form_gives_the_same_rows(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"prompt": 'naïve \u2028 «q», "x"', "completion": "línea 1\nlínea 2"}, *ROWS]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    quoted = "".join(
        ",".join('"' + row[c].replace('"', '""') + '"' for c in ("prompt", "completion")) + "\n" for row in rows
    )
    files = {
        "a.jsonl": lines(rows).encode(),
        "a.json": json.dumps(rows).encode(),
        "b.json": lines(rows).encode(),
        "a.jsonl.gz": gzip.compress(lines(rows).encode()),
        "a.json.gz": gzip.compress(json.dumps(rows, indent=1).encode()),
        "a.csv": b"\xef\xbb\xbf" + f"prompt,completion\n{quoted}".encode(),
        "a.parquet": (tmp_path / "a.parquet").read_bytes(),
    }
    loaded = {name: examples(dataset(tmp_path / name, data)) for name, data in files.items()}
    for name, found in loaded.items():
        assert found == loaded["a.jsonl"], name
    assert loaded["a.jsonl"][0].messages[0]["content"] == rows[0]["prompt"]
    assert [row.id for row in loaded["a.jsonl"]][:2] == ["set/0", "set/1"]


def test_columns_are_renamed(tmp_path: Path) -> None:
    text = lines([{"q": "one", "a": "two", "extra": 3}])
    (row,) = examples(dataset(tmp_path / "x.jsonl", text, columns={"prompt": "q", "completion": "a"}))
    assert (row.prompt[0]["content"], row.answer, row.fields["extra"]) == ("one", "two", 3)
    with pytest.raises(UserError, match="has no column 'z'; it has a, extra, q"):
        examples(dataset(tmp_path / "x.jsonl", text, columns={"prompt": "z", "completion": "a"}))


def test_rows_without_an_answer_are_named_and_counted(tmp_path: Path) -> None:
    rows = [row if k % 2 else {**row, "completion": ""} for k, row in enumerate(ROWS)]
    source = dataset(tmp_path / "x.jsonl", lines(rows))
    with pytest.raises(UserError) as caught:
        examples(source)
    text = str(caught.value)
    assert (
        "10 rows of the dataset set cannot be used: no answer in line 1, line 3, line 5, line 7, line 9 and 5 more"
        in text
    )
    assert "`require_answer: drop`" in text
    assert len(examples(source.model_copy(update={"require_answer": False}))) == 20
    left = source.model_copy(update={"require_answer": "drop"})
    assert (len(examples(left)), dropped(left)) == (10, ["no answer"] * 10)


def test_bad_rows_say_where_and_why(tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}, {"messages": []}]
    with pytest.raises(UserError, match=r"1 row of the dataset set cannot be used: row 2 \(no messages\)\. Mend"):
        examples(dataset(tmp_path / "x.json", json.dumps(rows)))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.jsonl", '{"prompt": "a"}\n{"prompt": \n', "x.jsonl:2: not valid JSON"),
        ("x.json", "[1]", "row 1 is no mapping of columns, but int"),
        ("x.json", "[{]", "x.json:1: not valid JSON"),
        ("x.jsonl", "", "has no rows: the file is empty"),
        ("x.jsonl", '{"text": "a"}\n', "its columns are text"),
        ("x.csv", "prompt,completion\nq\n", "x.csv:2: this line has not as many columns"),
        ("x.txt", "q", "the ending says what a data file is; known: .csv, .json, .jsonl, .parquet"),
        ("x.jsonl", b"\xff\xfe", "is not UTF-8 text"),
        ("x.jsonl.gz", b"\x1f\x8bbroken", "cannot be read"),
        ("x.parquet", "q", "not a readable Parquet file"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, text: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        examples(dataset(tmp_path / name, text))


def test_check_tells_what_would_stop_a_run(tmp_path: Path) -> None:
    assert check(dataset(tmp_path / "x.jsonl", lines(ROWS))) == []
    (problem,) = check(dataset(tmp_path / "y.jsonl", "{}"))
    assert (problem.file, "its columns are" in problem.message) == ("y.jsonl", True)


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the dataset set names .*gone.jsonl, which is not there"):
        fingerprint(Dataset(name="set", path=str(tmp_path / "gone.jsonl")))


def test_checksums_of_the_file_and_of_its_content(tmp_path: Path) -> None:
    plain = lines(ROWS).encode()
    packed = gzip.compress(plain)
    good = {"sha256": hashlib.sha256(packed).hexdigest(), "sha256_unpacked": hashlib.sha256(plain).hexdigest().upper()}
    assert len(examples(dataset(tmp_path / "x.jsonl.gz", packed, **good))) == 20
    for key in good:
        with pytest.raises(UserError, match=f"is not the file that was meant: .*`{key}` says 0000"):
            fingerprint(dataset(tmp_path / "x.jsonl.gz", packed, **{**good, key: "0" * 64}))


def test_a_limit_counts_rows_that_come_out(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "completion": ""}, *ROWS]
    source = dataset(tmp_path / "x.jsonl", lines(rows), rows=3, require_answer="drop")
    assert ([row.id for row in examples(source)], dropped(source)) == (["set/1", "set/2", "set/3"], ["no answer"])


def test_withheld_rows_and_the_rest_are_the_whole(tmp_path: Path) -> None:
    source = dataset(tmp_path / "x.jsonl", lines(ROWS), withhold=Withhold(rows=5, seed=1))
    rest, apart = examples(source), examples(source.model_copy(update={"part": "withheld"}))
    assert (len(rest), len(apart)) == (15, 5)
    assert {row.id for row in rest} | {row.id for row in apart} == {f"set/{k}" for k in range(20)}
    backwards = dataset(tmp_path / "y.jsonl", lines(ROWS[::-1]), withhold=Withhold(rows=5, seed=1), part="withheld")
    assert {row.answer for row in examples(backwards)} == {row.answer for row in apart}
    other = source.model_copy(update={"part": "withheld", "withhold": Withhold(rows=5, seed=2)})
    assert {row.id for row in examples(other)} != {row.id for row in apart}


def test_rows_of_one_prompt_are_withheld_together(tmp_path: Path) -> None:
    source = dataset(tmp_path / "x.jsonl", lines(ROWS * 2), withhold=Withhold(rows=5))
    assert len(examples(source)) == 30
    with pytest.raises(UserError, match="20 rows cannot be set apart of 20 distinct prompts"):
        withheld([row["prompt"] for row in ROWS], 20, 0)


class _Suite:
    count = 2

    def identity_options(self) -> dict[str, Any]:
        return {"count": self.count}

    def items(self, split: str) -> list[Any]:
        return [type("Item", (), {"turns": ("question  3 ", "question 4")})()]

    def fingerprint(self, split: str) -> str:
        return f"items of {split}"


def test_prompts_of_tests_stay_out_and_are_counted(tmp_path: Path) -> None:
    source = dataset(tmp_path / "x.jsonl", lines(ROWS))
    test = dataset(tmp_path / "test.jsonl", lines([{**ROWS[7], "completion": ""}])).model_copy(update={"name": "tests"})
    suite = SuiteRef(name="suite", block_name="suite", block=_Suite())
    guarded = source.model_copy(update={"exclude": (test, suite)})
    assert {f"set/{k}" for k in range(20)} - {row.id for row in examples(guarded)} == {"set/3", "set/7"}
    assert sorted(dropped(guarded)) == ["prompt of suite", "prompt of tests"]
    assert fingerprint(guarded) != fingerprint(source)


def test_what_is_kept_out_follows_the_options_and_the_name_of_the_suite(tmp_path: Path) -> None:
    """A suite's own fingerprint covers where its items come from, not how many are asked."""
    source = dataset(tmp_path / "x.jsonl", lines(ROWS))
    more = _Suite()
    more.count = 3
    suites = [SuiteRef(name=name, block_name="suite", block=block) for name, block in (
        ("suite", _Suite()), ("suite", more), ("other", _Suite()),
    )]  # fmt: skip
    assert len({fingerprint(source.model_copy(update={"exclude": (suite,)})) for suite in suites}) == 3


def test_nothing_left_says_what_was_dropped(tmp_path: Path) -> None:
    source = dataset(tmp_path / "x.jsonl", lines([{"prompt": "a", "completion": ""}]), require_answer="drop")
    with pytest.raises(UserError, match=r"the dataset set \(x.jsonl\) has no rows; dropped: 1 no answer"):
        examples(source)


def test_the_fingerprint_follows_content_and_options_not_the_place(tmp_path: Path) -> None:
    source = dataset(tmp_path / "x.jsonl", lines(ROWS))
    elsewhere = dataset(tmp_path / "y.jsonl", lines(ROWS))
    assert fingerprint(source) == fingerprint(elsewhere)
    changed = dataset(tmp_path / "z.jsonl", lines(ROWS[:-1]))
    variants = [source.model_copy(update=u) for u in ({"rows": 3}, {"withhold": Withhold(rows=3)}, {"name": "other"})]
    assert len({fingerprint(one) for one in (source, changed, *variants)}) == 5


def test_pocket_pools_are_generated_and_keep_what_was_planted() -> None:
    pytest.importorskip("harness.pocket.pool")
    options = {"rows": 60, "seed": 1, "defects": {"wrong": 0.5}}
    source = Dataset(name="pool", kind="pocket", options=options)
    rows = examples(source)
    assert len(rows) == 60
    assert 10 < sum(row.tags["defect"] == "wrong" for row in rows) < 50
    assert len({row.id for row in rows}) == 60
    assert all(row.answer and row.group for row in rows)
    assert fingerprint(source) != fingerprint(source.model_copy(update={"options": {**options, "seed": 2}}))
    with pytest.raises(UserError, match="unknown defect 'wrnog'"):
        examples(source.model_copy(update={"options": {"rows": 5, "seed": 0, "defects": {"wrnog": 0.1}}}))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "www").mkdir()
    (tmp_path / "www/rows.jsonl").write_text(lines(ROWS))

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "www")))
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}/rows.jsonl"
    httpd.shutdown()
    httpd.server_close()


def test_a_url_is_fetched_once_and_checked(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPBENCH_HOME", str(tmp_path / "home"))
    good = hashlib.sha256(lines(ROWS).encode()).hexdigest()
    source = Dataset(name="set", url=server, sha256=good)
    assert fingerprint(source)
    assert not (tmp_path / "home").exists()  # what the checksum tells needs no download
    assert len(examples(source)) == 20
    (tmp_path / "www/rows.jsonl").unlink()
    assert len(examples(source)) == 20
    with pytest.raises(Transient, match="could not be downloaded"):
        examples(source.model_copy(update={"sha256": "1" * 64}))
    (tmp_path / "www/rows.jsonl").write_text("changed")
    with pytest.raises(UserError, match="the file behind the URL has changed"):
        examples(source.model_copy(update={"sha256": "1" * 64}))
