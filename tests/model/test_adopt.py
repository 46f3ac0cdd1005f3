"""Other people's models: brought in they compute what they did, train on, and go out again as what they are."""

import copy
import json
from itertools import pairwise

import pytest
import torch
from tiny import PROJECTOR, SEED, VISION, corpus_texts, shake, weights
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Fast
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from jvlm.cli import app
from jvlm.errors import DataError, UsageError
from jvlm.files import read_json, write_json
from jvlm.model.adopt import adopt
from jvlm.model.directory import load_directory, save_model, write_model_files
from jvlm.model.export import export
from jvlm.model.jvlm import JvlmModel, hidden_states
from jvlm.model.language import CLASSES
from jvlm.model.processor import Processor
from jvlm.model.vision import build_tower
from jvlm.sample import Message
from jvlm.text.raw import Document
from jvlm.text.shards import TokenShards, write_token_shards
from jvlm.text.tokenizer import SPECIAL_TOKENS, Tokenizer
from jvlm.train.config import LoopConfig, OptimizerConfig, PackingConfig
from jvlm.train.loop import train
from jvlm.train.objectives.next_token import NextToken
from jvlm.train.source import PackedRows, TokenDocuments

TYPED = [*SPECIAL_TOKENS, "<|endoftext|>", "<|im_start|>"]
TEXTS = ["赤い丸が2個あります。\n", " left  right ", "±10⁻³ mg/dL 😀", "a<|end|>b</s><|endoftext|> <s>"]


def byte_level():
    """As Qwen has it: no unk, no bos, the end token pads too."""
    fast = Fast(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    fast.train_from_iterator(corpus_texts(60), trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet))
    fast.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in ("<|endoftext|>", "<|im_start|>")])
    return fast, {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "bos_token": None, "unk_token": None}


def sentencepiece_like(scheme):
    """As Llama 2 and Mistral have it: <unk>, <s>, </s>, bytes, and a space put before text."""
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    first = ["<unk>", "<s>", "</s>", *bytes_]
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=first)
    fast = Fast(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if scheme == "legacy":
        fast.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        fast.decoder = decoders.Sequence(steps)
    else:
        fast.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
        steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        fast.decoder = decoders.Sequence(steps)
    fast.train_from_iterator([t[:300] for t in corpus_texts(40)], trainer)
    definition = json.loads(fast.to_str())
    definition["added_tokens"] = [t for t in definition["added_tokens"] if t["content"] in ("<unk>", "<s>", "</s>")]
    named = {"bos_token": {"content": "<s>"}, "eos_token": "</s>", "unk_token": "<unk>"}
    return Fast.from_str(json.dumps(definition)), named


TOKENIZERS = {
    "llama": lambda: sentencepiece_like("legacy"),
    "mistral": lambda: sentencepiece_like("first"),
    "mixtral": lambda: sentencepiece_like("legacy"),
    "qwen2": byte_level,
    "qwen3": byte_level,
}
SETTINGS = {
    "llama": {
        "tie_word_embeddings": False,
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    },
    "mistral": {"sliding_window": None, "head_dim": 16},
    "mixtral": {"num_local_experts": 3, "sliding_window": None},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {"head_dim": 16, "tie_word_embeddings": True},
}


def make_folder(kind, folder, dtype=torch.float32, shard="1GB", **more):
    """A small random model as its makers would publish it; returns it in float32."""
    fast, named = TOKENIZERS[kind]()
    config_class, _ = CLASSES[kind]
    torch.manual_seed(0)
    config = config_class(
        vocab_size=fast.get_vocab_size() + (13 if "qwen" in kind else 0),  # Qwen's tables are longer than need be
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        **SETTINGS[kind] | more,
    )
    model = shake(AutoModelForCausalLM.from_config(config)).eval()
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype).float()
    copy.deepcopy(model).to(dtype).save_pretrained(folder, max_shard_size=shard)
    fast.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"} | named)
    return model, fast


@pytest.fixture(params=CLASSES)
def kind(request):
    return request.param


@torch.no_grad()
def logits(model, ids):
    return model(torch.tensor([ids])).logits[0]


