"""What a training leaves behind: its model and pages in the run folder, and what the verb returns."""

import dataclasses
from pathlib import Path
from typing import Any

TEST_BATCH = 128
BUDGET_BROKEN = 3


def publish(result: Any, splits: Any, folder: Path, *, model: str, data: str, pretrained: str | None) -> dict[str, Any]:
    """Writes the model of a TrainResult and its pages into the run folder; what `resfit train` returns.

    model, data, pretrained: the names of network, images and the weights it started from, for people. The test
    images of `splits` are measured here, once.
    """
    from resfit.inference.opening import session_of
    from resfit.inference.predict import evaluation
    from resfit.model.run_folder import save
    from resfit.reporting.run_card import write_run_card
    from resfit.verbs.report import write

    recipe, trained = result.recipe, _started_from(result.model, pretrained)
    save(trained, folder)
    batch_size = min(recipe.micro_batch or TEST_BATCH, TEST_BATCH)
    with session_of(trained, threads=recipe.threads) as session:
        answers = evaluation(session, splits.role("test"), batch_size=batch_size)
    outcome = {
        "model": model,
        "data": data,
        "pretrained": pretrained,
        **{name: answers[name] for name in ("accuracy", "accuracy_interval", "top5_accuracy", "loss", "ece")},
        "num_images": answers["num_images"],
        **_trained(result),
        "roles": splits.roles(),
        "skipped": [[image.name, image.reason] for image in splits.skipped],
        "out": str(folder),
    }
    write_run_card(folder, trained, outcome)
    outcome["peak_memory_bytes"] = _peak_memory_bytes()
    outcome["report"] = str(write(folder, trained, splits, outcome, answers))
    outcome["peak_memory_bytes"] = _peak_memory_bytes()
    outcome["exit_code"] = BUDGET_BROKEN if over_limit(outcome) else 0
    return outcome


def _trained(result: Any) -> dict[str, Any]:
    """How the training went."""
    from resfit.model.model import weights_sha256

    published = next((row for row in result.history if row["epoch"] == result.published_epoch), result.history[-1])
    return {
        "validation_accuracy": published["validation_accuracy"],
        "epochs": result.epochs,
        "steps": result.steps,
        "published_epoch": result.published_epoch,
        "stopped_early": result.stopped_early,
        "images_per_second": result.images_per_second,
        "elapsed_seconds": result.elapsed_seconds,
        "precision": result.recipe.precision,
        "weights_sha256": weights_sha256(result.model),
        "recipe": result.recipe.to_dict(),
        "seed": result.recipe.seed,
    }


def _peak_memory_bytes() -> int | None:
    """The most memory this process has held; None where the system does not tell."""
    from resfit.errors import EngineError
    from resfit.measure.memory import peak_memory_bytes

    try:
        return peak_memory_bytes()
    except EngineError:
        return None


def over_limit(outcome: dict[str, Any]) -> bool:
    """Whether the process held more memory than the recipe's limit."""
    limit, peak = outcome["recipe"]["train_memory_mb"], outcome["peak_memory_bytes"]
    return limit is not None and peak is not None and peak > limit * 1e6


def _started_from(model: Any, pretrained: str | None) -> Any:
    """The trained model, whose provenance says what weights it started from."""
    if pretrained is None:
        return model
    source = f"{model.provenance.source}, from {pretrained}"
    return dataclasses.replace(model, provenance=dataclasses.replace(model.provenance, source=source))
