"""What every section of a configuration is: strict, frozen, its keys described."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, field_validator, model_validator

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Width = Annotated[int, Field(ge=4, le=1024)]
Samples = Annotated[int, Field(ge=4, le=1024)]
Folder = Annotated[str, Field(min_length=1)]
DensityActivation = Literal["exp", "softplus", "relu"]
RgbActivation = Literal["sigmoid", "padded_sigmoid"]


class Changeable:
    """Marks a key, or a section, that may change between runs of one output folder: it decides neither the plan nor the
    shape of what is learned."""


CHANGEABLE = Changeable()

AUTO = "auto"
"""As the value of a `Chosen` key: the same as not to give it."""


class Chosen:
    """Marks a key that a budget of minutes may choose (`blocks/budget.py`) where nobody gives it."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        tree = handler(schema)
        return {"anyOf": [*tree.get("anyOf", [tree]), {"const": AUTO}]}


CHOSEN = Chosen()


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _auto_is_not_given(cls, tree: Any) -> Any:
        if not isinstance(tree, dict):
            return tree
        marked = {name for name, field in cls.model_fields.items() if CHOSEN in field.metadata}
        return {key: value for key, value in tree.items() if not (key in marked and value == AUTO)}

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: Any) -> Any:
        if isinstance(value, bool) and cls.model_fields[info.field_name].annotation is not bool:
            raise ValueError("true and false have no meaning here")
        return value
