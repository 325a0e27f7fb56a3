"""Training speed on one CPU thread, against peers, on the same networks and batches.

    python -m benchmarks.speed                 -> docs/results/speed.json and .md
    python -m benchmarks.speed --dry           a few steps on noise, nothing written

    training/mlp-vae     pythae's own trainer, its default networks 784-512-16
    training/conv-vae    pythae's own trainer, a small convolutional encoder and decoder (32-64 channels); ours has the
                         same weights and arithmetic in two layers that run better
    training/conv-vae-same-modules    the same with the rival's very modules on both sides
    training/vaegan      pythae's VAEGAN and its trainer of three optimisers, the learned similarity, a discriminator of 32-64
                         channels, both players always moved; its gradients are not those of the paper (its encoder gets the
                         decoder's loss, too), so the curves are printed, and need not agree
    training/dcgan       a textbook loop: fp32, Adam as it comes, real and fake in passes of their own, nothing frozen
    training/dcgan-torchgan    the same networks in torchgan's own trainer
    overhead/conv-32     our trainer against a loop written out for the very same arithmetic
    overhead/looks       what the doctor's looks take of training time, for vae and vaegan at 3 x 32 x 32

Ratios are of CPU time for the same steps. The two sides take turns in one process, a round each, so that whatever else
the machine does falls on both; the figure is the median over rounds of the round's ratio, its interval the 95 %
bootstrap interval of that median. Both sides start from the same weights; what is compared is the
same network: equal parameter counts and, in fp32, equal outputs on the same input, and their loss curves must agree. What a
step's products and convolutions come to a second stands beside what one large product in bf16 reaches, matrix units included.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import math
import statistics
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from amalgan import recipes
from amalgan.data import Spec
from amalgan.data.core import Data, Split
from amalgan.doctor.probe import Probe
from amalgan.errors import UsageError
from amalgan.models import LatentModel
from amalgan.models.likelihoods import Gaussian
from amalgan.noise import Noise
from amalgan.objectives import KL, Similarity, gan, vae
from amalgan.results import Row, write
from amalgan.runs import LOOKS
from amalgan.training import Plan, Trainer
from benchmarks.machine import ROOT, data_folder, processor

RIVALS = ROOT / ".rivals"  # make fills it from requirements.txt
COMMAND = "make results-speed"

VAE_BATCH, GAN_BATCH, LATENT, NOISE = 128, 64, 16, 100
LOG_2PI = 1.8378770664093453
ADVERSARIAL = 0.5  # of the decoder's loss in the VAE-GAN, pythae's default


@dataclass
class Duel:
    """What two sides took, and lost, round by round."""

    steps: int
    theirs: list[float] = field(default_factory=list)  # CPU-seconds per step
    ours: list[float] = field(default_factory=list)
    their_curve: list[float] = field(default_factory=list)
    our_curve: list[float] = field(default_factory=list)
    flops: float = 0.0  # of one of our steps: products and convolutions, forwards and backwards

    @property
    def ratios(self) -> list[float]:
        return [theirs / ours for theirs, ours in zip(self.theirs, self.ours)]


def timed(act: Callable[[], float], steps: int) -> tuple[float, float]:
    """CPU-seconds per step of `act`, which takes `steps` steps and returns its mean loss."""
    before = time.process_time()
    loss = act()
    return (time.process_time() - before) / steps, loss


# Networks: the same modules on both sides


class Code(nn.Linear):
    """A layer into or out of the code: fp32 under autocast, as in the library's own networks."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


def mlp() -> tuple[nn.Sequential, nn.Sequential]:
    """784-512-2*16 and 16-512-784 (before the logistic)."""
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), Code(512, 2 * LATENT))
    decoder = nn.Sequential(Code(LATENT, 512), nn.ReLU(), nn.Linear(512, 784), nn.Unflatten(1, (1, 28, 28)))
    return encoder, decoder


class Flat(nn.Module):
    """(B, C, H, W) -> (B, H W C): as the pixels lie in memory under channels_last, so that nothing is copied."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


class Unflat(nn.Module):
    """(B, H W C) -> (B, C, H, W), likewise."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.shape = side, side, channels

    def forward(self, x: Tensor) -> Tensor:
        return x.view(-1, *self.shape).permute(0, 3, 1, 2)


