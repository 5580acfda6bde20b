"""The one signature of every divergence."""

from torch import Tensor, nn

from ..temperature import Temperatures

__all__ = ["Divergence"]


class Divergence(nn.Module):
    """How far a student's logits are from a teacher's, at given temperatures.

    ``divergence(student, teacher, target, temperatures) -> (B,)``: one value a sample, whose mean over the batch
    is the loss. No 1/K anywhere: the extra 1/N of the paper's Eq. 2 is not in its released code either.

    A divergence whose ``forward`` has a keyword ``ends`` gets the lowest and highest logit of each row, (B, 1), of student and
    teacher there, in a compiled step that knows them from the standardization; it saves the passes that look for them. The
    same holds of a temperature rule.
    """

    reads_temperature = True
    """Whether the temperatures change anything. A rule with learned parameters is refused where they do not."""

    reads_batch = False
    """Whether a sample's value depends on the other samples of its batch, and so on how gradients are accumulated."""

    pairs_rows = False
    """Whether a row belongs to another by its place in the batch, so that no row may be left out."""

    standardizes = False
    """Whether rows are standardized here, whatever the objective does; of two classes nothing is then left."""

    least_classes = 2
    """3 where rows are not standardized here and yet nothing is left of two classes."""

    reads_target = False
    """Whether class labels are needed (probabilities are not enough)."""

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor, temperatures: Temperatures) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} does not say how it compares logits")
