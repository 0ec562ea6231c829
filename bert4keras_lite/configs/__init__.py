"""Model configs: the fields, the families, and reading published config files.

Uses no framework: reading a config and recognizing a family do not need Keras.
"""

from .architectures import APPLICATIONS, ARCHITECTURES
from .config import Config
from .published import config_in

__all__ = ["APPLICATIONS", "ARCHITECTURES", "Config", "config_in"]