class Up(nn.ConvTranspose2d):
    """A transposed convolution whose bias is added afterwards.

    oneDNN finds the gradient of that bias by a pass over all channels: backward took 5.3 ms where without a bias it takes 2.8
    (128 x 64 x 7 x 7 to 32 channels, bf16, one thread). A sum takes 0.05.
    """

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        y = F.conv_transpose2d(x, self.weight, None, self.stride, self.padding)
        return y + self.bias.to(y.dtype).view(-1, 1, 1)


def conv(better: bool = False) -> tuple[nn.Sequential, nn.Sequential]:
    """Two strided convolutions of 32 and 64 channels, and back; as one writes them, or as they run best."""
    up = Up if better else nn.ConvTranspose2d
    encoder = nn.Sequential(
        nn.Conv2d(1, 32, 4, 2, 1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 4, 2, 1),
        nn.ReLU(),
        Flat() if better else nn.Flatten(),
        Code(3136, 2 * LATENT),
    )
    decoder = nn.Sequential(
        nn.Linear(LATENT, 3136),
        nn.ReLU(),
        Unflat(64, 7) if better else nn.Unflatten(1, (64, 7, 7)),
        up(64, 32, 4, 2, 1),
        nn.ReLU(),
        up(32, 1, 4, 2, 1),
    )
    return encoder, decoder


def hwc(x: Tensor) -> Tensor:
    """Rows in the order of `Flatten` to rows in the order of `Flat`."""
    return x.view(64, 7, 7, *x.shape[1:]).permute(1, 2, 0, *range(3, x.dim() + 2)).reshape(x.shape)


def judge(better: bool = False) -> tuple[nn.Sequential, nn.Linear]:
    """A discriminator of 32 and 64 channels, and its head."""
    layers: list[nn.Module] = [nn.Conv2d(1, 32, 4, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 4, 2, 1), nn.ReLU()]
    return nn.Sequential(*layers, Flat() if better else nn.Flatten()), (Code if better else nn.Linear)(3136, 1)


class Verdict(nn.Module):
    """The networks of a textbook discriminator as the library asks for them: logits (B,) and features (B, F)."""

    def __init__(self, trunk: nn.Module, head: nn.Module, centred: bool = True) -> None:
        super().__init__()
        self.trunk, self.head, self.centred = trunk, head, centred

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(2 * x - 1 if self.centred else x)
        return self.head(features).squeeze(1), features