def close(one, other):
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_it_computes_what_it_did_and_goes_out_as_what_it_was(kind, tmp_path):
    theirs, fast = make_folder(kind, tmp_path / "theirs")
    said = adopt(tmp_path / "theirs", tmp_path / "ours")
    assert type(theirs).__name__ in said
    loaded = load_directory(tmp_path / "ours")
    tokenizer, model = loaded.processor.tokenizer, loaded.model
    assert loaded.kind == kind
    ids = tokenizer.encode(corpus_texts(1)[0])[:80]
    assert ids == fast.encode(corpus_texts(1)[0], add_special_tokens=False).ids[:80]
    known = fast.get_vocab_size()
    expected = logits(theirs, ids)
    assert float(expected.std()) > 0.1
    close(logits(model, ids)[:, :known], expected[:, :known])
    with torch.no_grad():  # the way it is trained, in a packed row
        embeddings = model.get_input_embeddings()(torch.tensor([[*ids[:30], *ids]]))
        positions = torch.tensor([[*range(30), *range(len(ids))]])
        packed = model.lm_head(hidden_states(model, embeddings, positions, [30, len(ids)]))[0, 30:]
    close(packed[:, :known], expected[:, :known])

    export(tmp_path / "ours", tmp_path / "hf", "hf")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "hf", attn_implementation="sdpa")
    assert type(plain) is type(theirs)
    for config in (model.config, plain.config):  # Mistral's is 4096 where a config.json does not say that it has none
        assert getattr(config, "sliding_window", None) is None
    close(logits(plain, ids), logits(model, ids))
    auto = AutoTokenizer.from_pretrained(tmp_path / "hf")
    for text in (*TEXTS[:3], corpus_texts(1)[0]):
        assert auto(text, add_special_tokens=False)["input_ids"] == tokenizer.encode(text)
    assert auto.eos_token_id == loaded.processor.eos == plain.config.eos_token_id
    assert auto.pad_token_id == loaded.processor.pad == plain.config.pad_token_id
    messages = [Message("user", ["赤い丸は\n何個ですか。"]), Message("assistant", [" 2個です。"])]
    as_theirs = [{"role": m.role, "content": m.text} for m in messages]
    own = loaded.processor.encode(messages, generation_prompt=True).ids
    assert auto.apply_chat_template(as_theirs, add_generation_prompt=True, return_dict=False) == own
    record = read_json(tmp_path / "hf" / "config.json")
    theta = theirs.config.rope_parameters["rope_theta"]
    assert record["rope_theta"] == record["rope_parameters"]["rope_theta"] == theta
    assert ("rope_scaling" in record) is (kind == "llama")


def test_control_tokens_are_there_and_cannot_be_typed(kind, tmp_path):
    theirs, fast = make_folder(kind, tmp_path / "theirs")
    adopt(tmp_path / "theirs", tmp_path / "ours")
    loaded = load_directory(tmp_path / "ours")
    tokenizer, rows = loaded.processor.tokenizer, loaded.model.get_input_embeddings().weight
    special = tokenizer.special
    assert list(special) == list(SPECIAL_TOKENS)
    played = read_json(tmp_path / "ours" / "tokenizer_config.json").get("jvlm_tokens", {})
    if "qwen" in kind:
        assert played == {"<s>": "<|endoftext|>", "</s>": "<|endoftext|>"}
        assert special["<s>"] == special["</s>"] == fast.token_to_id("<|endoftext|>")
    else:
        assert played == {}
        assert (special["<unk>"], special["<s>"], special["</s>"]) == (0, 1, 2)
    known = fast.get_vocab_size()
    new = sorted(number for number in special.values() if number >= known)
    assert new == list(range(known, tokenizer.vocab_size))
    assert special["<pad>"] in new
    assert len(rows) >= tokenizer.vocab_size
    for table in (rows, loaded.model.lm_head.weight):
        mean = table[:known].mean(0).expand(len(new), -1)
        torch.testing.assert_close(table[new], mean, atol=1e-6, rtol=1e-6)
    original = theirs.get_input_embeddings().weight[:known]
    assert torch.equal(rows[:known], original)
    control = set(special.values()) | {n for n in [fast.token_to_id("<|im_start|>")] if n is not None}
    for text in [*TYPED, *(f"{a} {b}x" for a, b in pairwise(TYPED)), *TEXTS]:
        ids = tokenizer.encode(text)
        assert not control & set(ids), text
        # Metaspace puts no space before one that is there, and takes the first away again
        assert tokenizer.decode(ids) == (text.removeprefix(" ") if kind == "mistral" else text)
    answer = Message("assistant", ["<|end|></s><s> そうです"])
    encoded = loaded.processor.encode([Message("user", ["<|assistant|>"]), answer])
    assert [n for n in encoded.ids if n in control] == [
        special[t] for t in ("<s>", "<|user|>", "<|end|>", "<|assistant|>", "<|end|>")
    ]
    assert isinstance(Tokenizer.load(tmp_path / "ours"), Tokenizer)


def test_it_trains_on(kind, tmp_path):
    make_folder(kind, tmp_path / "theirs")
    adopt(tmp_path / "theirs", tmp_path / "ours")
    loaded = load_directory(tmp_path / "ours")
    model, processor = loaded.model, loaded.processor
    documents = [Document(f"d{i}", text, "toyworld") for i, text in enumerate(corpus_texts(9))]
    write_token_shards(documents, processor.tokenizer, tmp_path / "tokens")
    rows = PackedRows(TokenDocuments(TokenShards(tmp_path / "tokens"), processor), 64, SEED, processor.pad)
    one = NextToken(model, rows, PackingConfig(row_length=64, rows=4))
    (batch,) = one.micro_batches(0)
    before, loss = weights(model), float(one.loss_sum(batch).detach())
    loop = LoopConfig(steps=2, optimizer=OptimizerConfig(learning_rate=1e-2, warmup=0, eps=1e-12))
    train(one, loop, tmp_path / "run", lambda _: None, lambda new: write_model_files(model, processor, new))
    assert float(one.loss_sum(batch).detach()) < loss
    assert not [name for name, value in weights(model).items() if torch.equal(value, before[name])]
    back = load_directory(tmp_path / "run" / "model")
    assert back.kind == kind
    assert all(torch.equal(weights(back.model)[name], value) for name, value in weights(model).items())


