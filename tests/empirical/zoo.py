"""Small models of many kinds, each with the inputs that it takes."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize

Made = tuple[nn.Module, object]
N = 5  # samples


class Function(nn.Module):
    """A module of named parts and a function of them and the inputs."""

    def __init__(self, function: Callable[..., object], **parts: object) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, nn.Parameter(part) if isinstance(part, Tensor) else part)
        self.function = function

    def forward(self, *inputs: Tensor, **named: Tensor) -> object:
        return self.function(self, *inputs, **named)


def x(*shape: int) -> Tensor:
    return torch.randn(N, *shape)


def tokens(*shape: int, size: int = 7) -> Tensor:
    return torch.randint(size, (N, *shape))


def mlp(norm: Callable[[int], nn.Module] | None = None, activation=nn.ReLU) -> nn.Module:
    layers: list[nn.Module] = []
    for width, following in ((3, 8), (8, 6)):
        layers.append(nn.Linear(width, following))
        layers += [norm(following)] if norm else []
        layers.append(activation())
    return nn.Sequential(*layers, nn.Linear(6, 4))


def used(module: nn.Module) -> nn.Module:
    """Norms whose statistics, gains and biases are not those they start with."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            if parameter.ndim == 1 and name in ("weight", "bias"):
                nn.init.normal_(parameter, 0.5, 0.5)
        if isinstance(part, nn.modules.batchnorm._NormBase) and part.running_mean is not None:
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2.0)
    return module


class Residual(nn.Module):
    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.one = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.norm_one = nn.BatchNorm2d(out)
        self.two = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.norm_two = nn.BatchNorm2d(out)
        self.short = nn.Conv2d(channels, out, 1, stride, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        inner = F.relu_(self.norm_one(self.one(h)))
        return F.relu(self.norm_two(self.two(inner)) + self.short(h))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, 3, 3, padding=1)
        self.deep = nn.Conv2d(3, 4, 3, padding=1)
        self.up = nn.ConvTranspose2d(4, 3, 2, stride=2)
        self.last = nn.Conv2d(6, 1, 3, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        first = torch.tanh(self.down(h))
        deep = torch.tanh(self.deep(F.max_pool2d(first, 2)))
        return self.last(torch.cat([self.up(deep), first], 1))


class Decoder(nn.Module):
    """A causal transformer by hand, whose output layer is its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 8)
        self.places = nn.Embedding(4, 8)
        self.norm = nn.LayerNorm(8)
        self.query, self.key, self.value = (nn.Linear(8, 8) for _ in range(3))

    def forward(self, words: Tensor) -> Tensor:
        h = self.table(words) + self.places(torch.arange(words.shape[1]))
        u = self.norm(h)
        heads = [part(u).unflatten(-1, (2, 4)).transpose(1, 2) for part in self._parts()]
        mixed = F.scaled_dot_product_attention(*heads, is_causal=True)
        h = h + mixed.transpose(1, 2).flatten(2)
        return (h @ self.table.weight.T)[:, -1]

    def _parts(self) -> tuple[nn.Module, ...]:
        return self.query, self.key, self.value


class Vision(nn.Module):
    """Patches, a class token, places, an encoder layer; only the class token is read."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 8, 2, 2)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.places = nn.Parameter(torch.randn(1, 5, 8))
        self.layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, image: Tensor) -> Tensor:
        patches = self.patches(image).flatten(2).mT
        h = torch.cat([self.token.expand(len(image), -1, -1), patches], 1) + self.places
        return self.head(self.layer(h)[:, 0])


class Low(nn.Module):
    """A weight plus a product of two narrow ones."""

    def __init__(self, start: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3))
        self.left, self.right = (nn.Parameter(torch.randn(*s)) for s in ((4, 2), (2, 3)))
        nn.init.constant_(self.left, start)

    def forward(self, h: Tensor) -> Tensor:
        return F.linear(h, self.weight + self.left @ self.right)