def dcgan() -> tuple[nn.Sequential, Verdict]:
    """The upsampling DCGAN of PyTorch-GAN at 1x32x32, without its dropout (pixels in [0, 1], logistic at the end)."""
    generator = nn.Sequential(
        nn.Linear(NOISE, 128 * 8 * 8),
        nn.Unflatten(1, (128, 8, 8)),
        nn.BatchNorm2d(128),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(128, 128, 3, 1, 1),
        nn.BatchNorm2d(128),
        nn.LeakyReLU(0.2),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(128, 64, 3, 1, 1),
        nn.BatchNorm2d(64),
        nn.LeakyReLU(0.2),
        nn.Conv2d(64, 1, 3, 1, 1),
    )
    layers: list[nn.Module] = [nn.Conv2d(1, 16, 3, 2, 1), nn.LeakyReLU(0.2)]
    for before, after in ((16, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.LeakyReLU(0.2)]
    return generator, Verdict(nn.Sequential(*layers, nn.Flatten()), nn.Linear(128 * 2 * 2, 1))


def count(*modules: nn.Module) -> int:
    """Parameters."""
    return sum(p.numel() for module in modules for p in module.parameters())


# Our side


def trainer(
    model: LatentModel,
    objective: Any,
    images: Tensor,
    batch: int,
    lr: float,
    betas: tuple[float, float],
    precision: str = "bf16",
) -> Trainer:
    """Our trainer; without a moving average, since no rival keeps one."""
    plan = Plan(
        model,
        [(objective, 1.0)],
        lr=dict.fromkeys(model.networks, lr),
        betas=dict.fromkeys(model.networks, betas),
        batch=batch,
        ema=0.0,
        precision=precision,
    )
    return Trainer(plan, Split(images, None), steps=10**6)


def go(ours: Trainer, steps: int) -> dict[str, float]:
    """Take steps, and read the mean of every term once, as a run does at each tick."""
    for _ in ours.run(ours.step_count + steps):
        pass
    return ours.signals.read()


def flops(ours: Trainer) -> float:
    """Of one step, of a copy that takes it."""
    with FlopCounterMode(display=False) as counter:
        go(deepcopy(ours), 1)
    return float(counter.get_total_flops())


@cache
def ceiling() -> float:
    """Floating point operations a CPU-second of one large product in bf16, which this machine's matrix units may serve."""
    a, b = (torch.randn(2048, 2048).bfloat16() for _ in range(2))
    rounds = [timed(lambda: float((a @ b)[0, 0]), 1)[0] for _ in range(8)]
    return 2 * 2048.0**3 / min(rounds)


# pythae


def imported() -> dict[str, Any]:
    """What is used of pythae, by name.

    Raises:
        UsageError: it is not there.
    """
    sys.path.insert(0, str(RIVALS))
    try:
        from pythae import models, trainers
        from pythae.data.datasets import BaseDataset
        from pythae.models.base.base_utils import ModelOutput
        from pythae.models.nn import BaseDecoder, BaseDiscriminator, BaseEncoder
        from pythae.trainers.training_callbacks import TrainingCallback
    except ModuleNotFoundError as error:
        raise UsageError("pythae to compare with", str(error), f"run {COMMAND}, which installs it beside us") from None

    class Encoder(BaseEncoder):  # type: ignore[misc]
        def __init__(self, trunk: nn.Module) -> None:
            super().__init__()
            self.latent_dim, self.trunk = LATENT, trunk
            self.embedding, self.log_var = nn.Linear(3136, LATENT), nn.Linear(3136, LATENT)

        def forward(self, x: Tensor) -> Any:
            h = self.trunk(x)
            return ModelOutput(embedding=self.embedding(h), log_covariance=self.log_var(h))

    class Decoder(BaseDecoder):  # type: ignore[misc]
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = nn.Sequential(net, nn.Sigmoid())

        def forward(self, z: Tensor) -> Any:
            return ModelOutput(reconstruction=self.net(z))

    class Judge(BaseDiscriminator):  # type: ignore[misc]
        depth = 2

        def __init__(self, trunk: nn.Module, head: nn.Module) -> None:
            super().__init__()
            self.trunk, self.head = trunk, head

        def forward(self, x: Tensor, output_layer_levels: list[int] | None = None) -> Any:
            h = self.trunk(x)
            if output_layer_levels == [1]:
                return ModelOutput(embedding_layer_1=h)
            return ModelOutput(embedding=torch.sigmoid(self.head(h)))

    return {"models": models, "trainers": trainers, "BaseDataset": BaseDataset, "TrainingCallback": TrainingCallback,
            "Encoder": Encoder, "Decoder": Decoder, "Judge": Judge}  # fmt: skip


def twins(name: str, images: Tensor) -> tuple[Any, LatentModel]:
    """pythae's VAE or VAE-GAN and ours, the same networks with the same weights."""
    theirs = imported()
    torch.manual_seed(0)
    settings = {"input_dim": (1, 28, 28), "latent_dim": LATENT}
    if name == "mlp-vae":
        rival = theirs["models"].VAE(theirs["models"].VAEConfig(**settings))  # its own default networks
    else:
        encoder, decoder = conv()
        parts = [theirs["Encoder"](encoder[:-1]), theirs["Decoder"](decoder)]
        rival = theirs["models"].VAE(theirs["models"].VAEConfig(**settings), *parts)
        if name == "vaegan":
            judging = {"adversarial_loss_scale": ADVERSARIAL, "reconstruction_layer": 1, "margin": 100.0}
            config = theirs["models"].VAEGANConfig(**settings, **judging)
            rival = theirs["models"].VAEGAN(config, *parts, theirs["Judge"](*judge()))

    head, variance = rival.encoder.embedding, rival.encoder.log_var
    coded = [torch.cat([head.weight, variance.weight]), torch.cat([head.bias, variance.bias])]
    decoded = list(rival.decoder.parameters())
    better = name in ("conv-vae", "vaegan")
    encoder, decoder = mlp() if name == "mlp-vae" else conv(better)
    if better:
        coded[0] = hwc(coded[0].T).T
        decoded[:2] = map(hwc, decoded[:2])
    with torch.no_grad():
        for mine, other in zip(encoder.parameters(), [*rival.encoder.parameters()][:-4] + coded, strict=True):
            mine.copy_(other)
        for mine, other in zip(decoder.parameters(), decoded, strict=True):
            mine.copy_(other)
    discriminator = None
    if name == "vaegan":
        discriminator = Verdict(*judge(better), centred=False)
        judged = list(rival.discriminator.parameters())
        judged[-2] = hwc(judged[-2].T).T
        with torch.no_grad():
            for mine, other in zip(discriminator.parameters(), judged, strict=True):
                mine.copy_(other)
    shape = Spec("images", (1, 28, 28), ())
    model = LatentModel(shape, LATENT, Gaussian(variance=1.0), decoder, encoder, discriminator=discriminator)

    # the same network: as many parameters, and the same outputs
    assert count(rival) == count(model), (count(rival), count(model))
    with torch.no_grad():
        x = images[:8].float() / 255
        code = rival.encoder(x)
        torch.testing.assert_close(model.posterior(x).mean, code.embedding, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model.posterior(x).log_variance, code.log_covariance, rtol=1e-4, atol=1e-5)
        expected = rival.decoder(code.embedding)["reconstruction"].view(8, 1, 28, 28)
        torch.testing.assert_close(model.decode(code.embedding), expected, rtol=1e-4, atol=1e-5)
        if discriminator is not None:
            verdict = torch.sigmoid(discriminator(x)[0])
            torch.testing.assert_close(verdict, rival.discriminator(x).embedding.squeeze(1), rtol=1e-4, atol=1e-5)
    return rival, model


def against_pythae(name: str, images: Tensor, rounds: int) -> Duel:
    """pythae's trainer in full, an epoch a round; ours moves in its callbacks, between its epochs."""
    theirs, (rival, model) = imported(), twins(name, images)
    objective = vae()
    if name == "vaegan":
        # The paper's gradients in one pass: the decoder's loss, (1 - a) similarity + a game, is divided by 1 - a, which
        # Adam does not feel; the KL does not reach the decoder, nor the game on samples of the prior the encoder.
        both = ("encoder", "decoder")
        game = gan("minimax", ("fake",), both)
        objective = KL(moves=both) + Similarity(both, 1.0) + ADVERSARIAL / (1 - ADVERSARIAL) * game
    ours = trainer(model, objective, images, VAE_BATCH, 1e-3, (0.9, 0.999))
    steps = len(images) // VAE_BATCH
    duel = Duel(steps, flops=flops(ours))
    constant = 784 * LOG_2PI / 2  # of our likelihood, which pythae leaves out

    class Turns(theirs["TrainingCallback"]):  # type: ignore[misc, name-defined]
        def on_epoch_begin(self, *_: Any, **__: Any) -> None:
            def mine() -> float:
                terms = go(ours, steps)
                return terms["similarity"] if name == "vaegan" else terms["reconstruction"] - constant + terms["kl"]

            seconds, loss = timed(mine, steps)
            duel.ours.append(seconds)
            duel.our_curve.append(loss)
            self.before = time.process_time()

        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            duel.theirs.append((time.process_time() - self.before) / steps)

        def on_log(self, *arguments: Any, **__: Any) -> None:
            duel.their_curve.append(float(__.get("logs", arguments[-1])["train_epoch_loss"]))

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        logging.disable(logging.INFO)
        common = {"output_dir": folder, "per_device_train_batch_size": VAE_BATCH, "num_epochs": rounds, "no_cuda": True}
        held = theirs["BaseDataset"](images.float() / 255, torch.zeros(len(images)))
        if name == "vaegan":
            rates = {f"{part}_learning_rate": 1e-3 for part in ("encoder", "decoder", "discriminator")}
            settings = theirs["trainers"].CoupledOptimizerAdversarialTrainerConfig(**common, **rates)
            made = theirs["trainers"].CoupledOptimizerAdversarialTrainer
        else:
            settings = theirs["trainers"].BaseTrainerConfig(**common, learning_rate=1e-3)
            made = theirs["trainers"].BaseTrainer
        made(rival, held, training_config=settings, callbacks=[Turns()]).train()
        logging.disable(logging.NOTSET)
    return duel


# A textbook loop


class Textbook:
    """The DCGAN of the tutorials: three passes and two backward passes of the discriminator, nothing left out."""

    def __init__(self, generator: nn.Module, discriminator: Verdict, images: Tensor) -> None:
        self.generator, self.discriminator = generator, discriminator
        self.x = images.float() / 255
        self.for_generator = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
        self.for_discriminator = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
        self.done = 0

    def judge(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.discriminator(x)[0])

    def step(self, index: Tensor) -> tuple[Tensor, Tensor]:
        real = self.x[index]
        ones, zeros = torch.ones(len(real)), torch.zeros(len(real))
        # the noise of our side, so that the two curves may be laid over each other
        z = Noise(0, self.done)("prior", (len(real), NOISE))
        self.done += 1
        fake = torch.sigmoid(self.generator(z))

        self.for_discriminator.zero_grad()
        on_real = F.binary_cross_entropy(self.judge(real), ones)
        on_fake = F.binary_cross_entropy(self.judge(fake.detach()), zeros)
        for_discriminator = on_real + on_fake
        for_discriminator.backward()
        self.for_discriminator.step()

        self.for_generator.zero_grad()
        for_generator = F.binary_cross_entropy(self.judge(fake), ones)
        for_generator.backward()
        self.for_generator.step()
        return for_generator.detach(), for_discriminator.detach()


class TorchGAN:
    """The same networks in torchgan's Trainer: one `train_iter` a step, its two losses as they come.

    torchgan imports torchvision, to write pictures that no step needs; what has its name here has nothing else.
    """

    def __init__(self, generator: nn.Module, discriminator: Verdict, images: Tensor) -> None:
        sys.path.insert(0, str(RIVALS))
        sys.modules.setdefault("torchvision", types.ModuleType("torchvision"))
        try:
            import torchgan.losses
            import torchgan.models
            import torchgan.trainer
        except ModuleNotFoundError as error:
            raise UsageError("torchgan to compare with", str(error), f"run {COMMAND}, which installs it") from None

        class Generator(torchgan.models.Generator):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__(NOISE)
                self.net = generator

            def forward(self, z: Tensor) -> Tensor:
                return torch.sigmoid(self.net(z))

        class Discriminator(torchgan.models.Discriminator):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__(1)
                self.net = discriminator

            def forward(self, x: Tensor) -> Tensor:
                return cast(Tensor, self.net(x)[0])

        adam = {"name": torch.optim.Adam, "args": {"lr": 2e-4, "betas": (0.5, 0.999)}}
        losses = [torchgan.losses.MinimaxGeneratorLoss(), torchgan.losses.MinimaxDiscriminatorLoss()]
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            self.trainer = torchgan.trainer.Trainer(
                {"generator": {"name": Generator, "optimizer": adam},
                 "discriminator": {"name": Discriminator, "optimizer": adam}},
                losses, device=torch.device("cpu"), checkpoints=f"{folder}/gan", recon=folder,
            )  # fmt: skip
        self.trainer.batch_size = GAN_BATCH
        self.x, self.done = images.float() / 255, 0

    def step(self, index: Tensor) -> tuple[float, float]:
        self.done += 1
        self.trainer.real_inputs = self.x[index]
        for_generator, for_discriminator, *_ = self.trainer.train_iter()
        return for_generator, for_discriminator


def against_plain(images: Tensor, rounds: int, steps: int, rival: Any = Textbook) -> tuple[Duel, Duel]:
    """A DCGAN against the textbook's loop, or another's; the second record holds the discriminator's curves."""
    torch.manual_seed(0)
    generator, discriminator = dcgan()
    plain = rival(generator, discriminator, images)
    torch.manual_seed(0)
    mine = dcgan()
    assert count(generator, discriminator) == count(*mine)
    z, x = torch.randn(4, NOISE), images[:4].float() / 255
    torch.testing.assert_close(mine[0](z), generator(z))
    torch.testing.assert_close(mine[1](x)[0], discriminator(x)[0])

    model = LatentModel(Spec("images", (1, 32, 32), ()), NOISE, Gaussian(), mine[0], discriminator=mine[1])
    ours = trainer(model, gan("non-saturating"), images, GAN_BATCH, 2e-4, (0.5, 0.999))
    duel, judges = Duel(steps, flops=flops(ours)), Duel(steps)

    def theirs() -> float:
        losses = [plain.step(ours.order(plain.done)) for _ in range(steps)]
        judges.their_curve.append(float(sum(d for _, d in losses)) / steps)
        return float(sum(g for g, _ in losses)) / steps

    def my_round() -> float:
        terms = go(ours, steps)
        judges.our_curve.append(terms["discriminator"])
        return terms["adversarial"]

    for _ in range(rounds):
        for act, seconds, curve in ((my_round, duel.ours, duel.our_curve), (theirs, duel.theirs, duel.their_curve)):
            took, loss = timed(act, steps)
            seconds.append(took)
            curve.append(loss)
    return duel, judges


# The trainer's own cost


def written_out(model: LatentModel, images: Tensor, batch: int, lr: float) -> Iterator[Tensor]:
    """`recipes.vae` as a loop that knows nothing else: same networks, precision, optimiser, average and noise."""
    model = model.to(memory_format=torch.channels_last)
    parameters = [p for parameters in model.networks.values() for p in parameters]
    optimiser = torch.optim.Adam(parameters, lr=lr, betas=(0.5, 0.99), fused=True)
    own = list(model.state_dict().values())
    average = [value.clone() for value in own]
    order = torch.randperm(len(images))
    for step in range(10**9):
        at = order[torch.arange(step * batch, (step + 1) * batch) % len(order)]
        x = images[at].float().div_(255).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            posterior = model.posterior(x)
            z = posterior.sample(torch.randn(batch, model.latent))
            loss = -model.likelihood.log_prob(model.decoder(z), x).mean() + posterior.kl().mean(0).sum()
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_lerp_(average, own, 1e-3)
        yield loss.detach()


def overhead(rounds: int, steps: int) -> Duel:
    """The default VAE recipe on 3x32x32 images: our trainer against the same arithmetic written out."""
    images = (torch.rand(2048, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255).to(torch.uint8)
    spec = Spec("images", (3, 32, 32), ())
    torch.manual_seed(0)
    plan = recipes.plan("vae", spec, {})
    torch.manual_seed(0)
    loop = written_out(recipes.plan("vae", spec, {}).model, images, plan.batch, 4e-4)
    ours = Trainer(plan, Split(images, None), steps=10**6)
    duel = Duel(steps, flops=flops(ours))

    def mine() -> float:
        terms = go(ours, steps)
        return terms["reconstruction"] + terms["kl"]

    for _ in range(rounds):
        for act, seconds, curve in (
            (mine, duel.ours, duel.our_curve),
            (lambda: float(sum(next(loop) for _ in range(steps))) / steps, duel.theirs, duel.their_curve),
        ):
            took, loss = timed(act, steps)
            seconds.append(took)
            curve.append(loss)
    return duel


def looks(recipe: str, rounds: int) -> tuple[float, float, float]:
    """The share of training time that the doctor's looks take, one every `runs.LOOKS` steps; median and interval."""
    images = (torch.rand(2048, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255).to(torch.uint8)
    parts = [Split(part, None) for part in images.split([1280, 384, 384])]
    data = Data("noise", Spec("images", (3, 32, 32)), *parts, [], "")
    torch.manual_seed(0)
    ours = Trainer(recipes.plan(recipe, data.spec, {}), data.train, steps=10**6)
    probe = Probe(ours, data)
    shares = []
    for _ in range(rounds + 1):
        step, _ = timed(lambda: go(ours, 8)["reconstruction"], 8)
        look, _ = timed(lambda: float(bool(probe.read())), 1)
        shares.append(look / (LOOKS * step))
    return interval(shares[1:])  # the first round warms up


# Telling


def interval(values: list[float]) -> tuple[float, float, float]:
    """The median and its 95 % bootstrap interval."""
    drawn = torch.randint(len(values), (2000, len(values)), generator=torch.Generator().manual_seed(0))
    medians = torch.tensor(values, dtype=torch.float64)[drawn].median(1).values
    low, high = torch.quantile(medians, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    middle = statistics.median(values)
    return middle, min(low, middle), max(high, middle)


def curves(name: str, duel: Duel, tolerance: float) -> float:
    """Print both loss curves; they must agree.

    The first round starts anywhere and is steep; after it the curves' relative gap, averaged over rounds, is bounded.
    """
    print(f"{name}: loss by round, theirs  " + " ".join(f"{v:.2f}" for v in duel.their_curve))
    print(f"{name}: loss by round, ours    " + " ".join(f"{v:.2f}" for v in duel.our_curve))
    gaps = [abs(a - b) / abs(b) for a, b in zip(duel.our_curve, duel.their_curve, strict=True)][1:]
    gap = statistics.mean(gaps) if gaps else 0.0
    print(f"{name}: mean gap {gap:.2%}, at most {tolerance:.0%} allowed", flush=True)
    assert gap <= tolerance, f"{name}: loss curves differ by {gap:.1%}"
    return gap


def row(name: str, duel: Duel, note: str, cpu_seconds: float, table: str = "training", metric: str = "ratio") -> Row:
    """The row of a duel, printed as it is made."""
    warm = Duel(duel.steps, duel.theirs[1:] or duel.theirs, duel.ours[1:] or duel.ours)  # the first round warms up
    middle, low, high = interval(warm.ratios)
    ours, theirs = (1000 * statistics.median(side) for side in (warm.ours, warm.theirs))
    print(
        f"{name}: {middle:.2f} [{low:.2f}, {high:.2f}]; CPU-ms a step: theirs {theirs:.1f}, ours {ours:.1f}", flush=True
    )
    reached = duel.flops / (ours / 1000) / ceiling()
    print(
        f"{name}: {duel.flops / 1e9:.2f} GFLOP a step, {reached:.1%} of what a large bf16 product reaches", flush=True
    )
    note += f"; {reached:.1%} of what a large bf16 product reaches here"
    if middle < GOALS.get(name, 0.0):
        note += f"; short of the goal of {GOALS[name]}"
    return Row(
        table,
        name,
        metric,
        "their CPU time / ours",
        "higher",
        round(middle, 3),
        round(low, 3),
        round(high, 3),
        n=len(warm.ratios),
        floor=1.0,
        command=COMMAND,
        cpu_seconds=round(cpu_seconds, 1),
        device=f"{processor()}, 1 thread, torch {torch.__version__}",
        note=f"{note}; {theirs:.1f} against {ours:.1f} CPU-ms a step; n = rounds of {duel.steps} steps",
    )


def mnist(count: int, size: int) -> Tensor:
    """The first MNIST digits, uint8."""
    from amalgan.data import open

    folder = data_folder() / "mnist"
    if not folder.is_dir():
        raise UsageError("MNIST to train on", f"no {folder}", "set AMALGAN_TEST_DATA to the folder that holds it")
    x = open(folder).train.tensor(count)
    x = F.pad(x, [(size - 28) // 2] * 4)
    return (x * 255).round().to(torch.uint8)


def noise_images(count: int, size: int) -> Tensor:
    """Smooth noise, for a dry run."""
    coarse = torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return (F.interpolate(coarse, size=size, mode="bilinear") * 255).to(torch.uint8)


# The gap of loss curves, mean over rounds, that is still called agreement: 2 % where nothing is said. torchgan moves the
# generator first, so its curves are half a step off; pythae's VAE-GAN minimises something else.
TOLERANCE = {"dcgan": 0.1, "dcgan-torchgan": 0.25, "vaegan": math.inf}
# Times as fast as the rival; a row that falls short says so.
GOALS = {"mlp-vae": 2.0, "conv-vae": 1.8, "vaegan": 4.0, "dcgan": 2.3, "dcgan-torchgan": 2.5}
CASES = (
    "mlp-vae",
    "conv-vae",
    "conv-vae-same-modules",
    "vaegan",
    "dcgan",
    "dcgan-torchgan",
    "conv-32",
    "looks-vae",
    "looks-vaegan",
)


def measure(dry: bool = False, cases: tuple[str, ...] = CASES) -> Iterator[Row]:
    """Every case, each as soon as it is done."""
    torch.set_num_threads(1)
    images = noise_images if dry else mnist
    for name in cases:
        before = time.process_time()
        if name.startswith("looks"):
            middle, low, high = looks(name.partition("-")[2], 3 if dry else 16)
            print(f"{name}: {middle:.2%} [{low:.2%}, {high:.2%}] of training time", flush=True)
            yield Row("overhead", name, "share", "share of training time", "lower", round(middle, 4), round(low, 4),
                      round(high, 4), n=16, floor=0.0, command=COMMAND,
                      device=f"{processor()}, 1 thread, torch {torch.__version__}",
                      note=f"one look every {LOOKS} steps of 64 images")  # fmt: skip
            continue
        if name == "mlp-vae":
            duel = against_pythae(name, images(256 if dry else 12_800, 28), rounds=3 if dry else 16)
            note = "pythae 0.1.2, its trainer and default networks, batch 128"
        elif name in ("conv-vae", "conv-vae-same-modules"):
            duel = against_pythae(name, images(256 if dry else 5_120, 28), rounds=3 if dry else 16)
            note = "pythae 0.1.2, its trainer, convolutions of 32 and 64 channels, batch 128; " + (
                "ours flattens as memory lies, and adds the biases of transposed convolutions afterwards"
                if name == "conv-vae"
                else "the very same modules on both sides"
            )
        elif name == "vaegan":
            duel = against_pythae(name, images(256 if dry else 2_560, 28), rounds=3 if dry else 16)
            note = "pythae 0.1.2's VAEGAN, its trainer of three optimisers, convolutions of 32 and 64 channels, batch 128; "
            note += "its encoder gets the decoder's loss, too, so loss curves differ"
        elif name.startswith("dcgan"):
            rival = TorchGAN if name == "dcgan-torchgan" else Textbook
            duel, judges = against_plain(images(256 if dry else 12_800, 32), 3 if dry else 13, 1 if dry else 8, rival)
            loop = (
                "textbook loop (fp32, separate passes, nothing frozen)"
                if rival is Textbook
                else "torchgan 0.1.0, its trainer"
            )
            note = f"{loop}; upsampling DCGAN, batch norm, 32 px, batch 64"
            judged = curves(f"{name} discriminator", judges, max(TOLERANCE[name], float(dry)))
            note += f"; the discriminator's loss curves agree to {judged:.1%}"
        else:
            duel = overhead(3 if dry else 16, 1 if dry else 8)
            note = "recipes.vae at 3x32x32, batch 64, against the same arithmetic written out; 1 = no cost"
        gap = curves(name, duel, max(TOLERANCE.get(name, 0.02), float(dry)))
        note += "" if name == "vaegan" else f"; loss curves agree to {gap:.1%}"
        table = "overhead" if name == "conv-32" else "training"
        yield row(name, duel, note, time.process_time() - before, table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry", action="store_true", help="a few steps on noise; write nothing")
    parser.add_argument("--cases", default=",".join(CASES), help="which, separated by commas")
    arguments = parser.parse_args()
    try:
        for made in measure(arguments.dry, tuple(arguments.cases.split(","))):
            if not arguments.dry:
                write("speed", [made])
    except UsageError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
