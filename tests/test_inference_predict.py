"""What a session answers about image files and data sets."""

import json
import tracemalloc
from collections import deque

import numpy as np
import pytest
from fake_session import RGB_8, FakeSession, brightness
from PIL import Image

from resfit.data.dataset import ArrayDataset
from resfit.data.preprocessing import decode
from resfit.errors import DataError, EngineError
from resfit.inference.inputs import file_picture
from resfit.inference.predict import evaluate_session, evaluation, predict_rows
from resfit.metrics.classification import softmax, summary


@pytest.fixture
def pictures(tmp_path):
    """Eleven grey pictures, darker to brighter, each of one level."""
    paths = []
    for index, level in enumerate(range(0, 253, 24)):
        paths.append(tmp_path / f"{index:02}.png")
        Image.new("RGB", (12, 9), (level,) * 3).save(paths[-1])
    return paths


def test_a_row_for_each_picture_in_the_order_given(pictures):
    shuffled = [pictures[index] for index in (7, 0, 10, 3, 3, 1)]
    rows = list(predict_rows(FakeSession(brightness), map(file_picture, shuffled), batch_size=4))
    assert [row["path"] for row in rows] == [str(path) for path in shuffled]
    expected = softmax(brightness(np.stack([decode(path, RGB_8) for path in shuffled])))
    assert [row["label"] for row in rows] == [("dark", "bright")[index] for index in expected.argmax(1)]
    assert [row["probability"] for row in rows] == pytest.approx(expected.max(1))


def test_batches_hold_no_more_than_asked_for(pictures):
    session = FakeSession(brightness)
    list(predict_rows(session, map(file_picture, pictures), batch_size=4))
    assert [len(run) for run in session.runs] == [4, 4, 3]


def test_a_bad_file_is_a_row_with_its_error_and_holds_up_nothing(pictures, tmp_path):
    cut = tmp_path / "cut.png"
    cut.write_bytes(pictures[0].read_bytes()[:40])
    empty = tmp_path / "empty.jpg"
    empty.touch()
    given = [pictures[0], cut, pictures[10], empty, tmp_path / "absent.jpg"]
    rows = list(predict_rows(FakeSession(brightness), map(file_picture, given), batch_size=3))
    assert [row.get("label") for row in rows] == ["dark", None, "bright", None, None]
    assert [row["path"] for row in rows] == [str(path) for path in given]
    assert rows[3]["error"] == "cannot be decoded (the file is empty)"
    assert rows[4]["error"] == "no such file"
    assert all(("error" in row) != ("label" in row) for row in rows)


def test_a_batch_of_bad_files_runs_nothing(tmp_path):
    session = FakeSession(brightness)
    rows = list(predict_rows(session, map(file_picture, [tmp_path / "a", tmp_path / "b"]), batch_size=2))
    assert [row["error"] for row in rows] == ["no such file"] * 2
    assert session.runs == []


def test_top_k_is_best_first_and_never_more_than_there_are_labels(pictures):
    (row,) = predict_rows(FakeSession(brightness), [file_picture(pictures[0])], top_k=5)
    assert [answer["label"] for answer in row["top"]] == ["dark", "bright"]
    assert row["top"][0]["probability"] == row["probability"] > row["top"][1]["probability"]
    assert sum(answer["probability"] for answer in row["top"]) == pytest.approx(1)


def test_answers_that_are_not_numbers_are_an_error(pictures):
    session = FakeSession(lambda images: np.full((len(images), 2), np.nan, np.float32))
    with pytest.raises(EngineError, match="not finite"):
        list(predict_rows(session, map(file_picture, pictures)))


def dataset(count, shape=(8, 8, 3)):
    generator = np.random.default_rng(5)
    return ArrayDataset(
        images=generator.integers(0, 256, (count, *shape), dtype=np.uint8),
        targets=generator.integers(0, 2, count),
        labels=("dark", "bright"),
    )


def test_a_data_set_gives_logits_and_targets_in_its_order():
    data = dataset(11)
    session = FakeSession(brightness)
    logits, targets = evaluate_session(session, data, batch_size=4)
    assert np.array_equal(logits, brightness(data.images))
    assert np.array_equal(targets, data.targets)
    assert [len(run) for run in session.runs] == [4, 4, 3]


