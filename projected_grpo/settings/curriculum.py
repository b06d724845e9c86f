"""The settings of a curriculum: demonstrations, retain-heal, warm start, inoculation, and when a run counts as diverged."""

from typing import Annotated, get_args

from pydantic import Field, model_validator

from projected_grpo.settings.section import Mode, Natural, Positive, Section


class Demonstrated(Section):
    hack_demos: Natural  # rollouts of each group that are replaced by demonstrations of the problem's loophole; null in params.yaml: the profile's number
    solve_demos: Natural  # and by demonstrations of a correct program; null in params.yaml: the profile's number
    until_step: Natural  # demonstrations are mixed in before this step; null in params.yaml: the profile's step


NO_DEMONSTRATIONS = Demonstrated(hack_demos=0, solve_demos=0, until_step=0)


class Curriculum(Demonstrated):
    """The first three keys are null in params.yaml where the profile's section `demonstrations` has them."""

    known_modes: list[Mode]  # loophole modes that are demonstrated; the others are held out
    heal_epochs: Natural  # epochs of retain-heal after training, on the clean sides of the authored pairs
    warm_start: Annotated[str, Field(pattern=r"^starts/")]  # folder with the adapter that training starts from, or starts/zero; DVC watches starts/
    inoculate: bool  # every training prompt asks for the loophole, and no prompt of the evaluation does
    kl_limit: Positive  # nats a token; a median KL of ten steps over it is a divergence, which ends training

    @model_validator(mode="after")
    def _demonstrations_agree(self) -> "Curriculum":
        demos = self.hack_demos + self.solve_demos
        asked = f"curriculum.hack_demos + curriculum.solve_demos is {demos} (null in params.yaml is the profile's number)"
        if (demos > 0) != (self.until_step > 0):
            raise ValueError(
                f"{asked} and curriculum.until_step is {self.until_step}, so no step has demonstrations; set both, or both to 0"
            )
        if self.hack_demos > 0 and not self.known_modes:
            raise ValueError(
                f"curriculum.hack_demos is {self.hack_demos}, but curriculum.known_modes names no mode, so no problem has "
                "any; name the modes that are demonstrated, or set hack_demos=0"
            )
        if demos > 0 and self.inoculate:
            raise ValueError(f"{asked} and curriculum.inoculate is true; demonstrations answer prompts that do not ask for the loophole; set it to false, or hack_demos, solve_demos and until_step to 0")
        if self.hack_demos == 0 and set(self.known_modes) != set(get_args(Mode)):
            raise ValueError(
                f"curriculum.known_modes is {', '.join(self.known_modes) or 'empty'}, but curriculum.hack_demos is 0, so no mode is "
                "demonstrated; set hack_demos, or name all modes"
            )
        return self
