"""The article's code, mended so that it runs, is the network named `article`."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resfit.nn import plan as layout
from resfit.nn.architectures import architecture
from resfit.nn.resnet import ResNet


class ResidualBlock(nn.Module):
    """As printed, but that the stride reaches it and a 1x1 projection meets the sum where shapes change."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, stride=1, padding=1)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(x)
        out = self.bn1(out)
        out = torch.relu(out)
        out = self.conv2(out)
        out = self.bn2(out)
        if self.downsample is not None:
            x = self.downsample(x)
        return x + out


class ArticleResNet(nn.Module):
    """As printed, but that `F` is imported, the stride is passed on and the pooling adapts to the image."""

    def __init__(self, num_classes: int = 10):
        super().__init__()
        self.in_channels = 64
        self.conv1 = nn.Conv2d(3, 64, kernel_size=7, stride=2, padding=3)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = self._make_layer(64, 2, stride=1)
        self.layer2 = self._make_layer(128, 2, stride=2)
        self.layer3 = self._make_layer(256, 2, stride=2)
        self.layer4 = self._make_layer(512, 2, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(512, num_classes)

    def _make_layer(self, channels: int, num_blocks: int, stride: int) -> nn.Sequential:
        strides = [stride] + [1] * (num_blocks - 1)
        layers = []
        for stride in strides:
            layers.append(ResidualBlock(self.in_channels, channels, stride))
            self.in_channels = channels
        return nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(x)
        out = self.bn1(out)
        out = torch.relu(out)
        out = F.max_pool2d(out, kernel_size=3, stride=2, padding=1)
        out = self.layer1(out)
        out = self.layer2(out)
        out = self.layer3(out)
        out = self.layer4(out)
        out = self.avgpool(out)
        out = out.view(out.size(0), -1)
        return self.fc(out)


@pytest.fixture
def mended() -> ArticleResNet:
    torch.manual_seed(3)
    network = ArticleResNet()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value in (module.weight, module.running_var):
                nn.init.uniform_(value, 0.5, 1.5)
            for value in (module.bias, module.running_mean):
                nn.init.normal_(value)
    return network


@pytest.mark.parametrize("size", [(64, 64), (45, 71)], ids=str)
def test_the_mended_code_and_the_named_network_agree(mended: ArticleResNet, size: tuple[int, int]) -> None:
    network = ResNet(architecture("article"))
    assert list(network.state_dict()) == list(mended.state_dict())
    network.load_state_dict(mended.state_dict())
    images = torch.randn(3, 3, *size)
    for mode in (False, True):  # training mode too: batch statistics and their update
        torch.testing.assert_close(network.train(mode)(images), mended.train(mode)(images), rtol=1e-4, atol=1e-4)
    for name, value in mended.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], value)


def test_the_five_steps_are_the_articles() -> None:
    def steps(name: str) -> list[tuple]:
        block = dict(layout.walk(layout.plan(architecture(name))))["layer1.0"]
        assert isinstance(block, layout.Residual)
        assert block.shortcut is None
        assert not block.plain
        kernels = [(type(part).__name__, getattr(part, "kernel", None)) for part in block.branch]
        return [
            *kernels,
            *((part.name, part.kind) for part in block.post if isinstance(part, layout.Activation)),
        ]

    printed = [("Convolution", 1), ("Convolution", 3), ("Norm", None), ("Convolution", 1)]
    assert steps("article_steps") == printed
    assert steps("article_steps_relu") == [*printed, ("act", "relu")]


def test_as_printed_the_five_step_stages_are_affine() -> None:
    """Between the stem and the pool no activation stands: in evaluation mode the map is affine."""
    network = ResNet(architecture("article_steps")).double().eval()
    stages = nn.Sequential(*(network.get_submodule(f"layer{number}") for number in (1, 2, 3, 4)))
    first, second, zero = torch.randn(2, 64, 9, 8).double(), torch.randn(2, 64, 9, 8).double(), torch.zeros(1)
    with torch.inference_mode():
        zero = stages(torch.zeros(2, 64, 9, 8).double())
        together = stages(0.3 * first + 2.0 * second)
        torch.testing.assert_close(together - zero, 0.3 * (stages(first) - zero) + 2.0 * (stages(second) - zero))
    curved = ResNet(architecture("article_steps_relu")).double().eval()
    stages = nn.Sequential(*(curved.get_submodule(f"layer{number}") for number in (1, 2, 3, 4)))
    with torch.inference_mode():
        bent = stages(first) + stages(-first) - 2 * stages(torch.zeros_like(first))
        assert bent.abs().max() > 1e-3 * stages(first).abs().max()
