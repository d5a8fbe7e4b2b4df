"""The radiance field of a block: the keys of every backbone, and which backbones there are.

A backbone is a subclass of BackboneConfig with a name, its own keys, and what the rest of the program asks of it. The
package's own stand in `models/backbones/`; another package adds one by `register_backbone`, or by an entry point of the
group `blocknerf.backbones`, which worker processes find as well.
"""

from abc import abstractmethod
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic_core import core_schema

from blocknerf.core.config.effects import Need
from blocknerf.core.config.section import Positive, Samples, Section

GROUP = "blocknerf.backbones"
BUILT_IN = {"hash": "blocknerf.models.backbones.hash_grid.config", "mlp": "blocknerf.models.backbones.mip_nerf.config"}
"""The package's own, and the modules that register them; the first is the default. Named, not imported: nothing in
`core` knows what stands above it."""


@dataclass(frozen=True, slots=True)
class StepCost:
    """What one block's field takes. Estimates, meant to be right within a factor of two."""

    parameters: int
    """Numbers that it learns, besides codes, to within a few thousand."""
    bytes_per_ray: int
    """Activations and gradients in a training step."""
    rays_per_second_per_core: float
    """Training rays on a processor."""


class BackboneConfig(Section):
    """The radiance field of one block, and how many samples a ray takes in it."""

    backbone: str = ""
    white_background: bool = False
    """The same as dataset.white_background: white where either says so."""
    num_samples_coarse: Samples = 64
    """First samples along a ray, spread over all of it."""
    num_samples_fine: Samples = 12
    """Samples of the field along a ray, placed where the first ones saw matter."""
    perturb_samples: bool = True
    """Samples are drawn at random within their strata while training; else they lie in the middle."""
    near_m: Positive | None = None
    """Rays begin here; none: a hundredth of the block's radius."""
    far_m: Positive | None = None
    """Rays end here; none: a hundred times the block's radius."""

    renders: ClassVar[Literal["rays", "views"]] = "rays"
    """Whether its field is asked for single rays (`interface.Backbone`) or for a camera's pixels (`ViewsBackbone`)."""
    worker: ClassVar[Literal["numba", "torch"]] = "torch"
    """Which of the two does most of a block's arithmetic, and is to have the cores."""
    losses: ClassVar[tuple[str, ...]] = ()
    """Terms of the loss that this backbone adds: "interlevel", "coarse_rgb"."""
    switches: ClassVar[tuple[Need, ...]] = ()
    """What its own keys need of each other."""
    kernels: ClassVar[tuple[str, ...]] = ()
    """Kernels that a training step calls, as operation.function, what takes longest to compile first."""
    implied_by: ClassVar[tuple[str, ...]] = ()
    """Keys that mean this backbone where `backbone` is not given."""
    defaults_elsewhere: ClassVar[dict[str, dict[str, Any]]] = {}
    """By section: defaults of keys outside of block_nerf that are this backbone's own."""
    faster: ClassVar[str] = ""
    """What a run that takes days is told to use in place of this backbone, and how much that gains."""

    @model_validator(mode="after")
    def _near_is_before_far(self) -> "BackboneConfig":
        if self.near_m is not None and self.far_m is not None and self.near_m >= self.far_m:
            raise ValueError(f"near_m {self.near_m:g} must be less than far_m {self.far_m:g}")
        return self

    @property
    def learns_from_first_samples(self) -> bool:
        """Whether the first samples make a picture that is compared with photographs as well."""
        return False

    @abstractmethod
    def field(self, code_dim: int, spacing: Any, white_background: bool, rng: Any) -> Any:
        """The field, of `models.backbones.interface`, of codes with `code_dim` numbers.

        `spacing` is a `rendering.volume.RaySamplingConfig`; parameters begin as `rng` says, and are zero without.
        """

    @abstractmethod
    def cost(self, code_dim: int) -> StepCost:
        """What a training step takes, where colour is told a code of so many numbers."""

    def with_samples(self, count: int) -> "BackboneConfig":
        """With so many samples of the field along a ray."""
        return self.model_copy(update={"num_samples_fine": count})

    def for_debug(self) -> "BackboneConfig":
        """As small as it can be and still do all that it does: what `--debug` trains."""
        return self.model_copy(update=lowered(self, num_samples_coarse=16, num_samples_fine=8))

    def for_warmup(self) -> "BackboneConfig":
        """Too small to matter, but calling the same kernels."""
        return self.for_debug()


def lowered(section: Section, **most: int) -> dict[str, int]:
    """Keys of a section, each at most as large as its bound."""
    return {key: min(getattr(section, key), bound) for key, bound in most.items()}


Registered = TypeVar("Registered", bound=BackboneConfig)
_backbones: dict[str, type[BackboneConfig]] = {}


def register_backbone(config: type[Registered]) -> type[Registered]:
    """Makes a backbone known by the name that its key `backbone` has. Decorates the class."""
    _backbones[config.model_fields["backbone"].default] = config
    return config


def backbones() -> dict[str, type[BackboneConfig]]:
    """Those of the package, then all others that were registered, by name; the first is the default."""
    for module in BUILT_IN.values():
        import_module(module)
    return {name: _backbones[name] for name in (*BUILT_IN, *_backbones)}


def first_backbone() -> type[BackboneConfig]:
    """The default."""
    return next(iter(backbones().values()))


def backbone_named(name: Any) -> type[BackboneConfig] | None:
    """The backbone of that name, from another installed package if need be; None where there is none."""
    if not isinstance(name, str):
        return None
    if name not in backbones():
        for entry in entry_points(group=GROUP):
            if entry.name == name:
                register_backbone(entry.load())
    return _backbones.get(name)


class OneOfBackbones:
    """Says of a key that it is the section of the backbone that its `backbone` names."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(_section_of_its_backbone)

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"oneOf": [handler(config.__pydantic_core_schema__) for config in backbones().values()]}


def _section_of_its_backbone(section: Any) -> BackboneConfig:
    if isinstance(section, BackboneConfig):
        return section
    if not isinstance(section, dict):
        raise ValueError("a section of keys is wanted")
    config = backbone_named(section.get("backbone"))
    if config is None:
        raise ValueError(f"there is no backbone {section.get('backbone')!r}; give {' or '.join(backbones())}")
    return config.model_validate(section)


def meant_backbone(section: dict[str, Any]) -> Any:
    """The name that a section gives; where it gives none, that of the first backbone which its keys imply."""
    if "backbone" in section:
        return section["backbone"]
    known = backbones()
    implied = [name for name, config in known.items() if any(key in section for key in config.implied_by)]
    return [*implied, *known][0]


def keys_of_others(section: dict[str, Any]) -> dict[str, str]:
    """Keys of a section that its own backbone lacks: each with the name of one that has it."""
    own = backbone_named(meant_backbone(section))
    if own is None:
        return {}
    return {
        key: name
        for name, config in backbones().items()
        for key in section
        if key in config.model_fields and key not in own.model_fields
    }
