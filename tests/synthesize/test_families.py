"""Prefixes and stops per family of teachers, against the released `model_configs.json` where it is there.

The templates are written here after those of the families' tokenizers: what a template says before a user's text, what
it puts around turns, and its default system turn. Only these matter to a pre-query prefix.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.records.chat import ChatFormat
from harness.synthesize._teachers import TEACHERS
from harness.synthesize.magpie import Magpie

QWEN_SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."


def turns(before: str, role: str = "m.role", opening: str = "", system: str = "") -> str:
    """A template of turns `<before with role><text><end>`, with a default system turn unless one is given."""
    default = f"{{% if messages[0].role != 'system' %}}{{{{ '{system}' }}}}{{% endif %}}" if system else ""
    return f"{opening}{default}{{% for m in messages %}}{{% set role = {role} %}}{before}{{% endfor %}}"


CHATML = "{{ '<|im_start|>' + role + '\n' + m.content + '<|im_end|>\n' }}"
HEADERS = "{{ '<|start_header_id|>' + role + '<|end_header_id|>\n\n' + m.content | trim + '<|eot_id|>' }}"
INST = (
    "{% if role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}{% elif role == 'assistant' %}"
    "{{ ' ' + m.content + eos_token }}{% else %}{{ raise_exception('no system turn') }}{% endif %}"
)
GEMMA = (
    "{% if role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    "{{ '<start_of_turn>' + role + '\n' + m.content | trim + '<end_of_turn>\n' }}"
)
PHI = "{{ '<|' + role + '|>\n' + m.content + '<|end|>\n' }}"
BOS = "{{ bos_token }}"


@dataclass(frozen=True)
class Family:
    """`same`: the template gives the released prefix (white space aside at its end)."""

    template: str
    bos: str | None
    eos: str
    models: tuple[str, ...]
    settings: tuple[str, ...]
    same: bool
    ends: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    """Released stops that neither the template writes nor the generation settings name."""
    adds_bos: bool = True


FAMILIES = {
    "llama 3": Family(
        turns(HEADERS, opening=BOS), "<|begin_of_text|>", "<|eot_id|>",
        ("meta-llama/Meta-Llama-3-8B-Instruct", "meta-llama/Meta-Llama-3-70B-Instruct"), ("llama-3",), True,
        ("<|end_of_text|>",),
    ),
    "llama 3.1": Family(
        turns(
            HEADERS, opening=BOS,
            system="<|start_header_id|>system<|end_header_id|>\n\nToday Date: 26 Jul 2024\n\n<|eot_id|>",
        ),
        "<|begin_of_text|>", "<|eot_id|>",
        (
            "meta-llama/Meta-Llama-3.1-8B-Instruct", "meta-llama/Meta-Llama-3.1-70B-Instruct",
            "meta-llama/Meta-Llama-3.1-405B-Instruct", "meta-llama/Llama-3.3-70B-Instruct",
        ),
        ("llama-3.1-8b", "llama-3.1-70b", "llama-3.3-70b"), False, ("<|end_of_text|>",),
        ("<|starter_header_id|>",),  # the released file's own spelling of a token that does not exist
    ),
    "qwen 2": Family(
        turns(CHATML, system="<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"), None, "<|im_end|>",
        (
            "Qwen/Qwen2-72B-Instruct", "Qwen/Qwen2-7B-Instruct", "Qwen/Qwen2-1.5B-Instruct",
            "Qwen/Qwen2-Math-7B-Instruct", "Qwen/Qwen1.5-7B-Chat",
        ),
        ("qwen2", "qwen2-math-7b"), False, ("<|endoftext|>",),
    ),
    "qwen 2.5": Family(
        turns(CHATML, system=f"<|im_start|>system\n{QWEN_SYSTEM}<|im_end|>\n"), None, "<|im_end|>",
        tuple(f"Qwen/Qwen2.5-{size}-Instruct" for size in (
            "1.5B", "3B", "7B", "14B", "32B", "72B", "Coder-7B", "Coder-32B",
        )),
        ("qwen2.5-3b", "qwen2.5-7b", "qwen2.5-14b", "qwen2.5-32b", "qwen2.5-72b", "qwen2.5-coder-32b"), True,
        ("<|endoftext|>",),
    ),
    "qwen 2.5 math": Family(
        turns(CHATML, system="<|im_start|>system\nPlease reason step by step.<|im_end|>\n"), None, "<|im_end|>",
        ("Qwen/Qwen2.5-Math-72B-Instruct",), ("qwen2.5-math-72b",), False, ("<|endoftext|>",),
    ),
    "gemma 1.1": Family(
        turns(GEMMA, "'model' if m.role == 'assistant' else m.role", BOS), "<bos>", "<eos>",
        ("google/gemma-1.1-7b-it",), ("gemma-1.1",), True,
    ),
    "gemma 2": Family(
        turns(GEMMA, "'model' if m.role == 'assistant' else m.role", BOS), "<bos>", "<eos>",
        ("google/gemma-2-27b-it", "google/gemma-2-9b-it", "google/gemma-2-2b-it"), ("gemma-2",), False,
    ),
    "phi 3": Family(
        turns(PHI, opening=BOS), "<s>", "<|endoftext|>",
        (
            "microsoft/Phi-3-mini-128k-instruct", "microsoft/Phi-3-medium-128k-instruct",
            "microsoft/Phi-3.5-mini-instruct",
        ),
        ("phi-3",), False, ("</s>",),
    ),
    "phi 3 small": Family(
        turns(PHI, opening=BOS), "<|endoftext|>", "<|endoftext|>", ("microsoft/Phi-3-small-128k-instruct",),
        ("phi-3-small",), True,
    ),
    "mistral": Family(
        turns(INST, opening=BOS), "<s>", "</s>", ("mistralai/Mistral-7B-Instruct-v0.3",), ("mistral-v0.3",), False,
    ),
    "llama 2": Family(
        turns(INST.replace("'[INST] '", "bos_token + '[INST] '")), "<s>", "</s>", ("meta-llama/Llama-2-7b-chat-hf",),
        ("llama-2",), False,
    ),
    "yi 1.5": Family(
        turns(CHATML), "<|startoftext|>", "<|im_end|>", ("01-ai/Yi-1.5-34B-Chat",), ("yi-1.5",), False,
        ("<|endoftext|>",), adds_bos=False,
    ),
    "deepseek coder v2": Family(
        turns(
            "{% if role == 'user' %}{{ 'User: ' + m.content + '\n\n' }}{% else %}"
            "{{ 'Assistant: ' + m.content + eos_token }}{% endif %}", opening=BOS,
        ),
        "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", ("deepseek-ai/DeepSeek-Coder-V2-Lite-Instruct",),
        ("deepseek-coder-v2-lite",), True, unused=("<|EOT|>", "<｜User｜>", "<｜Assistant｜>"),
    ),
}  # fmt: skip
WITHOUT = {"lmsys/vicuna-7b-v1.5": "vicuna", "NousResearch/Nous-Hermes-llama-2-7b": None}
"""Models whose tokenizers bring no chat template."""


def configs() -> dict[str, Any]:
    root = Path(os.environ.get("LOOPBENCH_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
    file = root / "magpie" / "model_configs.json"
    if not file.is_file():
        pytest.skip(f"{file} is not there (set LOOPBENCH_SHARED_DATA)")
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def tokens_of(family: Family, released: dict[str, Any]) -> list[str]:
    stops = [token for model in family.models for token in released[model]["stop_tokens"]]
    more = [family.bos, family.eos, "<|im_start|>", "<|start_header_id|>", "<start_of_turn>", "<end_of_turn>"]
    return [token for token in dict.fromkeys([*more, *stops, *family.ends]) if token]


def save(folder: Path, family: Family, tokens: list[str]) -> Path:
    """A byte-level tokenizer with these special tokens, which adds the family's BOS to plain text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: at for at, letter in enumerate(letters)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(tokens)
    if family.bos and family.adds_bos:
        pair = [(family.bos, core.token_to_id(family.bos))]
        core.post_processor = processors.TemplateProcessing(single=f"{family.bos} $A", special_tokens=pair)
    made = PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token=family.bos, eos_token=family.eos, additional_special_tokens=tokens
    )
    made.chat_template = family.template
    made.save_pretrained(folder)
    ends = [core.token_to_id(token) for token in (family.eos, *family.ends)]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    return folder


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ChatFormat]:
    released, root = configs(), tmp_path_factory.mktemp("families")
    return {
        name: ChatFormat.from_folder(save(root / str(at), family, tokens_of(family, released)))
        for at, (name, family) in enumerate(FAMILIES.items())
    }


