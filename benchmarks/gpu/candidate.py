"""Part 4: a candidate for the released model: the best row of the table, trained for the minutes that are left."""

from __future__ import annotations

from benchmarks.gpu.session import MODEL_BYTES, Session
from benchmarks.gpu.table import comparison_on, first_pass
from cleftnet.models.checkpoint import load_model, save_model
from cleftnet.training.runs import train

REST_S = 25.0  # for the validation and the file, after the training
LEAST_MINUTES = 0.75


def run(session: Session) -> None:
    """Train the row with the best F1 whose float16 weights fit into one file that comes back."""
    if session.file("candidate").results or not first_pass(session):
        print("  there is one already" if session.file("candidate").results else "  not every row is trained yet")
        return
    minutes = (session.left_s() - REST_S) / 60
    if not session.tiny and minutes < LEAST_MINUTES:
        print("  no time is left for it")
        return
    row = best_row(session)
    recipe = comparison_on(session, fold=4).recipe(row, 0)
    if not session.tiny:
        recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update={"minutes": minutes})})
    trained = train(recipe, session.work / "candidate", overwrite=True)
    file = session.out / "candidate.safetensors"
    save_model(file, load_model(trained.best), half=True)
    scores = trained.scores.model_dump() | {"row": row, "minutes": recipe.training.minutes}
    session.add("candidate", row, scores | {"bytes": file.stat().st_size})


def best_row(session: Session) -> str:
    """Return the row with the highest mean F1 on fold 4 among those whose weights fit."""
    found: dict[str, list[float]] = {}
    for result in session.file("table").results.values():
        values = result["values"]
        if values["fold"] == 4 and 2 * values["cell"]["effort"]["parameters"] < MODEL_BYTES:
            found.setdefault(values["row"], []).append(values["f1"] or 0.0)
    return max(found, key=lambda row: sum(found[row]) / len(found[row]))
