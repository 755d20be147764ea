"""One saved retrieval model and one recommender of each kind for all tests of this room."""

import pytest
import tensorflow as tf

from tests.serving import tiny


@pytest.fixture(scope="session")
def model_path(tmp_path_factory):
    return tiny.save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def model(model_path):
    return tf.saved_model.load(model_path)


@pytest.fixture(scope="session", params=["exact", "scann"])
def recommender(request, model):
    return tiny.recommender(model, request.param)