class Scale(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight.square() * 0.5


class Custom(torch.autograd.Function):
    """An operation that no rule knows."""

    @staticmethod
    def forward(h: Tensor, weight: Tensor) -> Tensor:
        return h * weight.exp()

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        h, weight = ctx.saved_tensors
        return gradient * weight.exp(), (gradient * h * weight.exp()).sum(0)


def _encoder(batch_first: bool, norm_first: bool) -> nn.Module:
    layer = nn.TransformerEncoderLayer(
        8, 2, 12, dropout=0.1, batch_first=batch_first, norm_first=norm_first, activation="gelu"
    )
    stack = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    if batch_first:
        return Function(lambda m, h: m.head(m.stack(h).mean(1)), stack=stack, head=nn.Linear(8, 3))
    turned = lambda m, h: m.head(m.stack(h.transpose(0, 1)).mean(0))  # noqa: E731
    return Function(turned, stack=stack, head=nn.Linear(8, 3))


def _seq2seq() -> nn.Module:
    layer = nn.TransformerDecoderLayer(8, 2, 12, dropout=0.1, batch_first=True)
    mask = nn.Transformer.generate_square_subsequent_mask(3, dtype=torch.float64)
    function = lambda m, h, memory: m.head(  # noqa: E731
        m.stack(h, memory, tgt_mask=mask.to(h.dtype), tgt_is_causal=True)
    )
    stack = nn.TransformerDecoder(layer, 2, norm=nn.LayerNorm(8))
    return Function(function, stack=stack, head=nn.Linear(8, 2))


def _last_step(m: nn.Module, h: Tensor) -> Tensor:
    return m.head(m.cell(h)[0][:, -1])


def _tied() -> nn.Module:
    function = lambda m, h: F.linear(torch.tanh(F.linear(h, m.w, m.b)), m.w.T, m.c)  # noqa: E731
    return Function(function, w=torch.randn(2, 4), b=torch.randn(2), c=torch.randn(4))


def _shared() -> nn.Module:
    middle = nn.Linear(4, 4)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), middle, nn.Tanh(), middle, nn.GELU(), middle)


def _frozen() -> nn.Module:
    net = mlp(nn.LayerNorm)
    net[0].requires_grad_(False)
    net[3].bias.requires_grad_(False)
    return net


def _siamese() -> nn.Module:
    function = lambda m, a, b: (m.net(a) - m.net(b)).square().sum(-1)  # noqa: E731
    return Function(function, net=mlp())


def _two_batches() -> nn.Module:
    function = lambda m, a, b: torch.cat(m.net(torch.cat([a, b])).chunk(2), 1)  # noqa: E731
    return Function(function, net=mlp())


def _siren() -> nn.Module:
    function = lambda m, h: m.c(torch.sin(30 * m.b(torch.sin(30 * m.a(h)))))  # noqa: E731
    return Function(function, a=nn.Linear(2, 8), b=nn.Linear(8, 8), c=nn.Linear(8, 1))


def _fourier() -> nn.Module:
    frequencies = torch.randn(2, 6)
    function = lambda m, h: m.net(  # noqa: E731
        torch.cat([torch.sin(h @ frequencies.to(h)), torch.cos(h @ frequencies.to(h))], 1)
    )
    return Function(function, net=nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 2)))


def _cross() -> nn.Module:
    attention = nn.MultiheadAttention(8, 2, kdim=5, vdim=6, batch_first=True)
    return Function(lambda m, q, k, v: m.attention(q, k, v)[0].mean(1), attention=attention)


def _packed_cross() -> nn.Module:
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    return Function(lambda m, q, k: m.attention(q, k, k)[0].mean(1), attention=attention)


def _parts_in_lists() -> nn.Module:
    function = lambda m, h: h @ m.parts[0] + m.parts[1] * m.named["gain"]  # noqa: E731
    parts = nn.ParameterList([torch.randn(3, 4), torch.randn(4)])
    return Function(function, parts=parts, named=nn.ParameterDict({"gain": torch.randn(4)}))


def _pieces() -> nn.Module:
    """One parameter of which slices, a reshaped view and single rows are used."""

    def function(m: nn.Module, h: Tensor) -> Tensor:
        first = h @ m.w[:3].view(3, 4)
        return first * m.w[3] + first.relu() @ m.w[1:] - m.w[0, 0]

    return Function(function, w=torch.randn(5, 4)[:, :4])


def _mixture() -> nn.Module:
    """Each sample takes its own expert: the graph depends on the samples."""

    def function(m: nn.Module, h: Tensor) -> Tensor:
        chosen = (h[:, 0] > 0).long()
        out = h.new_zeros(len(h), 2)
        for number, expert in enumerate((m.a, m.b)):
            rows = (chosen == number).nonzero().squeeze(1)
            if len(rows):
                out = out.index_add(0, rows, expert(h[rows]))
        return out

    return Function(function, a=nn.Linear(3, 2), b=nn.Linear(3, 2))


