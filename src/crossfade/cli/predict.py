"""`crossfade predict`: rows of a file or of stdin, answered by one version, on a server or in this process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from crossfade.cli.output import Sheet
from crossfade.cli.rows import read_rows, rows_argument
from crossfade.cli.session import Session, command

if TYPE_CHECKING:
    from crossfade.core.tensors import Array
    from crossfade.serving.predictor import Predictor


@command(name="predict")
@click.argument("ref")
@rows_argument
@click.option("--probabilities", is_flag=True, help="Answer the probability of each class, too.")
@click.option("--batch-size", default=1000, show_default=True, help="Rows per request.")
def predict(session: Session, ref: str, rows: Path, probabilities: bool, batch_size: int) -> None:
    """Predict ROWS, a JSON, CSV or Parquet file, or stdin (JSON or CSV) when it is `-` or left out.

    REF is `name`, `name:1.2.0` or `name@alias`.
    """
    from crossfade.client import Client
    from crossfade.platform import load

    if session.server:
        with Client(session.server) as client:
            _answer(session, client.load(ref), rows, probabilities=probabilities, batch_size=batch_size)
    else:
        _answer(session, load(ref), rows, probabilities=probabilities, batch_size=batch_size)


def _answer(session: Session, predictor: Predictor, rows: Path, *, probabilities: bool, batch_size: int) -> None:
    from crossfade.core.identity import new_id
    from crossfade.serving.predictor import PROBABILITIES, wanted_output
    from crossfade.serving.protocol.rows import RowsRequest, encode_rows

    info = predictor.info
    label = wanted_output(info.signature, probabilities=False)
    wanted = (label, PROBABILITIES) if probabilities else (label,)
    texts = frozenset(spec.name for spec in info.signature.inputs if spec.datatype == "BYTES")
    data = read_rows(rows, texts)
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
