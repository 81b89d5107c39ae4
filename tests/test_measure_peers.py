"""Other libraries, each really run."""

import pytest
from small_models import small_model, small_spec

from resfit.engines.artifact import build
from resfit.errors import EngineError
from resfit.measure.comparison import Peer
from resfit.measure.peers import PEERS


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return build(small_model(small_spec()), tmp_path_factory.mktemp("peers") / "small.onnx").path


@pytest.mark.parametrize("name", PEERS)
def test_every_peer_runs(artifact, name):
    own_file = name in ("onnxruntime", "openvino")
    peer = Peer(
        engine=name, network="resnet18", num_classes=7, artifact=artifact,
        image_shape=(16, 16, 3) if own_file else (32, 32, 3), batch_size=2,
    )  # fmt: skip
    report = peer.measure(1)
    assert (report.engine, report.threads) == (name, 1)
    assert len(report.latencies_ms) >= 50
    assert report.memory_bytes > 0
    assert report.load_ms > 0
    assert report.precision in ("fp32", "bf16")
    # 11.18 million parameters and statistics of resnet18 without its classifier of 1,000
    assert report.file_bytes == artifact.stat().st_size if own_file else 44_500_000 < report.file_bytes < 45_500_000


def test_a_network_that_a_peer_lacks_is_an_error_that_names_both(artifact):
    peer = Peer(engine="timm", network="resnet8", num_classes=7, artifact=artifact, image_shape=(32, 32, 3))
    with pytest.raises(EngineError, match="timm cannot run resnet8"):
        peer.measure(1)
