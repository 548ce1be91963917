"""The other baseline: a route of FastAPI with pydantic models that predicts and does nothing else. Usage: PORT."""

from __future__ import annotations

import sys

import numpy as np
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.model import trained

app = FastAPI()
model = trained()[0]


class Tensor(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class Question(BaseModel):
    inputs: list[Tensor]


class Answer(BaseModel):
    outputs: list[Tensor]


@app.get("/ready")
async def ready() -> None:
    """Answer, because the model is trained."""


@app.post("/predict")
async def predict(question: Question) -> Answer:
    tensor = question.inputs[0]
    labels = model.predict(np.array(tensor.data).reshape(tensor.shape))
    return Answer(outputs=[Tensor(name="predict", shape=[len(labels)], datatype="INT64", data=labels.tolist())])


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), http="httptools", loop="uvloop", log_level="critical", access_log=False)
