"""Upstream's networks compiled, in bfloat16 and with channels last: no graph break, no error, the same results."""

import pytest
import torch

from wavemix import SemSegment, WaveMixSR, WaveMixSRV2, cityscapes, classification, sisr, v3

BODY = dict(depth=1, final_dim=8, ff_channel=8)
NETWORKS = {
    "classifier": (lambda: classification.WaveMix(**BODY, level=2), 32),
    "classifier with strides": (lambda: classification.WaveMix(**BODY, initial_conv="strided", level=1), 16),
    "segmentation": (lambda: SemSegment.WaveMix(**BODY, level=2), 32),
    "Cityscapes": (lambda: cityscapes.WaveMix(**BODY, level=2), 32),
    "super-resolution": (lambda: sisr.WaveMix(**BODY), 16),
    "V3": (lambda: v3.WaveMix(**BODY), 16),
    "WaveMixSR": (lambda: WaveMixSR(**BODY), 10),
    "WaveMixSR-V2": (lambda: WaveMixSRV2(blocks=1, final_dim=8), 10),
}


@pytest.fixture(params=NETWORKS)
def network_and_images(request):
    torch.manual_seed(0)
    build, size = NETWORKS[request.param]
    return build().eval(), torch.randn(2, 3, size, 2 * size)


def test_one_graph_when_compiled(network_and_images):
    network, images = network_and_images
    torch.compiler.reset()
    for layer in network.train().modules():
        if isinstance(layer, torch.nn.Dropout):
            layer.p = 0.0
    output = torch.compile(network, fullgraph=True, backend="eager")(images)  # raises at a graph break
    torch.testing.assert_close(output, network(images))
    output.square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_bfloat16_by_autocast_is_close(network_and_images, layout):
    network, images = network_and_images
    with torch.no_grad():
        expected = network(images)
        network, images = network.to(memory_format=layout), images.to(memory_format=layout)
        torch.testing.assert_close(network(images), expected)
        with torch.autocast("cpu", torch.bfloat16):
            output = network(images)
    assert (output - expected).norm() < 0.01 * expected.norm()  # bfloat16 has 8 bits: 0.4 % of each number
    with torch.autocast("cpu", torch.bfloat16):
        network.train()(images).float().square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


def test_whole_networks_in_bfloat16(network_and_images):
    network, images = network_and_images
    with torch.no_grad():
        expected = network(images)
        output = network.bfloat16()(images.bfloat16())
    assert output.dtype == torch.bfloat16 and (output - expected).norm() < 0.02 * expected.norm()
