"""The chat format on the template styles that real model families use, with tokenizers built here."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.records.chat import ChatFormat
from harness.records.example import Message
from harness.records.templates import template_hash, template_of

PLAIN_TURNS = "{% for m in messages %}"
CHATML_TURN = "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
ASK_CHATML = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
TODAY = "{% if strftime_now is defined and date_string is not defined %}{{ strftime_now('%d %b %Y') }}{% endif %}"


@dataclass(frozen=True)
class Family:
    """One style: the template, special tokens, and what a Magpie prompt must look like."""

    template: str
    special: tuple[str, ...]
    bos: str | None
    eos: str
    pre_query: str
    stops: tuple[str, ...]
    adds_bos: bool = False
    metaspace: bool = False
    system: bool = True


DEFAULT_SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
FAMILIES = {
    "chatml": Family(
        template=PLAIN_TURNS + CHATML_TURN + "{% endfor %}" + ASK_CHATML,
        special=("<|im_start|>", "<|im_end|>", "<|endoftext|>"),
        bos=None,
        eos="<|im_end|>",
        pre_query="<|im_start|>user\n",
        stops=("<|im_start|>", "<|im_end|>"),
    ),
    "chatml with default system": Family(
        template="{% if messages[0].role != 'system' %}{{ '<|im_start|>system\n"
        + DEFAULT_SYSTEM
        + "<|im_end|>\n' }}{% endif %}"
        + PLAIN_TURNS
        + CHATML_TURN
        + "{% endfor %}"
        + ASK_CHATML,
        special=("<|im_start|>", "<|im_end|>", "<|endoftext|>"),
        bos=None,
        eos="<|im_end|>",
        pre_query=f"<|im_start|>system\n{DEFAULT_SYSTEM}<|im_end|>\n<|im_start|>user\n",
        stops=("<|im_start|>", "<|im_end|>"),
    ),
    "llama 3": Family(
        template=PLAIN_TURNS
        + "{% set turn = '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim + '<|eot_id|>' %}"
        + "{% if loop.first %}{% set turn = bos_token + turn %}{% endif %}{{ turn }}{% endfor %}"
        + "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
        special=("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        bos="<|begin_of_text|>",
        eos="<|eot_id|>",
        pre_query="<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n",
        stops=("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        adds_bos=True,
    ),
    "llama 2": Family(
        template=PLAIN_TURNS
        + "{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content | trim + ' [/INST]' }}"
        + "{% elif m.role == 'assistant' %}{{ ' ' + m.content | trim + ' ' + eos_token }}"
        + "{% else %}{{ raise_exception('no system turn') }}{% endif %}{% endfor %}",
        special=("<s>", "</s>"),
        bos="<s>",
        eos="</s>",
        pre_query="<s>[INST]",
        stops=("</s>",),
        adds_bos=True,
        metaspace=True,
        system=False,
    ),
    "gemma": Family(
        template="{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        + PLAIN_TURNS
        + "{% set role = 'model' if m.role == 'assistant' else m.role %}"
        + "{{ '<start_of_turn>' + role + '\n' + m.content | trim + '<end_of_turn>\n' }}{% endfor %}"
        + "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
        special=("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
        bos="<bos>",
        eos="<eos>",
        pre_query="<bos><start_of_turn>user\n",
        stops=("<eos>", "<start_of_turn>", "<end_of_turn>"),
        adds_bos=True,
        system=False,
    ),
    "pocket": Family(
        template="{{ bos_token }}"
        + PLAIN_TURNS
        + "{{ '<|' + m.role + '|>' }}{% if m.role == 'assistant' %}{% generation %}{{ m.content + '<|end|>' }}"
        + "{% endgeneration %}{% else %}{{ m.content + '<|end|>' }}{% endif %}{% endfor %}"
        + "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}",
        special=("<s>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"),
        bos="<s>",
        eos="<|end|>",
        pre_query="<s><|user|>",
        stops=("<|end|>", "<|system|>", "<|user|>", "<|assistant|>"),
        adds_bos=True,
    ),
    "template that forgets the bos": Family(
        template=PLAIN_TURNS + "{{ m.role | upper + ': ' + m.content + eos_token }}{% endfor %}",
        special=("<s>", "</s>"),
        bos="<s>",
        eos="</s>",
        pre_query="<s>USER:",
        stops=("</s>",),
        adds_bos=True,
    ),
}
TALK: list[Message] = [
    {"role": "user", "content": "What is 7 + 5?"},
    {"role": "assistant", "content": "It is 12."},
    {"role": "user", "content": "And twice that?"},
    {"role": "assistant", "content": "Twice 12 is 24,\n  as a rule."},
]
Build = Callable[[str], ChatFormat]


def save(folder: Path, family: Family, template: str | None = None) -> Path:
    """Writes a byte-level (or word-joining) tokenizer with the family's special tokens and template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE(byte_fallback=False))
    core.pre_tokenizer = (
        pre_tokenizers.Metaspace() if family.metaspace else pre_tokenizers.ByteLevel(add_prefix_space=False)
    )
    core.decoder = decoders.Metaspace() if family.metaspace else decoders.ByteLevel()
    texts = [m["content"] for m in TALK] + [
        "USER: assistant system user model [INST] [/INST] What Well And " + DEFAULT_SYSTEM
    ]
    alphabet = [] if family.metaspace else sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=list(family.special), initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(texts * 3, trainer)
    if family.adds_bos and family.bos:
        pair = [(family.bos, core.token_to_id(family.bos))]
        core.post_processor = processors.TemplateProcessing(single=f"{family.bos} $A", special_tokens=pair)
    made = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=family.bos,
        eos_token=family.eos,
        additional_special_tokens=list(family.special),
    )
    made.chat_template = (template if template is not None else family.template) or None
    made.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ChatFormat]:
    root = tmp_path_factory.mktemp("families")
    return {name: ChatFormat.from_folder(save(root / str(at), f)) for at, (name, f) in enumerate(FAMILIES.items())}