def _lengths() -> nn.Module:
    """Steps that depend on what the samples are."""

    def function(m: nn.Module, h: Tensor) -> Tensor:
        return torch.stack([m.net(row[None] * row.abs().max())[0] for row in h])

    return Function(function, net=mlp())


def _weight_norm() -> nn.Module:
    one = parametrizations.weight_norm(nn.Linear(3, 5))
    two = parametrizations.weight_norm(nn.Conv1d(1, 2, 3))
    return Function(lambda m, h: m.two(m.one(h).tanh()[:, None]).flatten(1), one=one, two=two)


def _spectral_norm() -> nn.Module:
    return nn.Sequential(
        parametrizations.spectral_norm(nn.Linear(3, 5)),
        nn.Tanh(),
        nn.utils.spectral_norm(nn.Linear(5, 2)),
    )


def _squared() -> nn.Module:
    layer = nn.Linear(3, 4)
    parametrize.register_parametrization(layer, "weight", Scale())
    return layer


def _orthogonal() -> nn.Module:
    return nn.Sequential(parametrizations.orthogonal(nn.Linear(3, 4)), nn.Tanh(), nn.Linear(4, 2))


def _shared_norm() -> nn.Module:
    norm = used(nn.BatchNorm1d(3))
    return nn.Sequential(norm, nn.Linear(3, 3), norm, nn.Tanh(), norm)


def _fused_rms_norm() -> nn.Module:
    """As RMSNorm runs on a GPU."""
    fused = torch.ops.aten._fused_rms_norm
    return Function(lambda m, h: m.net(fused(h, [3], m.w, 1e-5)[0]), net=mlp(), w=torch.randn(3))


def _attention_pool() -> nn.Module:
    def function(m: nn.Module, h: Tensor) -> Tensor:
        weights = torch.softmax(h @ m.query / math.sqrt(4), 1)
        return torch.einsum("nt,ntd,de->ne", weights, h, m.out)

    return Function(function, query=torch.randn(4), out=torch.randn(4, 2))


def _per_head() -> nn.Module:
    return Function(
        lambda m, h: torch.einsum("nhd,hde->nhe", h, m.w).flatten(1), w=torch.randn(2, 3, 4)
    )


def _masked() -> nn.Module:
    def function(m: nn.Module, h: Tensor) -> Tensor:
        shown = torch.where(h[..., :1] > 0, h, m.token)
        return (shown / m.scale).flatten(1)

    return Function(function, token=torch.randn(3), scale=torch.rand(3) + 0.5)


def _outputs() -> nn.Module:
    function = lambda m, h: {"value": m.a(h).squeeze(1), "policy": m.b(h.relu())}  # noqa: E731
    return Function(function, a=nn.Linear(3, 1), b=nn.Linear(3, 2))


def _bag() -> nn.Module:
    return nn.Sequential(nn.EmbeddingBag(7, 4, mode="mean"), nn.ReLU(), nn.Linear(4, 2))


def _rows_of_a_table() -> nn.Module:
    function = lambda m, i: m.table[i].sum(1) + m.other.index_select(0, i[:, 0])  # noqa: E731
    return Function(function, table=torch.randn(7, 3), other=torch.randn(7, 3))


