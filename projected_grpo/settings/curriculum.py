"""The settings of a curriculum: demonstrations, retain-heal, warm start, inoculation, and when a run counts as diverged.

Training depends on demonstrations and on the pairs only where an arm uses them: `pool` and `heal_pairs` name the files that
dvc.yaml lists, and `none` is an empty table.
"""

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from projected_grpo.settings.profile import Mode, Natural, Positive, Section


class Curriculum(Section):
    hack_demos: Natural  # rollouts of each group that are replaced by demonstrations of the problem's loophole
    solve_demos: Natural  # and by demonstrations of a correct program
    until_step: Natural  # demonstrations are mixed in before this step
    pool: Literal["none", "demonstrations"]  # demonstrations: where there are some
    known_modes: list[Mode]  # loophole modes that are demonstrated; the others are held out
    heal_epochs: Natural  # epochs of retain-heal after training
    heal_pairs: Literal["none", "pairs"]  # pairs: where training heals
    warm_start: Annotated[str, Field(min_length=1)]  # folder with the adapter that training starts from, or starts/zero
    inoculate: bool  # every training prompt asks for the loophole, and no prompt of the evaluation does
    kl_limit: Positive  # nats a token; a median KL of ten steps over it is a divergence, which ends training

    @model_validator(mode="after")
    def _demonstrations_agree(self) -> "Curriculum":
        demos = self.hack_demos + self.solve_demos
        asked = f"curriculum.hack_demos + curriculum.solve_demos is {demos}"
        if (demos > 0) != (self.until_step > 0):
            raise ValueError(
                f"{asked} and curriculum.until_step is {self.until_step}, so no step has demonstrations; set both, or both to 0"
            )
        if (demos > 0) != (self.pool == "demonstrations"):
            remedy = "demonstrations" if demos > 0 else "none"
            raise ValueError(
                f"{asked} and curriculum.pool is {self.pool}; training depends on the pool where it uses demonstrations, "
                f"and only there; set curriculum.pool={remedy}"
            )
        if self.hack_demos > 0 and not self.known_modes:
            raise ValueError(
                f"curriculum.hack_demos is {self.hack_demos}, but curriculum.known_modes names no mode, so no problem has "
                "any; name the modes that are demonstrated, or set hack_demos=0"
            )
        if demos > 0 and self.inoculate:
            raise ValueError(f"{asked} and curriculum.inoculate is true; demonstrations answer prompts that do not ask for the loophole; set one of them")
        if self.hack_demos == 0 and set(self.known_modes) != set(get_args(Mode)):
            raise ValueError(
                f"curriculum.known_modes is {', '.join(self.known_modes) or 'empty'}, but curriculum.hack_demos is 0, so no mode is "
                "demonstrated; set hack_demos, or name all modes"
            )
        return self

    @model_validator(mode="after")
    def _healing_agrees(self) -> "Curriculum":
        if (self.heal_epochs > 0) != (self.heal_pairs == "pairs"):
            remedy = "pairs" if self.heal_epochs > 0 else "none"
            raise ValueError(
                f"curriculum.heal_epochs is {self.heal_epochs} and curriculum.heal_pairs is {self.heal_pairs}; training "
                f"depends on the pairs where it heals, and only there; set curriculum.heal_pairs={remedy}"
            )
        return self
