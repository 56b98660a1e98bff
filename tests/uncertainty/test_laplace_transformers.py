"""Models of Hugging Face's transformers: batches with labels, masks, half precision."""

import dense_posterior as dense
import pytest
import torch
from torch.utils.data import DataLoader

import farfield as ff
from farfield.errors import AccuracyWarning, UnsupportedOperation

pytest.importorskip("transformers")


def classifier() -> torch.nn.Module:
    from transformers.models.bert import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=11,
        hidden_size=4,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=6,
        max_position_embeddings=8,
        num_labels=3,
    )
    model = BertForSequenceClassification(config).eval()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(("bert.encoder", "classifier")))
        if parameter.requires_grad and parameter.ndim == 2:
            torch.nn.init.normal_(parameter)
    return model


def batches(n: int) -> dict[str, torch.Tensor]:
    mask = torch.ones(n, 5, dtype=torch.long)
    mask[:, 3:] = torch.randint(2, (n, 1))
    return {
        "input_ids": torch.randint(11, (n, 5)),
        "attention_mask": mask,
        "labels": torch.randint(3, (n,)),
    }


def without_labels(data: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: column for name, column in data.items() if name != "labels"}


def collate(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def test_dictionaries_with_labels() -> None:
    model, data = classifier().double(), batches(10)
    rows = [{name: column[i] for name, column in data.items()} for i in range(10)]
    loader = DataLoader(rows, batch_size=4, collate_fn=collate)
    la = ff.LinearizedLaplace(model, "classification").fit(loader)
    inputs = without_labels(data)
    found = la.predict_outputs(inputs)[1]
    wanted = dense.covariances(model, inputs, inputs, "classification", 1.0)
    assert (found - wanted).norm() < 1e-9 * wanted.norm()  # rounding
    assert torch.equal(la.predict(loader), la.predict(inputs))
    ella = ff.LinearizedLaplace(model, "classification", method="nystrom", inducing=30, features=30)
    near = ella.fit(data).predict_outputs(inputs)[1]
    # All gradients at the training inputs: the same, but for directions lost in rounding.
    assert (near - wanted).norm() < 1e-6 * wanted.norm()


def test_caches_beside_the_logits() -> None:
    from transformers.models.gpt2 import GPT2Config, GPT2ForSequenceClassification

    config = GPT2Config(
        vocab_size=11,
        n_positions=8,
        n_embd=4,
        n_layer=1,
        n_head=2,
        num_labels=3,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = GPT2ForSequenceClassification(config).double().eval()
    data = batches(10)
    with pytest.raises(UnsupportedOperation, match="among 'logits'"):
        ff.LinearizedLaplace(model, "classification").fit(data)
    la = ff.LinearizedLaplace(model, "classification", output="logits").fit(data)
    inputs = without_labels(data)
    posterior = la.predict_outputs(inputs)[1]
    ella = ff.LinearizedLaplace(
        model, "classification", method="nystrom", inducing=30, features=30, output="logits"
    )
    near = ella.fit(data).predict_outputs(inputs)[1]
    # All gradients at the training inputs: the same, but for directions lost in rounding.
    assert (near - posterior).norm() < 1e-6 * posterior.norm()
    assert bool((la.novelty(inputs) > 0).all())


def test_saving_in_half_precision(tmp_path) -> None:
    pytest.importorskip("safetensors")
    model, data = classifier().to(torch.float16), batches(10)
    path = tmp_path / "posterior.safetensors"
    with pytest.warns(AccuracyWarning, match="half precision"):
        la = ff.LinearizedLaplace(model, "classification")
    la.fit(data).save(path)
    with pytest.warns(AccuracyWarning, match="half precision"):
        again = ff.LinearizedLaplace.load(path, model)
    assert torch.equal(la.predict(without_labels(data)), again.predict(without_labels(data)))


def test_half_precision() -> None:
    model, data = classifier().to(torch.bfloat16), batches(10)
    with pytest.warns(AccuracyWarning, match="half precision"):
        la = ff.LinearizedLaplace(model, "classification", method="nystrom", features=4)
    found = la.fit(data, validation=batches(6), search=4).predict(without_labels(batches(3)))
    assert found.isfinite().all()
    assert model.classifier.weight.dtype == torch.bfloat16