def test_images_of_another_size_are_a_data_error_with_both_sizes():
    with pytest.raises(DataError, match="9 x 8 with 1 channel, but the model takes 8 x 8 with 3 channels"):
        evaluate_session(FakeSession(brightness), dataset(2, (9, 8, 1)))


def test_no_images_are_a_data_error():
    with pytest.raises(DataError, match="no images to evaluate"):
        evaluate_session(FakeSession(brightness), dataset(0))


def named(count):
    """Grey squares from black to white, the brighter half of them bright but for the second and the last."""
    levels = np.linspace(0, 255, count).astype(np.uint8)
    targets = (np.arange(count) >= count // 2).astype(np.int64)
    targets[[1, -1]] = 1, 0
    return ArrayDataset(
        images=np.broadcast_to(levels[:, None, None, None], (count, 8, 8, 3)).copy(),
        targets=targets,
        labels=("dark", "bright"),
        names=tuple(f"{level:03}.png" for level in levels),
    )


def test_an_evaluation_is_the_summary_with_named_mistakes_and_hits():
    data, session = named(12), FakeSession(brightness)
    found = evaluation(session, data, batch_size=12)
    expected = summary(brightness(data.images), data.targets, data.labels)
    assert expected["confusion"] == [[5, 1], [1, 5]]
    assert {name: found[name] for name in expected} == expected
    assert set(found) - set(expected) == {"mistakes", "hits"}
    probabilities = softmax(brightness(data.images))
    assert found["mistakes"] == [
        {"index": 11, "path": "255.png", "label": "dark", "predicted": "bright", "probability": probabilities[11, 1]},
        {"index": 1, "path": "023.png", "label": "bright", "predicted": "dark", "probability": probabilities[1, 0]},
    ]
    assert [(row["path"], row["label"]) for row in found["hits"]] == [("000.png", "dark"), ("231.png", "bright")]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    in_parts = evaluation(session, data, batch_size=5)
    assert [len(run) for run in session.runs] == [12, 5, 5, 2]
    assert [row["index"] for row in in_parts["mistakes"]] == [11, 1]


def test_an_evaluation_keeps_twenty_mistakes():
    data = dataset(100)
    assert len(evaluation(FakeSession(brightness), data)["mistakes"]) == 20


def test_a_session_without_names_answers_by_the_datas():
    session = FakeSession(brightness, labels=("0", "1"))
    found = evaluation(session, named(12))
    assert found["labels"] == ["dark", "bright"]
    assert found["mistakes"][0]["label"] == "dark"


def test_the_first_answer_that_is_no_number_is_named():
    def broken(images):
        logits = brightness(images)
        logits[(images > 200).any((1, 2, 3)), 1] = np.inf
        return logits

    with pytest.raises(EngineError, match=r"answers 208\.png with numbers that are not finite"):
        evaluation(FakeSession(broken), named(12), batch_size=4)


def test_an_evaluation_holds_a_batch_of_images_and_no_logits():
    """Logits of 400 classes for every image would be 1600 bytes an image."""
    held = []

    class Counted:
        shape, dtype = (20_000, 8, 8, 3), np.dtype(np.uint8)

        def __len__(self):
            return self.shape[0]

        def __getitem__(self, rows):
            held.append(rows.stop - rows.start)
            return np.zeros((held[-1], 8, 8, 3), np.uint8)

    labels = tuple(str(label) for label in range(400))
    data = ArrayDataset(images=Counted(), targets=np.arange(20_000) % 400, labels=labels, fingerprint="counted")
    session = FakeSession(lambda images: np.eye(400, dtype=np.float32)[: len(images)], labels=labels)
    session.runs = deque(maxlen=1)  # which would hold every image otherwise
    tracemalloc.start()
    found = evaluation(session, data, batch_size=250)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found["num_images"] == 20_000
    assert set(held) == {250}
    assert peak < 20_000 * 400 * 4 * 0.75
