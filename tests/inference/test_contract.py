"""The OpenAPI document against the server that it describes, by generated requests."""

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from tests.inference.conftest import Server

N_EXAMPLES = 12  # of each operation and mode
# A schema cannot say that customer_id and user_id exclude each other, and a fault in one of `customers` is told in its
# place while the others are answered.
NOT_IN_A_SCHEMA = [positive_data_acceptance, negative_data_rejection]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_every_answer_is_as_documented(server: Server, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    n_operations = 0
    for result in schema.get_all_operations():
        operation = result.ok()
        has_input = operation.body or operation.query or operation.path_parameters
        if mode is GenerationMode.NEGATIVE and not has_input:
            continue
        n_operations += 1

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=N_EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def validate(case: schemathesis.Case) -> None:
            case.call_and_validate(excluded_checks=NOT_IN_A_SCHEMA)

        validate()
    assert n_operations >= 1
