"""Prompts that released code keeps in Python functions: `def rate(input): message = f'...{input}...'; return message`.

The file is read as text and nothing in it is run: the one formatted string of the function is the prompt.
"""

from __future__ import annotations

import ast
from functools import lru_cache

from harness.errors import UserError
from harness.records import named
from harness.records.datafile import locate, text_of
from harness.records.values import DataFile


def prompt_of(file: DataFile, function: str, option: str) -> str:
    """The prompt of a function, with `{question}` where it puts its argument, ready for `str.format`.

    Raises:
        UserError: the file is missing, has another checksum, or no such function in it.
    """
    return _prompt(named.digest(file, option), str(named.local(file, option)), function, option)


@lru_cache(maxsize=16)
def _prompt(digest: str, path: str, function: str, option: str) -> str:  # digest: a changed file is read again
    try:
        body = ast.parse(text_of(locate(path, option))).body
    except SyntaxError as error:
        raise UserError(f"{path} (option `{option}`) is no Python file: {error}") from error
    functions = {one.name: one for one in body if isinstance(one, ast.FunctionDef)}
    texts = (
        [part for part in ast.walk(functions[function]) if isinstance(part, ast.JoinedStr)]
        if (function in functions)
        else []
    )
    if len(texts) != 1:
        raise UserError(
            f"{path} (option `{option}`) has no function {function!r} with one formatted text: its functions are "
            f"{', '.join(functions) or 'none'}"
        )
    return "".join(_part(part) for part in texts[0].values)


def _part(part: ast.expr) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value).replace("{", "{{").replace("}", "}}")
    return "{question}"
