"""`crossfade predict`: rows of a file or of stdin, answered on a server or in this process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from crossfade.cli.output import Sheet
from crossfade.cli.rows import read_rows, rows_argument
from crossfade.cli.session import Session, command

if TYPE_CHECKING:
    from crossfade.client import Client
    from crossfade.client.asking import Prediction, Who
    from crossfade.core.tensors import Array, Signature
    from crossfade.serving.predictor import Predictor


@command(name="predict")
@click.argument("ref")
@rows_argument
@click.option("--probabilities", is_flag=True, help="Answer the probability of each class, too.")
@click.option("--batch-size", default=1000, show_default=True, help="Rows per request.")
@click.option("--unit-id", default="", metavar="UNIT", help="In whose name: experiments decide who answers.")
@click.option("--context", default="", metavar="JSON", help="What else is known about the request: an object.")
@click.option("--experiment", default="", metavar="NAME", help="Only this experiment may decide.")
def predict(
    session: Session,
    ref: str,
    rows: Path,
    *,
    probabilities: bool,
    batch_size: int,
    unit_id: str,
    context: str,
    experiment: str,
) -> None:
    """Predict ROWS, a JSON, CSV or Parquet file, or stdin (JSON or CSV) when it is `-` or left out.

    REF is `name`, `name:1.2.0` or `name@alias`.

    With `--unit-id`, `--context` or `--experiment` a server is asked in somebody's name: all rows are one request, an
    experiment on the model decides who answers it, and who did is said, and why.
    """
    from crossfade.cli.documents import read_context
    from crossfade.client import Client
    from crossfade.platform import load

    if unit_id or context or experiment:
        if not session.server:
            raise click.UsageError("experiments run on a server; add `--server URL`")
        who: Who = {"unit_id": unit_id or None, "experiment": experiment}
        if context:
            who["context"] = read_context(context, "crossfade predict --help")
        with Client(session.server) as client:
            _ask(session, client, ref, rows, who, probabilities=probabilities)
    elif session.server:
        with Client(session.server) as client:
            _answer(session, client.load(ref), rows, probabilities=probabilities, batch_size=batch_size)
    else:
        _answer(session, load(ref), rows, probabilities=probabilities, batch_size=batch_size)


def _ask(session: Session, client: Client, ref: str, rows: Path, who: Who, *, probabilities: bool) -> None:
    from crossfade.core.tensors import Signature
    from crossfade.serving.predictor import LABELS, PROBABILITIES
    from crossfade.serving.protocol.rows import RowsRequest, encode_rows

    data = read_rows(rows, f"crossfade models show {ref}", _texts(client.version(ref).manifest.signature))
    answer = client.ask(ref, data, probabilities=probabilities, **who)
    decided = answer.experiment
    outputs = {LABELS: answer.predictions}
    if answer.probabilities is not None:
        outputs[PROBABILITIES] = answer.probabilities
    identity: dict[str, Any] = {"model": answer.model, "version": answer.version}
    if answer.fallback:
        identity["fallback"] = True
    if decided.name:
        said = msgspec.to_builtins(decided)
        identity["experiment"] = {name: text for name, text in said.items() if text or name != "decision_id"}
    identity["request_id"] = answer.request_id
    request, signature = RowsRequest({}, LABELS, probabilities), Signature((), (), classes=answer.classes)
    session.output.show(
        lambda: encode_rows(identity, outputs, request, signature),
        lambda: _sheet(answer.predictions, answer.probabilities, list(map(str, answer.classes))),
    )
    session.output.note(_who_answered(answer))
    if decided.decision_id:
        session.hint("say what becomes of it with `crossfade outcomes record OUTCOMES_FILE`")
    else:
        session.hint(f"see what answered with `crossfade models show {answer.ref}`")


def _who_answered(answer: Prediction) -> str:
    decided = answer.experiment
    if not decided.name:
        return f"{answer.ref} answered; no experiment is about it"
    variant = f" with `{decided.variant}`" if decided.variant else ""
    decision = f"; decision {decided.decision_id}" if decided.decision_id else ""
    return f"{answer.ref} answered, by `{decided.name}`{variant} ({decided.reason}): {decided.why}{decision}"


def _texts(signature: Signature) -> frozenset[str]:
    """Return the columns of a file that stay text, even where they look like numbers."""
    return frozenset(spec.name for spec in signature.inputs if spec.datatype == "BYTES")


def _answer(session: Session, predictor: Predictor, rows: Path, *, probabilities: bool, batch_size: int) -> None:
    from crossfade.core.identity import new_id
    from crossfade.serving.predictor import PROBABILITIES, wanted_output
    from crossfade.serving.protocol.rows import RowsRequest, encode_rows

    info = predictor.info
    label = wanted_output(info.signature, probabilities=False)
    wanted = (label, PROBABILITIES) if probabilities else (label,)
    data = read_rows(rows, f"crossfade models show {info.version.ref}", _texts(info.signature))
    progress = None if session.output.style in {"auto", "human"} else False
    outputs = predictor.predict_outputs(data, wanted, batch_size=batch_size, progress=progress)
    identity: dict[str, str | bool] = {
        "model": info.version.model,
        "version": info.version.version,
        "request_id": new_id(),
    }
    request = RowsRequest({}, label, probabilities)
    session.output.show(
        lambda: encode_rows(identity, outputs, request, info.signature),
        lambda: _sheet(outputs[label], outputs.get(PROBABILITIES), list(map(str, info.signature.classes))),
    )
    session.hint(f"see what answered with `crossfade models show {info.ref}`")


def _sheet(labels: Array, probabilities: Array | None, classes: list[str]) -> Sheet:
    predictions = [_text(value) for value in labels.tolist()]
    if probabilities is None:
        return Sheet(("prediction",), [(prediction,) for prediction in predictions])
    headings = ("prediction", *(f"p({name})" for name in classes))
    rows = [
        (prediction, *(f"{share:.6g}" for share in shares))
        for prediction, shares in zip(predictions, probabilities.tolist(), strict=True)
    ]
    return Sheet(headings, rows)


def _text(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
