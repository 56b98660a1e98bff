"""The linearised Laplace posterior of a trained network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import DataLoader

from farfield.empirical.inputs import Inputs
from farfield.empirical.memory import parse_memory
from farfield.empirical.outputs import OutputChoice
from farfield.errors import DataError, SettingsError
from farfield.uncertainty import links, prediction, saving
from farfield.uncertainty.fitting import Fit, Posterior, Progress, fit_posterior
from farfield.uncertainty.network import fingerprint_of, network_of
from farfield.uncertainty.novelty import Reference, reference_of
from farfield.uncertainty.prediction import LaplacePrediction, Law
from farfield.uncertainty.samples import Labelled, samples_of
from farfield.uncertainty.settings import LaplaceSettings
from farfield.uncertainty.tuning import tuned


class LinearizedLaplace:
    r"""How sure a trained network is of its outputs: its linearised Laplace posterior.

    The network is replaced by its linearisation at the trained parameters, whose prior is
    ``N(0, 1 / p)`` each. Then the outputs are Gaussian, with the network's own as mean and

    ``Cov f(x) = J(x) (sum_i J_i' Lambda_i J_i + p I)^{-1} J(x)'``,

    where J are the Jacobians by the parameters and Lambda_i the Hessian of the negative log
    likelihood at the output of training sample i: ``I / noise_var`` for regression,
    ``diag(q) - q q'`` with the softmax q for classification.

    ``method="exact"`` computes this with the tangent kernel of all training points, without a
    Jacobian: for about 10^4 outputs of all samples together. ``method="nystrom"`` is ELLA: it
    keeps the K directions of the parameters that matter most to M gradients, and takes one pass
    over any number of samples.

    Args:
        model: The trained network, in eval mode. Parameters with ``requires_grad=False`` are
            certain. It is not changed; half-precision models are copied to float32 or float64.
        likelihood: ``"regression"`` (Gaussian noise) or ``"classification"`` (softmax).
        prior_precision: p. Weight decay of a loss summed over samples.
        noise_var: Variance of the noise of observations; only for regression.
        method: ``"exact"`` or ``"nystrom"``.
        inducing: M, for ``"nystrom"``: how many gradients, each of one output at one input.
        features: K, for ``"nystrom"``.
        seed: Of everything that is drawn.
        memory: Budget for what is computed beside the posterior itself, such as ``"4GB"``; 2 GB
            when ``None``.
        dtype: In which derivatives are computed. When ``None``: float64 for ``"exact"``, whose
            variances are differences, and the model's own for ``"nystrom"``.
        output: Which output, where ``forward`` returns several tensors.

    Attributes:
        prior_precision: p, as given or tuned; may be set to another value.
        noise_var: As given or tuned; likewise.

    Raises:
        SettingsError: An argument that is not allowed, or a model that has no tangent kernel, such
            as one in training mode with dropout.

    Source: Immer, Korzepa and Bauer, "Improving predictions of Bayesian neural nets via local
    linearization" (2021), for the posterior; Deng, Zhou and Zhu, "Accelerated Linearized Laplace
    Approximation for Bayesian Deep Learning" (2022), for ELLA.

    Example:
        >>> import torch, farfield as ff
        >>> x = torch.linspace(-1, 1, 20)[:, None]
        >>> model = ff.mlp(1, [16], 1, activation="tanh")
        >>> la = ff.LinearizedLaplace(model, "regression", noise_var=0.01).fit((x, x.sin()))
        >>> near, far = la.predict(torch.tensor([[0.0], [9.0]])).std.flatten().tolist()
        >>> near < far
        True
    """

    def __init__(
        self,
        model: nn.Module,
        likelihood: str,
        prior_precision: float | int = 1.0,
        noise_var: float | int = 1.0,
        method: str = "exact",
        inducing: int = 2000,
        features: int = 20,
        seed: int = 0,
        memory: str | int | None = None,
        dtype: torch.dtype | None = None,
        output: OutputChoice = None,
    ) -> None:
        self._settings = LaplaceSettings(likelihood, method, inducing, features, seed)
        self._settings.check_variances(prior_precision, noise_var)
        self.prior_precision = float(prior_precision)
        self.noise_var = float(noise_var)
        if dtype is None and method == "exact":
            dtype = torch.float64
        budget = parse_memory("2GB" if memory is None else memory)
        self._network = network_of(model, dtype, output, budget)
        self._fit: Fit | None = None
        self._reference: Reference | None = None

    @property
    def method(self) -> str:
        """``"exact"`` or ``"nystrom"``."""
        return self._settings.method

    @torch.inference_mode(False)
    def fit(
        self,
        data: Labelled,
        validation: Labelled | None = None,
        progress: Progress | None = None,
        search: int = 1000,
        link: str = "probit",
    ) -> LinearizedLaplace:
        """Compute the posterior.

        Args:
            data: The training data: ``(x, y)``, where x is a tensor (n, *features), several or
                named ones; a mapping of named inputs and ``"labels"``; or a DataLoader that yields
                such, always in the same order. Targets are (n,) or (n, o) numbers, or (n,) classes.
            validation: For ``"nystrom"``: early stopping over the data. The posterior is compared
                every ``search`` samples, with the prior scaled by the share of the data seen, and
                the one of the lowest negative log likelihood here is kept. Data in memory
                are seen in random order; a DataLoader of sorted samples should be mixed before.
            progress: Called with the number of samples that are done, and of all.
            search: Samples between two comparisons.
            link: By which classes of the validation data are predicted, as of :meth:`predict`.

        Returns:
            This object.

        Raises:
            SettingsError: Data that do not fit the model or the likelihood, or too many for
                ``"exact"``.
            DataError: Targets that are not finite.
            RangeError: Derivatives that are not finite.
            SingularKernelError: ``prior_precision * noise_var`` is lost in rounding.
        """
        network = self._network
        network.check()
        samples, held_out = samples_of(data, network.device), None
        if validation is not None:
            held_out = samples_of(validation, network.device, "The validation data")
        variances = self.prior_precision, self.noise_var
        self._fit = fit_posterior(
            network, self._settings, samples, held_out, variances, search, link, progress
        )
        self._reference = None
        return self

    @property
    def posterior(self) -> Posterior:
        """The fitted posterior, at the present prior precision and noise.

        Raises:
            SettingsError: Nothing has been fitted.
            SingularKernelError: Prior precision or noise were set so low since the last fit that
                their product is lost in rounding.
        """
        return self._fitted().posterior

    def _fitted(self) -> Fit:
        if self._fit is None:
            raise SettingsError("Nothing has been fitted yet; call fit((x, y)) first.")
        self._settings.check_variances(self.prior_precision, self.noise_var)
        # Both are public: what a factor holds of them follows.
        self._fit = self._fit.with_ridge(self.prior_precision * self.noise_var)
        return self._fit

    def predict(
        self,
        x: Inputs | DataLoader[Any],
        link: str = "probit",
        samples: int = 512,
        generator: torch.Generator | None = None,
    ) -> LaplacePrediction | Tensor:
        """Predictions with their uncertainty, in float64.

        Args:
            x: New inputs, as of the model; or a DataLoader, whose targets are left out.
            link: For classification: ``"probit"``, the closed form of MacKay (1992), or
                ``"monte_carlo"``, the mean softmax of random outputs.
            samples: How many random outputs.
            generator: Source of randomness; one from ``seed`` when ``None``.

        Returns:
            Regression: mean and standard deviations. Classification: probabilities of the
            classes, (n, o).

        Raises:
            SettingsError: Nothing has been fitted, or inputs or a link that are not allowed.
            RangeError: Derivatives that are not finite.
            SingularKernelError: As of :attr:`posterior`.

        Warns:
            AccuracyWarning: Variances of which rounding leaves no digit.
        """
        links.check_link(link, samples)
        if self._settings.likelihood == "regression":
            return prediction.of_numbers(self._laws(x), self.noise_var)
        if generator is None:
            generator = torch.Generator().manual_seed(self._settings.seed)
        return prediction.of_classes(self._laws(x), link, samples, generator)

    def predict_outputs(
        self, x: Inputs | DataLoader[Any]
    ) -> tuple[Float[Tensor, "n o"], Float[Tensor, "n o o"]]:
        """The Gaussian law of the outputs of the linearised network.

        Args:
            x: As of :meth:`predict`.

        Returns:
            The mean, which is the network's own output, (n, o), and the covariances of the outputs
            of each input, (n, o, o), in float64, without noise.

        Raises:
            SettingsError, RangeError, SingularKernelError: As :meth:`predict`.
        """
        pairs = [(mean, spread.covariance) for mean, spread in self._laws(x)]
        means, covariances = zip(*pairs, strict=True)
        return torch.cat(means), torch.cat(covariances)

    def novelty(self, x: Inputs | DataLoader[Any]) -> Float[Tensor, " n"]:
        """How far inputs are from the training data: more than 1 is an alarm.

        The larger of two distances, each in units of what 5 % of the training inputs exceed when
        they are left out in turn: that of the input's tangent feature (the gradients of all its
        outputs) from what those of the training inputs combine to, and that of the input itself,
        where it holds real numbers, from theirs (Mahalanobis'). A norm makes the first forget how
        large an input is; the second does not know the network, and grows without bound along every
        ray. Neither targets, noise nor prior precision count, nor the scale of kernel or inputs.

        Args:
            x: As of :meth:`predict`; real inputs of the same shape as in training.

        Returns:
            The distances in float64; about one in twenty new inputs of the law of the training
            data has more than 1 (other levels: :meth:`novelty_threshold`). For ``"nystrom"`` the
            training inputs are the inducing ones.

        Raises:
            SettingsError: As :meth:`predict`, or inputs of another shape.
            RangeError: The gradients of most training inputs are zero, or numbers too large.

        Source: Rasmussen and Williams (2006), equations 2.26 and 5.12, for both; Lee et al., "A
        Simple Unified Framework for Detecting Out-of-Distribution Samples" (2018), for
        Mahalanobis' distance as an alarm.
        """
        reference = self._compared()
        network = self._network
        blocks = prediction.blocks(network, x, lambda few: reference.side(network.budget))
        return torch.cat([reference.scores(network, inputs) for inputs in blocks])

    def novelty_threshold(self, level: float = 0.05) -> float:
        """The novelty that a share of the training inputs exceeds, each beside the others.

        New inputs from the law of the training data exceed it about as often.

        Args:
            level: The share of false alarms.

        Returns:
            A number to compare :meth:`novelty` with.

        Raises:
            SettingsError: A level that is not between 0 and 1, or nothing has been fitted.
        """
        if not 0.0 < level < 1.0:
            raise SettingsError(f"level is {level}; it must be between 0 and 1.")
        return self._compared().threshold(level)

    def _compared(self) -> Reference:
        self._network.check()
        if self._reference is None:
            self._reference = reference_of(self._network, self.posterior.reference)
        return self._reference

    def log_marginal_likelihood(self) -> float:
        """Laplace's approximation to the log probability of the training targets.

        ``log p(y | theta) - (p |theta|^2 + log det(posterior precision) - log det(prior)) / 2``.
        With ``"nystrom"`` the determinant is that of the approximate kernel, of all samples; it is
        at most the exact one.

        Returns:
            The value at the present prior precision and noise.

        Raises:
            SettingsError: Nothing has been fitted.

        Source: MacKay (1992); Immer et al. (2021), equation 5.
        """
        evidence = self._fitted().evidence(self._network, self._settings)
        return evidence.at(self.prior_precision, self.noise_var)

    def tune(
        self,
        by: str = "marginal_likelihood",
        validation: Labelled | None = None,
        noise: bool = True,
        link: str = "probit",
    ) -> LinearizedLaplace:
        """Choose the prior precision, and for regression the noise.

        Args:
            by: ``"marginal_likelihood"``, or ``"validation"``: the negative log likelihood of
                held-out data.
            validation: The held-out data, as the data of :meth:`fit`.
            noise: Whether the noise of a regression is chosen too.
            link: By which held-out classes are predicted, as of :meth:`predict`: the one that you
                will ask for. Random outputs are the same ones for all values that are compared.

        Returns:
            This object, with the best values between 1e-10 and 1e12, and for ``"exact"`` of a
            product that is not lost in the rounding of the kernel.

        Raises:
            SettingsError: Nothing has been fitted, another word, or validation data that are
                missing, not needed, or too many for the memory.
            DataError: Targets that are not finite.
        """
        start = self.prior_precision, self.noise_var
        fit = self._fitted()
        best = tuned(self._network, self._settings, fit, by, validation, link, start, noise)
        self.prior_precision, self.noise_var = best
        return self

    def save(self, path: str | Path) -> None:
        """Write the posterior to a file that holds numbers and no code.

        The model's own parameters are not in it.

        Args:
            path: Where to, such as ``"posterior.safetensors"``.

        Raises:
            SettingsError: Nothing has been fitted.
            MissingExtraError: The library safetensors is not installed.
            OutputError: The file cannot be written.
        """
        fit = self._fitted()
        self._network.check()
        header = saving.Header(
            self._network.fingerprint(),
            fit.loss,
            fit.numbers,
            prior_precision=self.prior_precision,
            noise_var=self.noise_var,
            output=self._network.output,
            dtype=str(self._network.dtype).removeprefix("torch."),
            **asdict(self._settings),
        )
        saving.write(Path(path), header, fit.posterior)

    @classmethod
    def load(
        cls, path: str | Path, model: nn.Module, memory: str | int | None = None
    ) -> LinearizedLaplace:
        """Read a posterior.

        Args:
            path: What :meth:`save` has written.
            model: The network that it is of, with the same parameters.
            memory: As of the class.

        Returns:
            The posterior, which predicts the same.

        Raises:
            DataError: There is no such file, it is something else, or the posterior of a model with
                other parameters.
            MissingExtraError: The library safetensors is not installed.
        """
        header = saving.read_header(Path(path))
        if header.model != fingerprint_of(model):
            raise DataError(
                f"{path} holds the posterior of a model with other parameters or buffers than this "
                "one; load the weights that it was fitted at first."
            )
        loaded = cls(model, memory=memory, **header.settings)
        posterior = saving.read(Path(path), loaded._network.device)
        loaded._fit = Fit(posterior, header.loss, header.numbers)
        return loaded

    def _laws(self, x: Inputs | DataLoader[Any]) -> Iterator[Law]:
        posterior, network = self.posterior, self._network
        network.check()
        return prediction.laws(network, posterior, x, self.prior_precision, self.noise_var)