def text_of(chat: ChatFormat, ids: Sequence[int]) -> str:
    return str(chat.tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))


@pytest.mark.parametrize("name", FAMILIES)
def test_pre_query_is_what_the_template_writes_before_the_user(chats: dict[str, ChatFormat], name: str) -> None:
    chat, family = chats[name], FAMILIES[name]
    assert text_of(chat, chat.pre_query()).replace("> [", ">[") == family.pre_query


@pytest.mark.parametrize("name", FAMILIES)
def test_pre_query_is_the_beginning_of_every_rendered_conversation(chats: dict[str, ChatFormat], name: str) -> None:
    chat = chats[name]
    ids = chat.render(TALK[:1], add_generation_prompt=True)
    assert ids[: len(chat.pre_query())] == chat.pre_query()


@pytest.mark.parametrize("name", FAMILIES)
def test_there_is_one_bos_exactly_where_the_tokenizer_has_one(chats: dict[str, ChatFormat], name: str) -> None:
    chat, family = chats[name], FAMILIES[name]
    for ids in (chat.render(TALK[:2]), chat.pre_query(), chat.mask(TALK[:2])[0]):
        if family.bos is None:
            assert chat.bos is None
        else:
            assert ids[0] == chat.bos
            assert ids.count(chat.bos) == 1


@pytest.mark.parametrize("name", FAMILIES)
def test_stop_ids_are_the_end_tokens_and_the_markers_of_the_template(chats: dict[str, ChatFormat], name: str) -> None:
    chat = chats[name]
    assert set(chat.stop_ids) == set(chat.tokenizer.convert_tokens_to_ids(list(FAMILIES[name].stops)))


@pytest.mark.parametrize("name", FAMILIES)
def test_mask_covers_the_answers_and_their_end_tokens_only(chats: dict[str, ChatFormat], name: str) -> None:
    chat = chats[name]
    ids, mask = chat.mask(TALK)
    assert ids == chat.render(TALK)
    runs: list[list[int]] = []
    for before, (token, flag) in zip((0, *mask), zip(ids, mask, strict=True), strict=False):
        if flag and not before:
            runs.append([])
        if flag:
            runs[-1].append(token)
    end = {"llama 2": " </s>", "gemma": "<end_of_turn>"}.get(name, FAMILIES[name].eos)
    assert [text_of(chat, run).strip().replace(" </s>", "</s>") for run in runs] == [
        m["content"] + end.strip() for m in TALK if m["role"] == "assistant"
    ]


def test_mask_without_markers_equals_the_mask_with_them(tmp_path: Path) -> None:
    pocket = FAMILIES["pocket"]
    bare = pocket.template.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    marked = ChatFormat.from_folder(save(tmp_path / "marked", pocket))
    unmarked = ChatFormat.from_folder(save(tmp_path / "bare", pocket, bare))
    assert marked.mask(TALK) == unmarked.mask(TALK)
    assert marked.template_hash != unmarked.template_hash


def test_a_generation_marker_that_leaves_the_end_token_out_still_trains_it(tmp_path: Path) -> None:
    inner = "{% generation %}{{ m.content }}{% endgeneration %}{{ '<|end|>' }}"
    family = FAMILIES["pocket"]
    template = family.template.replace("{% generation %}{{ m.content + '<|end|>' }}{% endgeneration %}", inner)
    chat = ChatFormat.from_folder(save(tmp_path, family, template))
    ids, mask = chat.mask(TALK[:2])
    assert mask[-1] == 1
    assert ids[-1] == chat.eos


def test_a_template_that_rewrites_an_answer_is_refused(tmp_path: Path) -> None:
    family = FAMILIES["chatml"]
    template = family.template.replace("m.content +", "(m.content | upper if m.role == 'assistant' else m.content) +")
    chat = ChatFormat.from_folder(save(tmp_path, family, template))
    with pytest.raises(UserError, match=r"rewrites turn 2.*generation"):
        chat.mask(TALK[:2])


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.system])
def test_a_system_turn_stands_before_the_user_prefix(chats: dict[str, ChatFormat], name: str) -> None:
    text = text_of(chats[name], chats[name].pre_query("Be brief."))
    assert "Be brief." in text
    assert DEFAULT_SYSTEM not in text


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if not family.system])
def test_a_template_without_a_system_role_says_so(chats: dict[str, ChatFormat], name: str) -> None:
    with pytest.raises(
        UserError, match=r"refuses a conversation with the roles system, user.*Leave the system turn out"
    ):
        chats[name].pre_query("Be brief.")