ZOO: dict[str, Callable[[], Made]] = {
    "linear": lambda: (nn.Linear(3, 2), x(3)),
    "linear on positions": lambda: (nn.Linear(3, 2), x(4, 3)),
    "no bias": lambda: (nn.Linear(3, 2, bias=False), x(3)),
    "mlp": lambda: (mlp(), x(3)),
    "mlp on positions": lambda: (mlp(), x(4, 3)),
    "layer norm": lambda: (used(mlp(nn.LayerNorm)), x(3)),
    "layer norm on positions": lambda: (used(mlp(nn.LayerNorm)), x(4, 3)),
    "layer norm over two axes": lambda: (used(nn.LayerNorm((4, 3))), x(4, 3)),
    "group norm": lambda: (used(mlp(lambda width: nn.GroupNorm(2, width))), x(3)),
    "group norm of images": lambda: (
        nn.Sequential(nn.Conv2d(1, 4, 2), used(nn.GroupNorm(2, 4)), nn.ReLU()),
        x(1, 3, 4),
    ),
    "rms norm": lambda: (used(mlp(nn.RMSNorm)), x(3)),
    "fused rms norm": lambda: (_fused_rms_norm(), x(4, 3)),
    "batch norm": lambda: (used(mlp(nn.BatchNorm1d)), x(3)),
    "instance norm": lambda: (
        nn.Sequential(nn.Conv2d(1, 3, 2), used(nn.InstanceNorm2d(3, affine=True))),
        x(1, 4, 4),
    ),
    "prelu": lambda: (mlp(activation=lambda: nn.PReLU(init=0.2)), x(3)),
    "prelu of channels": lambda: (nn.Sequential(nn.Conv1d(2, 3, 2), nn.PReLU(3)), x(2, 5)),
    "softmax": lambda: (nn.Sequential(mlp(activation=nn.SiLU), nn.Softmax(1)), x(3)),
    "cnn": lambda: (
        nn.Sequential(
            nn.Conv2d(2, 4, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(4, 6, 3, dilation=2, padding=2, groups=2),
            nn.ReLU(),
            nn.Conv2d(6, 6, (2, 1), groups=6, bias=False),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(6, 3),
        ),
        x(2, 6, 5),
    ),
    "cnn with max pooling": lambda: (
        nn.Sequential(
            nn.Conv2d(1, 3, 3, padding="same", padding_mode="circular"),
            nn.MaxPool2d(2),
            nn.Conv2d(3, 4, 2),
            nn.Flatten(),
            nn.Linear(4, 2),
        ),
        x(1, 4, 4),
    ),
    "conv1d": lambda: (
        nn.Sequential(
            nn.Conv1d(2, 4, 3, 2, 1), nn.ReLU(), nn.Conv1d(4, 4, 2, dilation=2, groups=2)
        ),
        x(2, 8),
    ),
    "conv3d": lambda: (
        nn.Sequential(nn.Conv3d(1, 2, 2, (1, 2, 1), (0, 1, 1)), nn.ReLU(), nn.Flatten(2)),
        x(1, 3, 3, 2),
    ),
    "transposed conv2d": lambda: (
        nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2),
        x(4, 2, 3),
    ),
    "transposed conv1d": lambda: (
        nn.ConvTranspose1d(2, 3, 2, stride=1, dilation=2, output_padding=1),
        x(2, 4),
    ),
    "transposed conv3d": lambda: (nn.ConvTranspose3d(1, 2, 2, stride=2), x(1, 2, 1, 2)),
    "conv of every frame": lambda: (
        Function(
            lambda m, v: m.conv(v.flatten(0, 1)).unflatten(0, v.shape[:2]).mean((1, 3, 4)),
            conv=nn.Conv2d(1, 2, 2),
        ),
        x(3, 1, 3, 3),
    ),
    "resnet": lambda: (
        nn.Sequential(
            used(Residual(1, 3, 1)),
            used(Residual(3, 4, 2)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, 3),
        ),
        x(1, 6, 6),
    ),
    "u-net": lambda: (UNet(), x(1, 4, 4)),
    "vision transformer": lambda: (Vision(), x(1, 4, 4)),
    "transformer encoder": lambda: (_encoder(True, False), x(3, 8)),
    "transformer encoder, norm first": lambda: (_encoder(True, True), x(3, 8)),
    "transformer encoder, positions first": lambda: (_encoder(False, False), x(3, 8)),
    "transformer decoder": lambda: (_seq2seq(), (x(3, 8), x(4, 8))),
    "cross attention": lambda: (_cross(), (x(3, 8), x(4, 5), x(4, 6))),
    "cross attention, packed weight": lambda: (_packed_cross(), (x(3, 8), x(4, 8))),
    "tied decoder": lambda: (Decoder(), tokens(4)),
    "lstm": lambda: (
        Function(
            _last_step, cell=nn.LSTM(3, 4, batch_first=True, num_layers=2), head=nn.Linear(4, 2)
        ),
        x(4, 3),
    ),
    "bidirectional gru": lambda: (
        Function(
            _last_step,
            cell=nn.GRU(3, 4, batch_first=True, bidirectional=True),
            head=nn.Linear(8, 2),
        ),
        x(3, 3),
    ),
    "rnn": lambda: (
        Function(_last_step, cell=nn.RNN(3, 4, batch_first=True), head=nn.Linear(4, 2)),
        x(4, 3),
    ),
    "lstm with a projection": lambda: (
        Function(
            _last_step, cell=nn.LSTM(3, 4, batch_first=True, proj_size=2), head=nn.Linear(2, 2)
        ),
        x(3, 3),
    ),
    "tied autoencoder": lambda: (_tied(), x(4)),
    "shared layer": lambda: (_shared(), x(3)),
    "siamese": lambda: (_siamese(), (x(3), x(3))),
    "two batches in one": lambda: (_two_batches(), (x(3), x(3))),
    "fourier features": lambda: (_fourier(), x(2)),
    "siren": lambda: (_siren(), x(2)),
    "bilinear": lambda: (nn.Bilinear(3, 2, 4), (x(3), x(2))),
    "one frozen layer": lambda: (_frozen(), x(3)),
    "embedding": lambda: (
        nn.Sequential(nn.Embedding(7, 3), nn.Flatten(), nn.Linear(12, 2)),
        tokens(4),
    ),
    "embedding with padding": lambda: (
        nn.Sequential(nn.Embedding(7, 3, padding_idx=2), nn.Tanh()),
        tokens(4),
    ),
    "sparse embedding": lambda: (
        nn.Sequential(nn.Embedding(7, 3, sparse=True), nn.Tanh()),
        tokens(2),
    ),
    "embedding bag": lambda: (_bag(), tokens(4)),
    "rows of a table": lambda: (_rows_of_a_table(), tokens(3)),
    "weight norm": lambda: (_weight_norm(), x(3)),
    "spectral norm": lambda: (_spectral_norm(), x(3)),
    "squared weight": lambda: (_squared(), x(3)),
    "orthogonal weight": lambda: (_orthogonal(), x(3)),
    "low-rank addition": lambda: (Low(), x(4, 3)),
    "low-rank addition that starts at zero": lambda: (Low(0.0), x(4, 3)),
    "parameters in lists": lambda: (_parts_in_lists(), x(3)),
    "pieces of a parameter": lambda: (_pieces(), x(3)),
    "parameter on the left": lambda: (
        Function(lambda m, h: (m.w @ h.T).T.relu() @ m.v, w=torch.randn(4, 3), v=torch.randn(4)),
        x(3),
    ),
    "parameter on the left of sequences": lambda: (
        Function(lambda m, h: (m.w @ h).flatten(1), w=torch.randn(2, 3)),
        x(3, 4),
    ),
    "attention pooling": lambda: (_attention_pool(), x(3, 4)),
    "a matrix for each head": lambda: (_per_head(), x(2, 3)),
    "mask token": lambda: (_masked(), x(4, 3)),
    "repeated parameter": lambda: (
        Function(lambda m, h: (h * m.w.repeat(len(h), 2)).tanh(), w=torch.randn(1, 3)),
        x(6),
    ),
    "scalar temperature": lambda: (
        Function(lambda m, h: m.net(h) * m.t.exp() / (1 + m.t**2), net=mlp(), t=torch.tensor(0.3)),
        x(3),
    ),
    "operation of one's own": lambda: (
        Function(lambda m, h: m.net(Custom.apply(h, m.w)), net=nn.Linear(3, 2), w=torch.randn(3)),
        x(3),
    ),
    "mixture of experts": lambda: (_mixture(), x(3)),
    "a loop over samples": lambda: (_lengths(), x(3)),
    "shared batch norm": lambda: (_shared_norm(), x(3)),
    "several outputs": lambda: (_outputs(), x(3)),
    "keyword inputs": lambda: (
        Function(
            lambda m, ids, mask: (m.table(ids) * mask[..., None]).sum(1), table=nn.Embedding(7, 3)
        ),
        {"ids": tokens(4), "mask": torch.ones(N, 4)},
    ),
    "weights that come back as zeros": lambda: (
        nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)),
        -10 * x(4, 3).abs(),
    ),
}


def make(name: str, dtype: torch.dtype = torch.float64) -> Made:
    """A model in eval mode and fresh inputs, from fresh random numbers."""
    model, inputs = ZOO[name]()
    return model.to(dtype).eval(), cast(inputs, dtype)


def cast(inputs: object, dtype: torch.dtype) -> object:
    if isinstance(inputs, dict):
        return {name: cast(value, dtype) for name, value in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(cast(value, dtype) for value in inputs)
    return inputs.to(dtype) if inputs.is_floating_point() else inputs
