"""The radiance field of a block: the keys of every backbone, and which backbones there are.

A backbone is a subclass of BackboneConfig with a name, its own keys, and what the rest of the program asks of it. The
package's own are in `models/backbones/`. Another package adds one by `register_backbone`, or by an entry point of the
group `blocknerf.backbones`, which worker processes also find.
"""

from abc import abstractmethod
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic_core import core_schema

from blocknerf.core.config.effects import Need
from blocknerf.core.config.section import CHOSEN, Positive, Samples, Section

GROUP = "blocknerf.backbones"
BUILT_IN = {"hash": "blocknerf.models.backbones.hash_grid.config", "mlp": "blocknerf.models.backbones.mip_nerf.config"}
"""The package's own, and the modules that register them; the first is the default. Named and not imported, because
`core` must not import from rooms above it."""


@dataclass(frozen=True, slots=True)
class StepCost:
    """What one block's field costs. Estimates, meant to be right within a factor of two."""

    parameters: int
    """Learned numbers without codes, to within a few thousand."""
    bytes_per_ray: int
    """Activations and gradients in a training step."""
    rays_per_second_per_core: float
    """Training rays on a CPU."""


class BackboneConfig(Section):
    """The radiance field of one block, and how many samples a ray takes in it."""

    backbone: str = ""
    white_background: bool = False
    """Same as dataset.white_background; rays end in white if either is set."""
    num_samples_coarse: Annotated[Samples, CHOSEN] = 64
    """First samples along a ray, spread over its whole length."""
    num_samples_fine: Annotated[Samples, CHOSEN] = 12
    """Samples of the field along a ray, placed where the first samples found matter."""
    perturb_samples: bool = True
    """In training, samples are drawn at random within their intervals. If false, they are in the middle."""
    near_m: Positive | None = None
    """Where rays begin, in metres. Default: a hundredth of the block's radius."""
    far_m: Positive | None = None
    """Where rays end, in metres. Default: a hundred times the block's radius."""

    renders: ClassVar[Literal["rays", "views"]] = "rays"
    """Whether its field is asked for single rays (`interface.Backbone`) or for a camera's pixels (`ViewsBackbone`)."""
    worker: ClassVar[Literal["numba", "torch"]] = "torch"
    """Which library does most of a block's arithmetic, and so gets the cores."""
    losses: ClassVar[tuple[str, ...]] = ()
    """Loss terms that not every backbone has, and this one has: "interlevel" if its rays come back with a proposal,
    "coarse_rgb" if they come back with a picture of the first samples. The weight of another one is refused."""
    switches: ClassVar[tuple[Need, ...]] = ()
    """Keys of this backbone that need another of its keys."""
    kernels: ClassVar[tuple[str, ...]] = ()
    """Kernels that a training step calls, as operation.function; the slowest to compile first."""
    implied_by: ClassVar[tuple[str, ...]] = ()
    """Keys that imply this backbone if `backbone` is not given."""
    section_defaults: ClassVar[dict[str, dict[str, Any]]] = {}
    """By section: this backbone's defaults for keys outside of block_nerf."""
    faster: ClassVar[str] = ""
    """What to use instead if a run would take days, and how much faster it is."""

    @model_validator(mode="after")
    def _near_is_before_far(self) -> "BackboneConfig":
        if self.near_m is not None and self.far_m is not None and self.near_m >= self.far_m:
            raise ValueError(f"near_m {self.near_m:g} must be less than far_m {self.far_m:g}")
        return self

    @property
    def learns_from_first_samples(self) -> bool:
        """Whether the picture of the first samples is also compared with photographs."""
        return "coarse_rgb" in self.losses

    @abstractmethod
    def field(self, code_dim: int, spacing: Any, white_background: bool, rng: Any) -> Any:
        """The field, of `models.backbones.interface`, of codes with `code_dim` numbers.

        `spacing` is a `rendering.volume.RaySamplingConfig`; `rng` initialises parameters, which are zero without it.
        """

    @abstractmethod
    def cost(self, code_dim: int) -> StepCost:
        """What a training step costs, with codes of `code_dim` numbers."""

    def with_samples(self, count: int) -> "BackboneConfig":
        """The same with `count` samples of the field along a ray."""
        return self.model_copy(update={"num_samples_fine": count})

    def for_debug(self) -> "BackboneConfig":
        """As small as possible with all features, for `--debug`."""
        return self.model_copy(update=lowered(self, num_samples_coarse=16, num_samples_fine=8))

    def for_warmup(self) -> "BackboneConfig":
        """Tiny, but calling the same kernels."""
        return self.for_debug()


def lowered(section: Section, **most: int) -> dict[str, int]:
    """Keys of a section, each at most its bound."""
    return {key: min(getattr(section, key), bound) for key, bound in most.items()}


Registered = TypeVar("Registered", bound=BackboneConfig)
_backbones: dict[str, type[BackboneConfig]] = {}


def register_backbone(config: type[Registered]) -> type[Registered]:
    """Registers a backbone under the name in its key `backbone`. Use it as a class decorator."""
    _backbones[config.model_fields["backbone"].default] = config
    return config


def backbones() -> dict[str, type[BackboneConfig]]:
    """Those of the package, then all other registered ones, by name; the first is the default."""
    for module in BUILT_IN.values():
        import_module(module)
    return {name: _backbones[name] for name in (*BUILT_IN, *_backbones)}


def first_backbone() -> type[BackboneConfig]:
    """The default."""
    return next(iter(backbones().values()))


def backbone_named(name: Any) -> type[BackboneConfig] | None:
    """The backbone of that name, if necessary from another installed package; None if there is none."""
    if not isinstance(name, str):
        return None
    if name not in backbones():
        for entry in entry_points(group=GROUP):
            if entry.name == name:
                register_backbone(entry.load())
    return _backbones.get(name)


class OneOfBackbones:
    """Annotation of a key that holds the section of the backbone named in it."""

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
        known = dict.fromkeys([*backbones(), *(entry.name for entry in entry_points(group=GROUP))])
        raise ValueError(
            f"there is no backbone {section.get('backbone')!r}; give {' or '.join(known)}, or install the package that "
            "adds it"
        )
    return config.model_validate(section)


def meant_backbone(section: dict[str, Any]) -> Any:
    """The name in a section; if it has none, that of the first backbone that its keys imply."""
    if "backbone" in section:
        return section["backbone"]
    known = backbones()
    implied = [name for name, config in known.items() if any(key in section for key in config.implied_by)]
    return [*implied, *known][0]


def keys_of_others(section: dict[str, Any]) -> dict[str, str]:
    """Keys of a section that its backbone lacks, each with the name of a backbone that has it."""
    backbone = backbone_named(meant_backbone(section))
    if backbone is None:
        return {}
    return {
        key: name
        for name, config in backbones().items()
        for key in section
        if key in config.model_fields and key not in backbone.model_fields
    }