def test_user_stops_exist_where_no_special_token_ends_the_user(chats: dict[str, ChatFormat]) -> None:
    assert chats["llama 2"].user_stops == ("[/INST]",)
    assert chats["llama 3"].user_stops == ()
    assert chats["chatml"].user_stops == ()


def test_a_template_that_prints_today_prints_a_fixed_day(tmp_path: Path) -> None:
    family = FAMILIES["chatml"]
    chat = ChatFormat.from_folder(save(tmp_path, family, TODAY + "{{ date_string }}" + family.template))
    assert text_of(chat, chat.render(TALK[:1])).startswith("26 Jul 2024<|im_start|>")


@pytest.mark.parametrize(
    ("special", "expected"),
    [
        (("<|im_start|>", "<|im_end|>"), "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"),
        (("<|user|>", "<|assistant|>", "<|end|>"), "<|user|>Hello<|end|><|assistant|>"),
        ((), "User: Hello\n\nAssistant:"),
    ],
)
def test_a_base_model_without_a_template_gets_a_default_one(
    tmp_path: Path, special: tuple[str, ...], expected: str
) -> None:
    end = "<|endoftext|>"
    family = Family("", (*special, end), bos=None, eos=end, pre_query="", stops=())
    chat = ChatFormat.from_folder(save(tmp_path, family, ""))
    talk: list[Message] = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good day"}]
    assert text_of(chat, chat.render(talk[:1], add_generation_prompt=True)) == expected
    ids, mask = chat.mask(talk)
    written = text_of(chat, [token for token, flag in zip(ids, mask, strict=True) if flag])
    assert written.strip() == "Good day" + (special[-1] if special else end)
    assert chat.tokenizer.convert_tokens_to_ids(end) in chat.stop_ids


def test_the_hash_comes_from_the_files_alone_and_changes_with_the_template(tmp_path: Path) -> None:
    one = save(tmp_path / "one", FAMILIES["chatml"])
    two = save(tmp_path / "two", FAMILIES["chatml with default system"])
    assert ChatFormat.from_folder(one).template_hash == template_hash(one)
    assert template_hash(one) != template_hash(two)
    assert template_of(one) == FAMILIES["chatml"].template


def test_a_template_in_the_tokenizer_config_is_found(tmp_path: Path) -> None:
    folder = save(tmp_path, FAMILIES["chatml"])
    (folder / "chat_template.jinja").unlink()
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["chat_template"] = [
        {"name": "default", "template": "{{ messages[0].content }}"},
        {"name": "x", "template": ""},
    ]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    assert template_of(folder) == "{{ messages[0].content }}"


def test_words_that_a_tokenizer_does_not_know_are_no_stops(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({"<unk>": 0, "</s>": 1, "yes": 2}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    made = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", eos_token="</s>")
    made.chat_template = PLAIN_TURNS + "{{ m.content + eos_token }}{% endfor %}"
    made.save_pretrained(tmp_path)
    assert ChatFormat.from_folder(tmp_path).stop_ids == (1,)


def test_text_survives_a_round_trip(chats: dict[str, ChatFormat]) -> None:
    text = "Two  words,\n\n\tdef f(x): naïve 中文 🙂"
    chat = chats["llama 3"]
    assert chat.decode(chat.encode(text)) == text
    assert chat.encode(text, special=True) == (chat.bos, *chat.encode(text))


def test_a_tokenizer_class_that_drops_spaces_is_replaced_by_the_file(tmp_path: Path) -> None:
    folder = save(tmp_path, FAMILIES["llama 3"])
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["tokenizer_class"] = "LlamaTokenizer"
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    chat = ChatFormat.from_folder(folder)
    assert chat.decode(chat.encode("Two  words")) == "Two  words"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no model folder .*nowhere"):
        ChatFormat.from_folder(tmp_path / "nowhere")


def magpie_configs() -> dict[str, Any]:
    root = Path(os.environ.get("LOOPBENCH_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))
    file = root / "magpie" / "model_configs.json"
    if not file.is_file():
        pytest.skip(f"{file} is not there (set LOOPBENCH_SHARED_DATA)")
    configs: dict[str, Any] = json.loads(file.read_text())
    return configs


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("meta-llama/Meta-Llama-3-8B-Instruct", "llama 3"),
        ("Qwen/Qwen2-7B-Instruct", "chatml"),
        ("Qwen/Qwen2.5-7B-Instruct", "chatml with default system"),
        ("google/gemma-1.1-7b-it", "gemma"),
    ],
)
def test_pre_query_equals_the_published_one(chats: dict[str, ChatFormat], model: str, name: str) -> None:
    assert text_of(chats[name], chats[name].pre_query()) == magpie_configs()[model]["pre_query_template"]
