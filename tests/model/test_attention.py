"""Packed attention against a dense reference, and against transformers' own left-padded generation."""

import warnings

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from jvlm.errors import UsageError
from jvlm.model import attention
from jvlm.model.jvlm import hidden_states


def dense_reference(query, key, value, doc_lens):
    """Softmax(QKᵀ/√d) under an explicit block-diagonal causal mask, heads repeated by hand."""
    batch, heads, length, dim = query.shape
    key, value = (x.repeat_interleave(heads // x.shape[1], 1) for x in (key, value))
    documents = torch.repeat_interleave(torch.arange(len(doc_lens)), torch.tensor(doc_lens)).view(batch, length)
    mask = (documents[:, :, None] == documents[:, None, :]) & torch.ones(length, length).tril().bool()
    scores = (query @ key.transpose(-1, -2) / dim**0.5).masked_fill(~mask[:, None], float("-inf"))
    return (scores.softmax(-1) @ value).transpose(1, 2)


@pytest.mark.parametrize("doc_lens", [[12, 12], [5, 7, 1, 11], [3] * 8])
def test_packed_attention_equals_the_dense_mask_with_gradients(doc_lens):
    torch.manual_seed(0)
    tensors = [torch.randn(2, heads, 12, 8).requires_grad_() for heads in (4, 2, 2)]
    ours, _ = attention.packed_attention(torch.nn.Identity(), *tensors, None, documents=attention.Documents(doc_lens))
    reference = dense_reference(*tensors, doc_lens)
    torch.testing.assert_close(ours, reference, atol=1e-5, rtol=1e-5)
    weights = torch.randn_like(ours)
    gradients = [torch.autograd.grad((out * weights).sum(), tensors, retain_graph=True) for out in (ours, reference)]
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


def random_packings(count):
    """Rows, their length and the lengths of their documents, from one token in a row to a row that is one document."""
    random = np.random.default_rng(0)
    for _ in range(count):
        rows, length = int(random.integers(1, 4)), int(random.integers(1, 11))
        doc_lens: list[int] = []
        for _ in range(rows):
            inner = np.arange(1, length)
            ends = inner[random.random(length - 1) < random.random()]
            doc_lens += np.diff([0, *ends, length]).tolist()
        yield rows, length, doc_lens


def test_xformers_mask_is_the_mask_we_apply_over_1000_packings():
    """Its kernels need CUDA; its mask can be written out anywhere. Ours is read off the attention itself."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from xformers.ops.fmha.attn_bias import BlockDiagonalCausalMask
    except ImportError as error:
        pytest.skip(f"xformers cannot be imported: {error}")
    torch.manual_seed(0)
    shapes = set()
    for rows, length, doc_lens in random_packings(1000):
        total = rows * length
        theirs = BlockDiagonalCausalMask.from_seqlens(doc_lens).materialize((1, 1, total, total))
        places = torch.eye(total).view(rows, 1, length, total)  # a query gets the weights it gives to each place
        tensors = [torch.randn(rows, 2, length, total), torch.randn(rows, 1, length, total), places]
        tensors = [tensor.requires_grad_() for tensor in tensors]
        packed = attention.Documents(doc_lens)
        ours = attention.packed_attention(torch.nn.Identity(), *tensors, None, documents=packed)[0].flatten(0, 1)
        assert torch.equal(ours > 0, (theirs[0] == 0).expand(2, -1, -1).transpose(0, 1)), doc_lens

        query, key, value = (t.transpose(0, 1).reshape(-1, total, total) for t in tensors)
        dense = ((query @ key.mT / total**0.5 + theirs[0]).softmax(-1) @ value).transpose(0, 1)
        torch.testing.assert_close(ours, dense, atol=1e-5, rtol=1e-5)
        weights = torch.randn_like(ours)
        gradients = [torch.autograd.grad((out * weights).sum(), tensors) for out in (ours, dense)]
        for mine, other in zip(*gradients, strict=True):
            torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-5)
        shapes.add((rows, length, tuple(doc_lens)))
    assert len(shapes) > 600


def small_llama(implementation: str) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        attn_implementation=implementation,
    )
    return LlamaForCausalLM(config).eval()


def test_a_packed_row_equals_its_documents_alone_and_nothing_leaks():
    model = small_llama(attention.NAME)
    documents = [torch.randint(1, 50, (n,)) for n in (4, 9, 6)]
    embed = model.get_input_embeddings()

    def packed(docs):
        ids = torch.cat(docs)[None]
        positions = torch.cat([torch.arange(len(d)) for d in docs])[None]
        return model.lm_head(hidden_states(model, embed(ids), positions, [len(d) for d in docs]))[0]

    together = packed(documents).split([4, 9, 6])
    reference = small_llama("sdpa")
    for logits, document in zip(together, documents, strict=True):
        alone = reference(document[None], use_cache=False).logits[0]
        torch.testing.assert_close(logits, alone, atol=1e-5, rtol=1e-5)
    changed = packed([documents[0], (documents[1] + 1) % 50, documents[2]]).split([4, 9, 6])
    assert torch.equal(changed[0], together[0])
    assert torch.equal(changed[2], together[2])
    assert not torch.allclose(changed[1], together[1])


def test_left_padded_generation_equals_transformers_sdpa():
    ids = torch.randint(1, 50, (3, 7))
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    mask[1, :2] = 0
    kwargs = {"attention_mask": mask, "max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    ours = small_llama(attention.NAME).generate(ids, **kwargs)
    theirs = small_llama("sdpa").generate(ids, **kwargs)
    assert torch.equal(ours, theirs)


def test_a_backend_that_cannot_run_is_an_error():
    assert attention.resolve("auto", "cpu")[0] == "sdpa"
    with pytest.raises(UsageError, match="cannot run on cpu"):
        attention.resolve("xformers", "cpu")
    with pytest.raises(UsageError, match="none of"):
        attention.resolve("flash", "cpu")


@pytest.mark.cuda
def test_xformers_equals_sdpa_on_cuda():
    torch.manual_seed(0)
    tensors = [torch.randn(2, heads, 64, 32, device="cuda", dtype=torch.bfloat16) for heads in (4, 2, 2)]
    doc_lens = [20, 44, 64]
    ours, _ = attention.packed_attention(torch.nn.Identity(), *tensors, None, documents=attention.Documents(doc_lens))
    reference = dense_reference(*(t.cpu().float() for t in tensors), doc_lens)
    torch.testing.assert_close(ours.cpu().float(), reference, atol=2e-2, rtol=2e-2)
