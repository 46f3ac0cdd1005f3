"""Ways to put one exam question, each with a name that carries its version: `evals/exam_prompts.yaml`.

How many options are to be marked comes from the question's own text, so saying it again gives nothing away.
"""

from collections.abc import Sequence

from pydantic import Field

from jvlm.assets import asset
from jvlm.config import Config, load_config


class ExamPrompt(Config):
    """Question, options, and what stands around them."""

    before: str = Field("", description="Before the question")
    option: str = Field("{label} {text}", description="A line of one option")
    after: str = Field("", description="After the options; {n}: how many are to be marked, {labels}: of which")
    after_number: str = Field("", description="After a question that wants a number")

    def text(self, question: str, options: Sequence[tuple[str, str]], n_select: int) -> str:
        """The user's turn. `options`: (label, text) of each; none where a number is wanted."""
        if not options:
            return f"{self.before}{question}\n{self.after_number}"  # the format keeps the line break after the stem
        lines = [self.option.format(label=label, text=text) for label, text in options]
        labels = "、".join(label for label, _ in options)
        return "\n".join([self.before + question, *lines]) + self.after.format(n=n_select, labels=labels)


PLAIN = ExamPrompt()
"""The format of training: nothing but the question and its options."""


class ExamPrompts(Config):
    """The file of the prompts."""

    prompts: dict[str, ExamPrompt] = Field(description="By name and version")


def load_exam_prompts() -> dict[str, ExamPrompt]:
    """The prompts that come with jvlm, by name."""
    return load_config(ExamPrompts, asset("evals", "exam_prompts.yaml")).prompts
