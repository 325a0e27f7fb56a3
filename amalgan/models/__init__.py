"""Networks that play together: a model draws, samples, encodes and decodes, and knows no loss."""

from amalgan.models.latent import LatentDraw, LatentModel

__all__ = ["LatentDraw", "LatentModel"]
