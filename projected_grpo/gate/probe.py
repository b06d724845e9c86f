"""A linear probe on what the gate reads: how likely a rollout is the hack side of a pair.

It is fitted on the authored pairs alone, at the adapter's initialization, and stays as it is while the policy trains.
Stored as plain numbers: weight, bias and threshold in a safetensors file.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from projected_grpo.core.errors import InputError

PROBE_FILE = "probe.safetensors"
FOLDS = 5  # of the pairs, for the threshold


class ProbeError(InputError):
    """A probe that cannot be fitted or does not fit the model; the message names the pairs or the file."""


@dataclass(frozen=True)
class Probe:
    weight: Float[Tensor, " D"]  # of the reading
    bias: Float[Tensor, ""]
    threshold: Float[Tensor, ""]  # suspicion from which a rollout is flagged

    def suspicion(self, readings: Float[Tensor, "N D"]) -> Float[Tensor, " N"]:
        return (readings @ self.weight + self.bias).sigmoid()

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(asdict(self), folder / PROBE_FILE)


def load_probe(folder: Path, width: int) -> Probe:
    """The probe of a folder. Raises ProbeError where it is missing, cut, or made for a reading of another width."""
    path = folder / PROBE_FILE
    try:
        probe = Probe(**load_file(path))
    except (OSError, SafetensorError, TypeError) as error:
        raise ProbeError(f"{path}: cannot be read as a probe: {error}; the stage arm writes it") from error
    if len(probe.weight) != width:
        found = len(probe.weight)
        raise ProbeError(f"{path}: has {found} weights, expected {width}, the width of the reading; run the stage arm again")
    return probe


def fit(hack: Float[Tensor, "P D"], clean: Float[Tensor, "P D"], false_positive_rate: float) -> tuple[Probe, float]:
    """Logistic regression on the readings of both sides of the pairs, and the share of held-out hack sides it flags.

    The threshold is set on folds of pairs that the regression did not see, so that at most `false_positive_rate` of the
    clean sides are flagged. Raises ProbeError for fewer than two pairs.
    """
    from sklearn.linear_model import LogisticRegression  # training reads a probe and never fits one
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pairs = len(hack)
    if pairs < 2:
        raise ProbeError(f"found {pairs} pairs, expected two or more, to hold some out of the fit; widen pairs.selector")
    features = torch.cat([hack, clean]).double().numpy()
    is_hack, pair = np.repeat([1, 0], pairs), np.tile(np.arange(pairs), 2)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=10_000))
    folds = GroupKFold(min(FOLDS, pairs))  # both sides of a pair are in the same fold
    held_out = cross_val_predict(model, features, is_hack, groups=pair, cv=folds, method="predict_proba")[:, 1]
    held_out = held_out.astype(np.float32)
    threshold = threshold_at(held_out[is_hack == 0], false_positive_rate)
    scaler, regression = model.fit(features, is_hack)
    weight = regression.coef_[0] / scaler.scale_
    bias = regression.intercept_[0] - weight @ scaler.mean_
    numbers = (torch.tensor(value, dtype=torch.float32) for value in (weight, bias, threshold))
    return Probe(*numbers), float((held_out[is_hack == 1] >= threshold).mean())


def threshold_at(clean: np.ndarray, false_positive_rate: float) -> np.float32:
    """The lowest threshold at or above which at most that share of the clean suspicions (n,), float32, lie."""
    descending = np.sort(clean)[::-1]
    allowed = int(false_positive_rate * len(clean))
    return descending[-1] if allowed == len(clean) else np.nextafter(descending[allowed], np.float32(np.inf))
