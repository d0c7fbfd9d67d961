"""FastAPI with pydantic models and an async endpoint, on uvicorn with uvloop and httptools."""

import os

import uvicorn
from answers import Answers
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
answers = Answers()


class Question(BaseModel):
    customer_id: str | None = None
    article_ids: list[str] | None = None
    top_k: int = 12


class Answer(BaseModel):
    customer_id: str | None
    recommendations: list[str]
    scores: list[float]
    count: int
    source: str
    model_version: str


@app.post("/predict")
async def predict(question: Question) -> Answer:
    return Answer(**answers([question.model_dump()])[0])


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), access_log=False, log_level="warning")