def text_of(chat: ChatFormat, ids: tuple[int, ...]) -> str:
    return str(chat.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


CASES = [(name, model) for name, family in FAMILIES.items() for model in family.models]


def test_every_released_model_is_known_here() -> None:
    assert {model for _, model in CASES} | set(WITHOUT) == set(configs())
    named = {setting for family in FAMILIES.values() for setting in family.settings} | {"vicuna"}
    assert named == set(TEACHERS)


@pytest.mark.parametrize(("name", "model"), CASES)
def test_the_prefix_equals_the_released_one(chats: dict[str, ChatFormat], name: str, model: str) -> None:
    chat, family, released = chats[name], FAMILIES[name], configs()[model]["pre_query_template"]
    derived = text_of(chat, chat.pre_query())
    assert (derived == released) is family.same
    for setting in family.settings:
        prefix = Magpie.model_validate({"family": setting}).prefix
        ids = chat.literal(prefix) if prefix is not None else chat.pre_query()
        assert text_of(chat, ids) == released
        assert (prefix is None) is family.same, "a literal prefix stands only where the template gives another one"
        if chat.bos is not None:
            assert ids.count(chat.bos) == 1
            assert ids[0] == chat.bos


@pytest.mark.parametrize(("name", "model"), CASES)
def test_the_derived_stops_hold_the_released_ones(chats: dict[str, ChatFormat], name: str, model: str) -> None:
    chat, family, released = chats[name], FAMILIES[name], set(configs()[model]["stop_tokens"])
    derived = set(chat.tokenizer.convert_ids_to_tokens(list(chat.stop_ids)))
    unknown = {family.bos, "<unk>", *family.unused} - {family.eos}
    assert released - unknown <= derived
    assert family.bos not in derived - {family.eos}


def test_vicuna_brings_no_template_but_its_prefix_is_the_released_one() -> None:
    assert TEACHERS["vicuna"].prefix == configs()["lmsys/vicuna-7b-v1.5"]["pre_query_template"]


def test_the_steering_turn_stands_where_the_released_one_stands(chats: dict[str, ChatFormat]) -> None:
    """`pre_query_template_math` and its siblings are a system turn before the same prefix."""
    entry = configs()["meta-llama/Meta-Llama-3-8B-Instruct"]
    for variant in ("math", "code", "translation", "with_system_prompt"):
        text = entry[f"pre_query_template_{variant}"]
        said = text.split("<|end_header_id|>\n\n")[1].removesuffix("<|eot_id|><|start_header_id|>user")
        assert text_of(chats["llama 3"], chats["llama 3"].pre_query(said)) == text


def test_a_later_turn_ends_with_the_released_appendix(chats: dict[str, ChatFormat]) -> None:
    chat, entry = chats["llama 3"], configs()["meta-llama/Meta-Llama-3-8B-Instruct"]
    before: Any = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    text = text_of(chat, chat.pre_query("Go on.", before))
    assert text.endswith("Hello<|eot_id|>" + entry["mt_append_template"])
    assert (
        text_of(chat, chat.pre_query(None, before)) == text_of(chat, chat.render(before)) + entry["mt_append_template"]
    )


@pytest.mark.parametrize("rewriting", ["m.content | upper", "'x'", "m.content | reverse", "'What' ~ m.content | upper"])
def test_a_template_that_rewrites_the_user_gives_no_prefix(tmp_path: Path, rewriting: str) -> None:
    family = FAMILIES["llama 3"]
    odd = Family(family.template.replace("m.content | trim", f"({rewriting})"), family.bos, family.eos, (), (), True)
    chat = ChatFormat.from_folder(
        save(tmp_path, odd, [str(odd.bos), odd.eos, "<|start_header_id|>", "<|end_header_id|>"])
    )
    with pytest.raises(
        UserError, match="leaves the user's text out or rewrites it: where it would begin cannot be told"
    ):
        chat.pre_query()
