"""Hydra configurations: compose, check, and convert them to dataclasses, with helpful errors.

The entry points (`data_prep/build.py`, `smim/train.py`, `eval/run.py`, `smim prepare|train|evaluate`) share this
module.
"""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from smim.errors import SmimError, UserError, nearest, refuse, reported_to_user

_PACKAGE = Path(__file__).resolve().parent
# In a wheel, the configurations are part of the package.
CONFIGS = next(each for each in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if each.is_dir())

T = TypeVar("T")


def run(
    config_name: str, main: Callable[[DictConfig], None], *, expand: Callable[[list[str]], list[str]] | None = None
) -> None:
    """Run `main` with the configuration `configs/CONFIG_NAME.yaml` and the command line's overrides.

    Hydra's own flags (`--help`, `--cfg job`, `--multirun`) work. A mistake ends the process with one message and exit
    status 2. `expand`: a function that replaces the command line's arguments, including flags.
    """

    def reporting(config: DictConfig) -> None:
        with reported_to_user():
            main(config)

    with reported_to_user():
        if expand is not None:
            sys.argv[1:] = expand(sys.argv[1:])
        # With `--multirun`, Hydra itself must split values at commas. Arguments of other flags have no "=".
        flags = [argument for argument in sys.argv[1:] if argument.startswith("-")]
        if not flags:
            compose(config_name, sys.argv[1:])
        elif {"-m", "--multirun"}.isdisjoint(flags):
            overrides = [argument for argument in sys.argv[1:] if "=" in argument and argument not in flags]
            compose(config_name, overrides)
    # Hydra reports what escapes `reporting` (a bug of ours) with a shortened traceback unless this is set.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    hydra.main(version_base=None, config_path=str(CONFIGS), config_name=config_name)(reporting)()


def compose(config_name: str, overrides: list[str]) -> DictConfig:
    """The configuration as `run` would pass it; raises `UserError` that names each wrong override."""
    with hydra.initialize_config_dir(str(CONFIGS), version_base=None):
        try:
            config = hydra.compose(config_name, overrides)
            OmegaConf.resolve(config)
            added = any(override.startswith("+") for override in overrides)
        except (HydraException, OmegaConfBaseException, ValueError) as error:  # Hydra: a number as a group
            problems = [problem for o in overrides if (problem := _problem(config_name, o))]
            raise UserError("; ".join(problems) or str(error).splitlines()[0]) from None
        if added:
            refuse(problem for o in overrides if (problem := _problem(config_name, o)))
        _check_sections(OmegaConf.load(CONFIGS / f"{config_name}.yaml"), config)
        return config


def make(cls: type[T], section: DictConfig, prefix: str, **made: Any) -> T:
    """Convert a section of the configuration to its dataclass; types and values are checked.

    `made`: fields that are dataclasses and exist already.
    """
    values = OmegaConf.to_container(section)
    assert isinstance(values, dict)
    try:
        schema = OmegaConf.structured(cls)
        _make_writable(schema)
        schema.update(made)
        _check_sections(schema, values, f"{prefix}.")
        return OmegaConf.to_object(OmegaConf.merge(schema, values))  # type: ignore[return-value]
    except ConfigKeyError as error:
        key = str(error.full_key or error.key)
        known = [field.name for field in fields(error.object_type or cls)]  # type: ignore[arg-type]
        raise UserError(f"unknown key {prefix}.{key}; {nearest(key, known)}") from None
    except MissingMandatoryValue as error:
        raise UserError(f"{prefix}.{error.full_key} is missing; give {prefix}.{error.full_key}=...") from None
    except OmegaConfBaseException as error:
        key, problem = f"{prefix}.{error.full_key}", str(error).splitlines()[0]
        if "is not a ListConfig" in problem:
            problem = f"the value must be a list, such as '{key}=[ONE,TWO]'"
        raise UserError(f"{key}: {problem}") from None


def _check_sections(sections: Any, given: Mapping[Any, Any], prefix: str = "") -> None:
    """Raise `UserError` if a plain value was given for a whole section."""
    refuse(
        f"{prefix}{name}={given[name]}: {prefix}{name} is a section; set its keys {', '.join(map(str, section))}"
        for name in sections
        if name in given
        and isinstance(section := sections._get_node(name), DictConfig)
        and not isinstance(given[name], Mapping)
    )


def _make_writable(schema: DictConfig) -> None:
    """OmegaConf treats frozen dataclasses, also nested ones, as read-only; undo that."""
    OmegaConf.set_readonly(schema, False)
    for key in schema:
        if isinstance(child := schema._get_node(key), DictConfig):
            _make_writable(child)


def make_all(config: DictConfig, **sections: Callable[[DictConfig], Any]) -> list[Any]:
    """Build several sections, and list the mistakes of all of them in one error."""
    built, problems = [], []
    for name, builder in sections.items():
        try:
            built.append(builder(config[name]))
        except SmimError as error:
            problems.append(str(error))
    refuse(problems)
    return built


def _problem(config_name: str, override: str) -> str | None:
    """Why one override is refused, or None if it is valid."""
    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException as error:
        return f"cannot read {override!r} as KEY=VALUE: {str(error).splitlines()[0]}"
    key, value = parsed.key_or_group, override.partition("=")[2]
    if (CONFIGS / key).is_dir():
        options = [file.stem for file in sorted((CONFIGS / key).glob("*.yaml"))]
        return None if value in options else f"{key}={value}: there is no such {key}; {nearest(value, options)}"
    groups = [folder.name for folder in CONFIGS.iterdir() if folder.is_dir()]
    if parsed.is_add():
        return f"unknown key {key}: keys cannot be added; {nearest(key, sorted(_keys(hydra.compose(config_name))))}"
    try:
        hydra.compose(config_name, [override])
    except (HydraException, ValueError):
        # Include the keys of all options of the groups, not only of the chosen ones.
        files = [
            (group, file) for group in groups if group != "experiment" for file in (CONFIGS / group).glob("*.yaml")
        ]
        of_groups = (_keys(OmegaConf.load(file), f"{group}.") for group, file in files)  # type: ignore[arg-type]
        known = _keys(hydra.compose(config_name, [])).union(*of_groups)
        return None if key in known else f"unknown key {key}; {nearest(key, sorted(known))}"
    except OmegaConfBaseException as error:
        return f"{override}: {str(error).splitlines()[0]}"
    return None


def _keys(config: DictConfig, prefix: str = "") -> set[str]:
    keys: set[str] = set()
    container: Any = OmegaConf.to_container(config)
    for key, value in container.items():
        keys.add(f"{prefix}{key}")
        if isinstance(value, dict):
            keys |= _keys(OmegaConf.create(value), f"{prefix}{key}.")
    return keys
