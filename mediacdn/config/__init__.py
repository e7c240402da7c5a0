"""The configuration: `load` it from a TOML file, the environment and the command line; an unknown or wrong key is an error that names its path and what is near."""

from mediacdn.config.decoding import Secret
from mediacdn.config.loading import Loaded, decode_driver, load
from mediacdn.config.sections import (
    Auth,
    Config,
    Cors,
    Database,
    Edge,
    EdgeRule,
    Jobs,
    Lifecycle,
    Limits,
    Recipes,
    Rule,
    Section,
    Server,
    Signing,
    Uploads,
    Variants,
)
from mediacdn.config.showing import masked

__all__ = [
    "Auth",
    "Config",
    "Cors",
    "Database",
    "Edge",
    "EdgeRule",
    "Jobs",
    "Lifecycle",
    "Limits",
    "Loaded",
    "Recipes",
    "Rule",
    "Secret",
    "Section",
    "Server",
    "Signing",
    "Uploads",
    "Variants",
    "decode_driver",
    "load",
    "masked",
]