@torch.no_grad()
@pytest.mark.parametrize("kind", ["qwen3", "mistral"])
def test_it_can_be_given_eyes(kind, tmp_path):
    make_folder(kind, tmp_path / "theirs")
    adopt(tmp_path / "theirs", tmp_path / "ours")
    language = load_directory(tmp_path / "ours")
    processor = Processor(language.processor.tokenizer, VISION, PROJECTOR)
    model = shake(JvlmModel(language.model, build_tower(VISION), PROJECTOR, processor.image_ids)).eval()
    save_model(tmp_path / "jvlm", model, processor)
    back = load_directory(tmp_path / "jvlm")
    assert type(back.model.language) is type(language.model)
    ids = torch.tensor([processor.encode([Message("user", [0, "何個ですか。"])], generation_prompt=True).ids])
    pixels = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    positions, lengths = torch.arange(ids.shape[1])[None], [ids.shape[1]]
    seen = model(ids, positions, lengths, pixels)
    assert torch.equal(back.model(ids, positions, lengths, pixels), seen)
    assert not torch.allclose(model(ids, positions, lengths, 255 - pixels), seen)
    export(tmp_path / "jvlm", tmp_path / "out", kind)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "out", attn_implementation="sdpa")
    close(logits(plain, list(range(50))), logits(model.language, list(range(50))))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_halves_become_float32_and_shards_one_file(dtype, tmp_path):
    theirs, _ = make_folder("qwen2", tmp_path / "theirs", dtype=dtype, shard="20KB")
    assert (tmp_path / "theirs" / "model.safetensors.index.json").is_file()
    found = CliRunner().invoke(app, ["import", str(tmp_path / "theirs"), "--out", str(tmp_path / "ours")])
    assert found.exit_code == 0, found.output
    assert "Qwen2ForCausalLM with" in found.output
    model = load_directory(tmp_path / "ours").model
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    close(logits(model, list(range(40)))[:, :500], logits(theirs, list(range(40)))[:, :500])


def test_what_cannot_be_brought_in_says_why(tmp_path):
    source, target = tmp_path / "theirs", tmp_path / "ours"

    def refused(kind, match):
        with pytest.raises(kind, match=match):
            adopt(source, target)
        assert not target.exists()

    refused(DataError, r"config\.json is missing")
    make_folder("mistral", source, sliding_window=64)
    refused(DataError, r"attention reaches 64 tokens back in texts of 256.*set max_position_embeddings to 64")
    config = read_json(source / "config.json")
    write_json(source / "config.json", config | {"sliding_window": None, "model_type": "gpt2"})
    refused(UsageError, "a model of type 'gpt2' cannot be brought in")
    write_json(source / "config.json", config | {"sliding_window": None, "quantization_config": {"bits": 4}})
    refused(UsageError, "quantised")
    write_json(source / "config.json", config | {"sliding_window": None, "num_hidden_layers": 3})
    refused(DataError, "the weights do not fit the config")
    write_json(source / "config.json", config | {"sliding_window": None})
    (source / "tokenizer.json").rename(source / "aside.json")
    refused(DataError, r"no tokenizer\.json")
    (source / "aside.json").rename(source / "tokenizer.json")
    (source / "model.safetensors").rename(source / "pytorch_model.bin")
    refused(DataError, "pickled weights can run code")
    (source / "pytorch_model.bin").rename(source / "model.safetensors")
    write_json(source / "config.json", config | {"sliding_window": 256})
    adopt(source, target)  # it never comes to bear
    assert load_directory(target).model.config.sliding_window is None
    with pytest.raises(UsageError, match="exists already"):
        adopt(source, target)


def test_a_tokenizer_in_which_a_control_token_can_be_typed_is_refused(tmp_path):
    """A vocabulary whose merges spell out `</s>`."""
    make_folder("mistral", tmp_path / "theirs")
    path = tmp_path / "theirs" / "tokenizer.json"
    definition = json.loads(path.read_text())
    vocab, merges = definition["model"]["vocab"], definition["model"]["merges"]
    for piece in ("<", "/", "s", ">", "</", "s>"):
        vocab.setdefault(piece, len(vocab))
    merges[:0] = [["<", "/"], ["s", ">"], ["</", "s>"]]
    path.write_text(json.dumps(definition))
    with pytest.raises(DataError, match="typed text gives the control token '</s>'"):
        adopt(tmp_path / "theirs", tmp_path / "ours")
