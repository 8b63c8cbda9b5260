"""MLflow's private parts: that they do what they are used for."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.models.evaluation.artifacts import JsonEvaluationArtifact
from mlflow.types import ColSpec, DataType, Schema
from mlflow.utils.rest_utils import verify_rest_response

from vjepa_mlflow.internals import mlflow_private
from vjepa_mlflow.internals.mlflow_private_evaluators import load_artifact
from vjepa_mlflow.internals.mlflow_private_server import EXPECTED_FORM, FORMS, FRAMES, check_input, read_frame


def test_the_environments_files_are_those_of_mlflows_documentation() -> None:
    assert mlflow_private.environment_files() == (
        "conda.yaml",
        "python_env.yaml",
        "requirements.txt",
        "constraints.txt",
    )


def test_an_environment_of_requirements_has_them_and_nothing_else() -> None:
    environment = mlflow_private.environment_of(["torch==2.6.0"])
    assert environment.requirements == ["torch==2.6.0"]
    assert environment.conda["dependencies"][-1] == {"pip": ["torch==2.6.0"]}
    assert not environment.constraints


def test_an_environment_of_conda_has_the_requirements_in_it() -> None:
    given = {"name": "own", "dependencies": ["python=3.11", {"pip": ["mlflow", "pandas==2.2.0"]}]}
    environment = mlflow_private.read_conda_environment(given)
    assert "pandas==2.2.0" in environment.requirements
    assert environment.conda["name"] == "own"


def test_more_than_one_environment_is_refused() -> None:
    with pytest.raises(ValueError, match="conda_env"):
        mlflow_private.check_environment({}, ["pandas"], None)


def test_this_python_is_written(tmp_path: Path) -> None:
    mlflow_private.write_python_environment(tmp_path / "python_env.yaml")
    assert yaml.safe_load((tmp_path / "python_env.yaml").read_text())["python"].startswith("3.")


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    mlflow_private.prepare_folder(tmp_path / "new")
    assert (tmp_path / "new").is_dir()
    (tmp_path / "new/file").write_text("")
    with pytest.raises(MlflowException, match="already exists"):
        mlflow_private.prepare_folder(tmp_path / "new")


def test_a_folder_has_the_size_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "one").write_bytes(b"abc")
    (tmp_path / "sub/two").write_bytes(b"de")
    assert mlflow_private.size_of(tmp_path) == 5


def test_artifacts_of_this_machine_have_a_folder() -> None:
    assert mlflow_private.local_folder("file:///a%20b/c") == Path("/a b/c")
    assert mlflow_private.local_folder("s3://bucket/c") is None


def test_a_folder_is_found_here(tmp_path: Path) -> None:
    store, path = mlflow_private.find_artifacts(str(tmp_path / "model"))
    assert path == "model"
    assert mlflow_private.are_here(store)
    remote, _ = mlflow_private.find_artifacts("https://server/model")
    assert not mlflow_private.are_here(remote)


def test_an_artifact_holds_what_its_file_holds(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text('{"a": 1}')
    artifact = JsonEvaluationArtifact(uri="runs:/nowhere/one.json")
    load_artifact(artifact, tmp_path / "one.json")
    assert artifact.content == {"a": 1}


def test_json_becomes_a_data_frame_in_each_of_mlflows_forms() -> None:
    assert set(FRAMES) < set(FORMS)
    values = {"split": {"columns": ["a"], "data": [[1]]}, "records": [{"a": 1}]}
    for orient in FRAMES.values():
        assert read_frame(values[orient], orient=orient).to_dict("list") == {"a": [1]}
    assert "dataframe_split" in EXPECTED_FORM


def test_input_is_checked_against_the_signature() -> None:
    from mlflow.models import ModelSignature

    signature = ModelSignature(inputs=Schema([ColSpec(DataType.long, "a")]))
    frame = read_frame([{"a": 1}], orient="records")
    assert check_input(frame, None, signature)[0]["a"].tolist() == [1]
    with pytest.raises(MlflowException, match="missing inputs"):
        check_input(frame.rename(columns={"a": "b"}), None, signature)


def test_an_example_is_saved_beside_the_model(tmp_path: Path) -> None:
    model = Model()
    mlflow_private.save_example(model, read_frame([{"a": 1}], orient="records"), tmp_path)
    assert model.saved_input_example_info["type"] == "dataframe"
    assert (tmp_path / model.saved_input_example_info["artifact_path"]).is_file()


def test_the_status_of_an_answer_is_in_what_is_said_of_it() -> None:
    answer = SimpleNamespace(status_code=418, text="a teapot", headers={}, json=dict)
    with pytest.raises(MlflowException) as raised:
        verify_rest_response(answer, "/health")  # type: ignore[arg-type]
    assert mlflow_private.status_in(str(raised.value)) == 418
    assert mlflow_private.status_in("418 videos") is None
