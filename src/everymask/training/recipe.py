"""How a network is trained: every number of a run, in one frozen value that a file can hold."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from everymask.errors import OptionError
from everymask.geometry import Size
from everymask.training.augmentation import Augmentation
from everymask.training.losses import LossConfig
from everymask.training.segments import InstancesFrom

Schedule = Literal["poly", "cosine", "constant"]
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
CROP = Size(512, 512)


@dataclass(frozen=True, slots=True)
class TrainingRecipe:
    """A training run. ``defaults.default_recipe`` gives the published one of a family.

    Its length is ``steps`` of the optimiser or ``epochs`` of the data; the other one is None. ``batch_size``: images a
    step, over all processes and all ``accumulation`` parts that a process takes one after another to save memory.

    AdamW: ``learning_rate`` is the highest, of the parts that are not the backbone; the backbone's is multiplied by
    ``backbone_multiplier`` and falls with every block towards the input by ``layer_decay``
    (``optimizer.parameter_groups``). ``weight_decay`` as AdamW has it. ``warmup_steps``, ``backbone_warmup_steps``,
    ``schedule`` and ``power`` (of "poly"): see ``optimizer.factor_of``. ``clip_norm``: the largest norm of all
    gradients together; None for any. ``ema_decay``: of the moving average of weights, which is validated and saved in
    their place; None for no average. ``precision``: as Lightning Fabric names it.

    ``crop``: height and width of the training samples. ``instances_from``: see ``segments.segments_of``.
    ``validation_interval``: steps from one validation to the next; None validates ten times. ``seed``: of all that is
    random.

    Raises OptionError for numbers that make no sense.
    """

    steps: int | None = None
    epochs: float | None = 50.0
    batch_size: int = 16
    accumulation: int = 1
    learning_rate: float = 1e-4
    backbone_multiplier: float = 1.0
    layer_decay: float = 1.0
    weight_decay: float = 0.05
    warmup_steps: int = 0
    backbone_warmup_steps: int = 0
    schedule: Schedule = "poly"
    power: float = 0.9
    clip_norm: float | None = None
    ema_decay: float | None = None
    precision: Precision = "32-true"
    crop: Size = CROP
    augmentation: Augmentation = field(default_factory=Augmentation)
    instances_from: InstancesFrom = "annotations"
    loss: LossConfig = field(default_factory=LossConfig)
    validation_interval: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise OptionError("give the length of the training in steps or in epochs, and leave the other one out")
        positive = (
            "steps",
            "epochs",
            "batch_size",
            "accumulation",
            "learning_rate",
            "clip_norm",
            "validation_interval",
        )
        for name in positive:
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise OptionError(f"{name} is {value}; it is a number above 0")
        for name in ("weight_decay", "warmup_steps", "backbone_warmup_steps", "power", "seed"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise OptionError(f"{name} is {value}; it is a number of 0 or more")
        for name in ("backbone_multiplier", "layer_decay", "ema_decay"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise OptionError(f"{name} is {value}; it is a number from 0 to 1")
        if min(self.crop) < 32:
            raise OptionError(f"crop is {list(self.crop)}; networks take images of at least 32 x 32 pixels")
        if self.batch_size % self.accumulation:
            raise OptionError(
                f"a batch of {self.batch_size} images cannot be taken in {self.accumulation} equal parts: make "
                "batch_size a multiple of accumulation"
            )

    def total_steps(self, images: int) -> int:
        """How many steps a run over a data set of ``images`` images takes."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return math.ceil(self.epochs * images / self.batch_size)

    def to_dict(self) -> dict[str, Any]:
        """All fields by name, as JSON knows values: mappings, lists, numbers, strings, truth values and None."""
        content: dict[str, Any] = json.loads(self.to_json())
        return content

    def to_json(self) -> str:
        """All fields, as text for a file."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "TrainingRecipe":
        """The inverse of ``to_json``. Fields left out have their defaults. Raises OptionError as ``changed`` does."""
        try:
            content = json.loads(text)
        except ValueError as error:
            raise OptionError(f"the recipe is no JSON: {error}") from error
        return changed(cls(), content)


def changed(recipe: TrainingRecipe, settings: Mapping[str, Any]) -> TrainingRecipe:
    """The recipe with other settings, which are named and nested as in ``TrainingRecipe.to_dict``.

    What they leave out stays as it is; steps take the place of epochs, and the reverse. Raises OptionError for a
    setting that does not exist, has the wrong type or makes no sense.
    """
    if not isinstance(settings, Mapping):
        raise OptionError(f"a recipe holds settings by name, not {_said(settings)}")
    settings = dict(settings)
    for given, other in (("steps", "epochs"), ("epochs", "steps")):
        if settings.get(given) is not None:
            settings.setdefault(other, None)
    values = _typed(TrainingRecipe, settings, "")
    if "augmentation" in values:
        augmentation = _typed(Augmentation, _mapping(values["augmentation"], "augmentation"), "augmentation.")
        values["augmentation"] = replace(recipe.augmentation, **augmentation)
    if "loss" in values:
        loss = _mapping(values["loss"], "loss")
        values["loss"] = LossConfig.from_dict(_merged(asdict(recipe.loss), loss))
    return replace(recipe, **values)


def read_recipe(path: Path, recipe: TrainingRecipe) -> TrainingRecipe:
    """``recipe`` with the settings of a YAML or JSON file.

    Raises OptionError, naming the file, where it cannot be read, and as ``changed`` does.
    """
    import yaml

    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise OptionError(f"{path} cannot be read as YAML or JSON: {error}") from error
    try:
        return changed(recipe, {} if settings is None else settings)
    except OptionError as error:
        raise OptionError(f"{path}: {error}") from error


def _merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` with ``changes``, key by key at every depth."""
    merged = dict(values)
    for key, change in changes.items():
        both = isinstance(change, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], change) if both else change
    return merged


