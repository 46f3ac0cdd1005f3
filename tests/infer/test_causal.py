"""Language models alone: what they are asked, against transformers read one choice at a time."""

from pathlib import Path

import pytest
import torch
import transformers
from tiny import make_language, shake

from jvlm.errors import DataError, UsageError
from jvlm.infer.causal import CausalModel, load_causal_model
from jvlm.infer.trees import Tree, batches, lay_out
from jvlm.model.directory import save_model
from jvlm.model.processor import Processor
from jvlm.sample import ImageRef, Message, Sample

QUESTIONS = ["赤い円は何個ありますか。", "図形の色は", "左にある青い四角の上には何がありますか。", "答え:"]
CHOICES = [
    ["三個", "二個です", "一"],
    ["赤", "青", "緑色", "黄", "白"],
    ["円", "三角形があります。"],
    ["はい", "いいえ"],
]


def _ask(text: str) -> Sample:
    return Sample("q", [Message("user", [text])], [], None, {})


SAMPLES = [_ask(text) for text in QUESTIONS]


@pytest.fixture(scope="module")
def folder(tokenizer, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("causal") / "llama"
    save_model(path, make_language(tokenizer), Processor(tokenizer))
    return path


def _other(kind: str, folder: Path) -> CausalModel:
    """A small model of another family, with our tokenizer."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    size = {"vocab_size": len(tokenizer), "pad_token_id": 3, "bos_token_id": 1, "eos_token_id": 2}
    configs = {
        "gpt2": lambda: transformers.GPT2Config(n_embd=32, n_layer=2, n_head=2, **size),
        "gpt_neox": lambda: transformers.GPTNeoXConfig(**small, **size),
        "gemma2": lambda: transformers.Gemma2Config(
            **small, **size, head_dim=16, num_key_value_heads=1, final_logit_softcapping=0.5
        ),
        "bloom": lambda: transformers.BloomConfig(hidden_size=32, n_layer=2, n_head=2, **size),
    }
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(configs[kind]())
    return CausalModel(shake(model), tokenizer)


def _one_by_one(reader: CausalModel, text: str, choice: str) -> tuple[float, int]:
    """By transformers' own forward pass over prompt and choice, nothing shared and nothing padded."""
    encode = lambda t: reader.tokenizer.encode(t, add_special_tokens=False)  # noqa: E731
    begin = [reader.tokenizer.bos_token_id] if reader.settings["begin"] else []
    prompt, whole = begin + encode(text), begin + encode(text + choice)
    with torch.no_grad():
        logs = reader.model(torch.tensor([whole])).logits[0].float().log_softmax(-1)
    tail = range(len(prompt), len(whole))
    return sum(float(logs[i - 1, whole[i]]) for i in tail), len(tail)


def test_choices_of_a_shared_prompt_score_as_if_read_alone(folder):
    reader = load_causal_model(folder)
    for text, choices, found in zip(QUESTIONS, CHOICES, reader.choice_likelihoods(SAMPLES, CHOICES), strict=True):
        for choice, one in zip(choices, found, strict=True):
            wanted, tokens = _one_by_one(reader, text, choice)
            assert one.log_likelihood == pytest.approx(wanted, abs=1e-4)
            assert one.num_tokens == tokens > 0


def test_what_all_prompts_begin_with_is_read_once(folder):
    reader = load_causal_model(folder)
    read = []
    reader.model.get_input_embeddings().register_forward_hook(lambda _, ids, __: read.append(ids[0].numel()))
    samples = [_ask("次の問いに答えてください。" * 3 + text) for text in QUESTIONS]
    found = reader.choice_likelihoods(samples, CHOICES)
    prompts = [len(tree.prompt) for tree in reader._trees(samples, CHOICES)]
    assert read[0] > 20  # the start, alone
    assert sum(read) < sum(prompts)
    for sample, choices, row in zip(samples, CHOICES, found, strict=True):
        for choice, one in zip(choices, row, strict=True):
            wanted = _one_by_one(reader, sample.messages[0].text, choice)[0]
            assert one.log_likelihood == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox", "gemma2", "bloom"])
def test_other_families_score_as_transformers_does(folder, kind):
    reader = _other(kind, folder)
    assert reader._shares_prompts is (kind != "bloom")
    assert reader._plain_head is (kind != "gemma2")  # its logits are capped behind the head
    for text, choices, found in zip(QUESTIONS, CHOICES, reader.choice_likelihoods(SAMPLES, CHOICES), strict=True):
        for choice, one in zip(choices, found, strict=True):
            assert one.log_likelihood == pytest.approx(_one_by_one(reader, text, choice)[0], abs=1e-4)


def test_batch_1_and_batch_8_give_the_same(folder):
    reader = load_causal_model(folder)
    samples, choices = SAMPLES * 4, CHOICES * 4
    reader.batch_tokens, reader.batch_size = 10_000, 8
    together, said = reader.choice_likelihoods(samples, choices), reader.generate(samples, max_new_tokens=12)
    reader.batch_tokens, reader.batch_size = 1, 1
    alone, said_alone = reader.choice_likelihoods(samples, choices), reader.generate(samples, max_new_tokens=12)
    for first, second in zip(together, alone, strict=True):
        for one, other in zip(first, second, strict=True):
            assert one.log_likelihood == pytest.approx(other.log_likelihood, abs=1e-4)
    assert said == said_alone


def test_generation_is_greedy_and_cut_at_a_stop(folder):
    reader = load_causal_model(folder)
    (whole,) = reader.generate([SAMPLES[0]], max_new_tokens=10)
    ids = [reader.tokenizer.bos_token_id, *reader.tokenizer.encode(QUESTIONS[0], add_special_tokens=False)]
    start = len(ids)
    while len(ids) < start + 10 and ids[-1] not in reader._ends:
        with torch.no_grad():
            ids.append(int(reader.model(torch.tensor([ids])).logits[0, -1].argmax()))
    written = [i for i in ids[start:] if i not in reader._ends]
    assert whole.text == reader.tokenizer.decode(written, skip_special_tokens=True)
    assert whole.finish_reason == ("stop" if ids[-1] in reader._ends else "length")
    stop = whole.text[2:4]
    (cut,) = reader.generate([SAMPLES[0]], max_new_tokens=10, stop=[stop])
    assert (cut.text, cut.finish_reason) == (whole.text[: whole.text.find(stop)], "stop")
    assert cut.num_tokens <= whole.num_tokens


def test_a_folders_own_generation_settings_change_nothing(folder):
    reader = load_causal_model(folder)
    before = reader.generate(SAMPLES, max_new_tokens=8)
    reader.model.generation_config = transformers.GenerationConfig(repetition_penalty=5.0, do_sample=True)
    reader = CausalModel(reader.model, reader.tokenizer)
    assert reader.generate(SAMPLES, max_new_tokens=8) == before


def test_typed_control_tokens_are_text(folder):
    reader = load_causal_model(folder)
    (tree,) = reader._trees([_ask("<|end|></s>はい")], [["<|user|>"]])
    control = {reader.tokenizer.convert_tokens_to_ids(t) for t in ("<|end|>", "</s>", "<|user|>")}
    assert not control & {*tree.prompt, *tree.choices[0]}


def test_the_chat_template_is_the_one_of_training(folder, tokenizer):
    reader = load_causal_model(folder, template="chat")
    processor = Processor(tokenizer)
    (tree,) = reader._trees([SAMPLES[0]], [["三個"]])
    wanted = processor.encode([*SAMPLES[0].messages, Message("assistant", ["三個"])]).ids
    assert [*tree.prompt, *tree.choices[0]] == wanted


def test_what_cannot_be_asked_is_refused_with_the_reason(folder):
    reader = load_causal_model(folder)
    picture = Sample("p", [Message("user", [0, "何"])], [ImageRef(data=b"")], None, {})
    long = _ask("円" * 500)
    refused = reader.refusals([SAMPLES[0], picture, long, SAMPLES[0]], [["三"], ["三"], ["三"], []])
    assert [why is None for why in refused] == [True, False, False, True]
    assert "images" in refused[1]
    assert "of 400 tokens" in refused[2]
    with pytest.raises(DataError, match="of 400 tokens"):
        reader.choice_likelihoods([long], [["三"]])
    with pytest.raises(UsageError, match="greedily"):
        reader.generate(SAMPLES, temperature=0.5)


def test_no_model_is_said_plainly(tmp_path):
    with pytest.raises(DataError, match=r"config\.json is missing"):
        load_causal_model(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "nonesuch"}')
    with pytest.raises(DataError, match="nonesuch"):
        load_causal_model(tmp_path)


def test_batches_hold_each_tree_once_and_keep_to_their_size():
    trees = [Tree([1] * n, [[2, 3], [4]]) for n in (5, 1, 9, 3, 7, 2)]
    found = batches(trees, 16)
    assert sorted(i for batch in found for i in batch) == list(range(6))
    for batch in found:
        assert len(batch) == 1 or len(batch) * max(trees[i].length for i in batch) <= 16
    assert found[0] == [2]


def test_a_choice_sees_the_prompt_and_itself_alone():
    rows = lay_out([Tree([5, 6], [[7, 8, 9], [3, 4]]), Tree([5], [[7]])], pad_id=0)
    assert rows.input_ids.tolist() == [[5, 6, 7, 8, 3], [5, 0, 0, 0, 0]]
    assert rows.position_ids.tolist() == [[0, 1, 2, 3, 2], [0, 0, 0, 0, 0]]
    sees = [[[c for c in range(5) if row[r][c]] for r in range(5)] for row in rows.mask[:, 0].tolist()]
    assert sees[0] == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 4]]
    assert sees[1][0] == [0]
    assert rows.reads.tolist() == [1, 2, 3, 1, 4, 5]
    assert rows.targets.tolist() == [7, 8, 9, 3, 4, 7]
    assert rows.lengths == [3, 2, 1]
