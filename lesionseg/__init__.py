"""Finds the lesion in dermoscopy photos with a MobileNetV2 U-Net. Research use only, not a medical device."""

from importlib.metadata import version

__version__ = version("lesionseg")

RESEARCH_USE = "Research use only. Not a medical device."

__all__ = ["RESEARCH_USE", "__version__"]
