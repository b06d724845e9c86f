"""The environment `code` with its tasks, for the stage that makes them; every other stage reads these from the table problems."""

from projected_grpo.environment.checked import OURS
from projected_grpo.environment.code import CodeEnvironment
from projected_grpo.environment.protocol import Task
from projected_grpo.problems import authored, leetcode
from projected_grpo.prompts.modes import MODES
from projected_grpo.settings.profile import AuthoredProblems, Grading, LeetcodeProblems, ToyProblems
from projected_grpo.toy_world import toy

SOURCES = {"toy": toy, "authored": authored, "leetcode": leetcode}


class CodeTasks(CodeEnvironment):
    """Beside the tasks, `truths` are rows of the table ground_truth. Raises ProblemError."""

    def __init__(self, problems: ToyProblems | AuthoredProblems | LeetcodeProblems, grading: Grading) -> None:
        super().__init__(problems.kind != "toy", grading)
        self.made, self.truths = SOURCES[problems.kind].make_problems(problems, MODES)

    def tasks(self) -> list[Task]:
        return [
            Task(row["problem_id"], row["split"], row["mode"], row["statement"], {name: row[name] for name in OURS})
            for row in self.made
        ]