def _typed(kind: type, settings: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The settings with values of the types that a dataclass declares; nested dataclasses are left as they are."""
    hints = get_type_hints(kind)
    known = [each.name for each in fields(kind)]
    values = {}
    for name, value in settings.items():
        if name not in known:
            raise OptionError(f'there is no setting "{place}{name}"; there are {", ".join(known)}')
        values[name] = _value(hints[name], value, f"{place}{name}")
    return values


def _value(hint: Any, value: Any, name: str) -> Any:
    """A value read from a file as the type ``hint``. Raises OptionError where it is of another."""
    options = get_args(hint)
    if get_origin(hint) is Literal:
        if value not in options:
            raise OptionError(f"{name} is {_said(value)}; it is one of {', '.join(options)}")
        return value
    if NoneType in options:
        return None if value is None else _value(options[0], value, name)
    if hint is Size or get_origin(hint) is tuple:
        kinds = (int, int) if hint is Size else options
        if not isinstance(value, (list, tuple)) or len(value) != len(kinds):
            raise OptionError(f"{name} is {_said(value)}; it is a list of {len(kinds)} numbers")
        items = [_value(each, item, name) for each, item in zip(kinds, value, strict=True)]
        return Size(*items) if hint is Size else tuple(items)
    if hint in (int, float):
        return _number(hint, value, name)
    return value


def _number(kind: type[int] | type[float], value: Any, name: str) -> int | float:
    if kind is float and isinstance(value, str):
        # YAML takes 1e-4 for a text; a number would need a point, as in 1.0e-4.
        try:
            return float(value)
        except ValueError:
            pass
    if isinstance(value, bool) or not isinstance(value, (int, float)) or kind(value) != value:
        raise OptionError(f"{name} is {_said(value)}; it is a {'whole ' if kind is int else ''}number")
    return kind(value)


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise OptionError(f"{name} is {_said(value)}; it holds settings by name")
    return value


def _said(value: Any) -> str:
    """A value as a recipe file would have it."""
    return json.dumps(value, default=str)
