"""Plain modules that know no loss: an encoder, a decoder and a discriminator for each modality."""

from amalgan.networks import images, points

__all__ = ["images", "points"]
