"""`leaks:` of an experiment: a word or a mapping; a mistake names what may stand there."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import api
from harness.config.leaks import Leaks
from harness.errors import UserError


def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *settings: str) -> Leaks:
    monkeypatch.chdir(tmp_path)
    return api.plan("smoke", settings).experiment.leaks


def test_rows_are_flagged_unless_the_experiment_says_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert planned(tmp_path, monkeypatch) == Leaks(policy="flag", words=13, share=0.2, shortest=5, near=0.8, shingle=3)
    assert planned(tmp_path, monkeypatch, "leaks=drop").policy == "drop"
    assert planned(tmp_path, monkeypatch, "leaks.words=8", "leaks.near=null") == Leaks(words=8, near=None)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("leaks=dorp", "should be flag, drop or allow"),
        ("leaks.word=8", "did you mean 'words'"),
        ("leaks.share=20", "less than or equal to 1"),
    ],
)
def test_a_mistake_says_what_may_stand_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        planned(tmp_path, monkeypatch, setting)


def test_the_record_holds_what_was_in_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert api.plan("smoke", ("leaks=drop",)).experiment.resolved["leaks"]["policy"] == "drop"
