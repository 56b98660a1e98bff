"""The kernel of a probe set, watched during training."""

import sys

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from zoo import mlp, x

import farfield as ff
from farfield.errors import MissingExtraError, RangeError, SettingsError


def trained(model: nn.Module, monitor: ff.NTKMonitor, steps: int, rate: float) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    h, y = x(3), torch.randn(5, 4)
    for _ in range(steps):
        optimizer.zero_grad()
        (model(h) - y).square().mean().backward()
        optimizer.step()
        monitor(learning_rate=rate)


def test_measurements() -> None:
    model = nn.Sequential(mlp(nn.BatchNorm1d), nn.Dropout(0.3))
    probe, targets = x(3), torch.randn(5, 4)
    monitor = ff.NTKMonitor(model, probe, targets, every=3, top=2)
    trained(model, monitor, 7, 0.1)
    assert all(module.training for module in model.modules())
    model.eval()
    kernel = ff.empirical_ntk(model, outputs="full")(probe).reshape(20, 20).double()
    fresh = ff.NTKMonitor(model, probe, targets, top=2).moments[0]
    values = torch.linalg.eigvalsh(kernel).flip(0)
    assert fresh.distance == 0.0
    assert fresh.eigenvalues == pytest.approx(values[:2].tolist(), rel=1e-5)
    assert fresh.effective_rank == pytest.approx(
        (values.sum() ** 2 / values.square().sum()).item(), rel=1e-4
    )
    y = targets.flatten().double()
    assert fresh.alignment == pytest.approx(
        (y @ kernel @ y / kernel.norm() / (y @ y)).item(), rel=1e-4
    )
    assert fresh.sharpness == pytest.approx(values[0].item() / 5, rel=1e-5)
    before = monitor._first
    cosine = (before * kernel).sum() / before.norm() / kernel.norm()
    monitor(), monitor()  # the ninth step
    assert monitor.moments[-1].distance == pytest.approx(1.0 - cosine.item(), rel=1e-4)
    table = monitor.table()
    assert list(table["step"]) == [0, 3, 6, 9]
    assert list(table["edge"][1:3]) == [20.0, 20.0]
    assert (table["distance"][1:] > 0).all()
    assert {"eigenvalue_1", "eigenvalue_2", "alignment", "sharpness"} <= set(table.columns)


def test_training_is_the_same_with_and_without() -> None:
    results = []
    for watched in (True, False):
        torch.manual_seed(7)
        model = nn.Sequential(mlp(nn.BatchNorm1d), nn.Dropout(0.3))
        probe = x(3)
        monitor = ff.NTKMonitor(model, probe, every=1) if watched else lambda learning_rate: None
        trained(model, monitor, 4, 0.1)
        results.append(model.state_dict())
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_an_affine_network_keeps_its_kernel() -> None:
    model = nn.Linear(3, 4)
    monitor = ff.NTKMonitor(model, x(3), every=1)
    trained(model, monitor, 3, 0.5)
    assert all(abs(moment.distance) < 1e-12 for moment in monitor.moments)


def test_without_lightning(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "lightning", None)
    monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
    with pytest.raises(MissingExtraError, match=r"farfield\[lightning\]"):
        ff.NTKMonitor(mlp(), x(3)).lightning()


@pytest.mark.filterwarnings("ignore")  # Lightning's own, of processes and of what it deprecates
def test_a_lightning_trainer() -> None:
    pl = pytest.importorskip("lightning.pytorch")
    from lightning.pytorch.loggers.logger import DummyLogger

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(mlp(nn.BatchNorm1d), nn.Dropout(0.2))

        def training_step(self, batch, index) -> torch.Tensor:
            return (self.net(batch[0]) - batch[1]).square().mean()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.25)

    class Logger(DummyLogger):
        def log_metrics(self, metrics, step) -> None:
            if "ntk/distance" in metrics:
                logged[step] = metrics

    logged: dict[int, dict[str, float]] = {}
    data = DataLoader(TensorDataset(torch.randn(12, 3), torch.randn(12, 4)), batch_size=2)
    states = []
    for watched in (True, False):
        torch.manual_seed(3)
        module, probe = Module(), x(3)
        monitor = ff.NTKMonitor(module.net, probe, every=2)
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=3,
            logger=Logger(),
            accumulate_grad_batches=2,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[monitor.lightning()] if watched else [],
        )
        trainer.fit(module, data)
        assert module.net[1].training
        states.append(module.state_dict())
        if watched:  # three steps of two batches each in an epoch
            assert [moment.step for moment in monitor.moments] == [0, 2, 4, 6, 8]
            assert [moment.edge for moment in monitor.moments] == [None, 8.0, 8.0, 8.0, 8.0]
            assert list(logged) == [0, 2, 4, 6, 8]
            assert logged[8]["ntk/sharpness"] == monitor.moments[-1].sharpness
            assert logged[8]["ntk/eigenvalue_1"] == monitor.moments[-1].eigenvalues[0]
            assert "ntk/edge" not in logged[0]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every": 0}, "every is 0"),
        ({"top": 0}, "top is 0"),
        ({"targets": torch.ones(4)}, "4 targets for 5"),
        ({"targets": torch.ones(5)}, "5 numbers in the targets and 20 outputs"),
    ],
)
def test_refusals(arguments, message) -> None:
    with pytest.raises(SettingsError, match=message):
        ff.NTKMonitor(mlp(), x(3), **arguments)


def test_rates_targets_and_kernels_without_a_measure() -> None:
    model = mlp()
    monitor = ff.NTKMonitor(model, x(3), every=1)
    monitor(learning_rate=0.0)  # the first step of many warm-ups
    assert monitor.moments[-1].edge == float("inf")
    with pytest.raises(SettingsError, match="learning_rate is -1"):
        monitor(learning_rate=-1.0)
    for targets in (torch.zeros(5, 4), torch.full((5, 4), torch.nan)):
        with pytest.raises(SettingsError, match="all zero, or not finite"):
            ff.NTKMonitor(model, x(3), targets)
    dead = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2, bias=False))
    nn.init.constant_(dead[0].bias, -100.0)
    with pytest.raises(RangeError, match="kernel of the probe set is zero"):
        ff.NTKMonitor(dead, x(3))


def test_going_on_after_an_interruption() -> None:
    model, probe = mlp(), x(3)
    monitor = ff.NTKMonitor(model, probe, every=2)
    trained(model, monitor, 3, 0.1)
    state = monitor.state_dict()
    later = ff.NTKMonitor(model, probe, every=2)
    later.load_state_dict(state)
    assert later.moments == monitor.moments
    later()
    monitor()
    assert later.moments == monitor.moments
    assert later.moments[-1].step == 4
    with pytest.raises(SettingsError, match="give the probe set that it is of"):
        ff.NTKMonitor(model, probe[:2]).load_state_dict(state)
