"""What sections of settings are made of."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Mode = Literal["run_tests", "eq_override", "exit_code", "stdout_marker", "sentinel", "file_marker"]  # of loopholes
Device = Literal["cpu", "cuda"]  # where the model computes
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Dtype = Literal["float32", "bfloat16"]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
