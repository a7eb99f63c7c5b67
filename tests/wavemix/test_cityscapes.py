import torch
from torch import nn

from wavemix import cityscapes, classification


def test_weights_of_the_classifier_with_a_dense_head_in_its_place():
    """As upstream makes its network for Cityscapes: a classifier whose `pool` is replaced."""
    hyperparameters = dict(depth=1, final_dim=8, ff_channel=8, level=2)
    theirs = classification.WaveMix(num_classes=1000, **hyperparameters)
    theirs.pool = nn.Sequential(
        nn.ConvTranspose2d(8, 6, 4, stride=2, padding=1),
        nn.ConvTranspose2d(6, 5, 4, stride=2, padding=1),
        nn.Conv2d(5, 20, 1),
    )
    ours = cityscapes.WaveMix(**hyperparameters, widths=(6, 5))
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        scores = ours.eval()(images)
        assert torch.equal(scores, theirs.eval()(images)) and scores.shape == (1, 20, 32, 64)
