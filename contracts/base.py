"""The two kinds of model: what programs exchange, and what people write."""

from pydantic import BaseModel, ConfigDict, JsonValue

JsonObject = dict[str, JsonValue]


class Frozen(BaseModel):
    """Something that programs exchange: an older or newer reader may meet it, so unknown fields pass."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Strict(BaseModel):
    """Something that a person writes: an unknown field is a mistake and is named."""

    model_config = ConfigDict(frozen=True, extra="forbid")
