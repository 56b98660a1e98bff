"""Models of Hugging Face's transformers: mappings of outputs, masks, tied embeddings."""

import pytest
import torch
from torch import nn
from zoo import N, cast, used

import farfield as ff
from farfield.errors import SettingsError, UnsupportedOperation
from oracles import all_pairs, jacobians

TOLERANCE = 1e-12  # as in test_exact.py

pytest.importorskip("transformers")


class Output(nn.Module):
    """One output of a model, for an oracle that knows nothing of mappings."""

    def __init__(self, model: nn.Module, key: str) -> None:
        super().__init__()
        self.model, self.key = model, key

    def forward(self, *inputs: torch.Tensor, **named: torch.Tensor) -> torch.Tensor:
        return self.model(*inputs, **named)[self.key]


def resnet() -> nn.Module:
    """ResNet-18's structure: basic blocks, two to a stage."""
    from transformers.models.resnet import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(
        num_channels=1,
        embedding_size=3,
        hidden_sizes=[3, 4, 4, 5],
        depths=[2, 2, 2, 2],
        layer_type="basic",
        num_labels=3,
    )
    return used(ResNetForImageClassification(config))


def bert(attention: str = "sdpa") -> nn.Module:
    from transformers.models.bert import BertConfig, BertModel

    config = BertConfig(
        vocab_size=11,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=12,
        max_position_embeddings=8,
        attn_implementation=attention,
    )
    return used(BertModel(config))


def gpt2() -> nn.Module:
    """Its output layer is its embedding."""
    from transformers.models.gpt2 import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=7,
        n_positions=6,
        n_embd=8,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
    )
    return GPT2LMHeadModel(config)


def padded(length: int) -> dict[str, torch.Tensor]:
    """Words, with a mask for those that end early: the last, which the first do not tell of."""
    mask = torch.ones(N, length, dtype=torch.long)
    mask[-1, 2:] = 0
    return {"input_ids": torch.randint(7, (N, length)), "attention_mask": mask}


CASES = {
    "resnet": (resnet, lambda: torch.randn(N, 1, 32, 32), "logits"),
    "resnet by name": (resnet, lambda: {"pixel_values": torch.randn(N, 1, 32, 32)}, "logits"),
    "bert": (bert, lambda: padded(4), "pooler_output"),
    "bert, eager": (lambda: bert("eager"), lambda: padded(4), "pooler_output"),
    "bert, every position": (bert, lambda: torch.randint(11, (N, 3)), "last_hidden_state"),
    "gpt2": (gpt2, lambda: padded(3), "logits"),
}


@pytest.mark.parametrize("case", CASES)
def test_dense_jacobians(case) -> None:
    make, draw, key = CASES[case]
    model, inputs = make().double().eval(), cast(draw(), torch.float64)
    gradients = jacobians(Output(model, key), inputs)
    wanted = all_pairs(gradients, gradients)
    kernel = ff.empirical_ntk(model, outputs="full", output=key)
    found = kernel(inputs)
    assert found.shape == wanted.shape
    assert (found - wanted).norm() < TOLERANCE * wanted.norm()
    # The tied embedding counts with both of its uses, and nothing takes the slow way.
    assert all("sample by sample" not in entry.way for entry in kernel.explain(inputs))


def test_which_output() -> None:
    model, words = gpt2().eval(), torch.randint(7, (N, 3))
    with pytest.raises(UnsupportedOperation, match=r"'past_key_values'.*output=... among 'logits'"):
        ff.empirical_ntk(model)(words)
    with pytest.raises(SettingsError, match="no output 'logit'; those it has are 'logits'"):
        ff.empirical_ntk(model, output="logit")(words)


def test_products_and_expansions() -> None:
    model, inputs = bert().double().eval(), padded(3)
    full = ff.empirical_ntk(model, outputs="full", output="pooler_output")(inputs)
    matrix = full.reshape(N * 8, N * 8)
    op = ff.ntk_operator(model, inputs, output="pooler_output")
    vector = torch.randn(N * 8, dtype=torch.float64)
    torch.testing.assert_close(op @ vector, matrix @ vector, rtol=1e-10, atol=1e-10)
    linear = ff.linearize(Output(model, "pooler_output"))
    value = model(**inputs)["pooler_output"]
    torch.testing.assert_close(linear(**inputs), value, rtol=1e-12, atol=1e-12)
