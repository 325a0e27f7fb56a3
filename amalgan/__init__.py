"""amalgan: an amalgam of generative models. Objectives add up; judgements do not flatter."""

__version__ = "0.1.0"
