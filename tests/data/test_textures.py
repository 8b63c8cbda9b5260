import pytest
import torch

from vjepa_mlflow.data.textures import TEXTURES, Random, paint


@pytest.mark.parametrize("name", TEXTURES)
def test_pictures_are_what_their_texture_says(name: str) -> None:
    pictures = paint([name], 32, Random(8, torch.Generator().manual_seed(0)), cycles=(2.0, 4.0))
    assert pictures.shape == (8, 3, 32, 32)
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    patterned = pictures.std(dim=(-2, -1)).amax(dim=-1) > 0.01
    assert patterned.tolist() == [name != "plain"] * 8
    assert len(pictures.flatten(1).unique(dim=0)) == 8


def test_each_picture_has_one_of_the_textures() -> None:
    mixed = paint(["plain", "checks"], 32, Random(64, torch.Generator().manual_seed(0)), cycles=(2.0, 4.0))
    colours = torch.tensor([len(picture.flatten(1).unique(dim=1).T) for picture in mixed])
    assert set(colours.tolist()) == {1, 2}


def test_ratios_are_spread_evenly() -> None:
    ratios = Random(20_000, torch.Generator().manual_seed(0)).ratio((0.01, 1.0))
    assert 0.01 <= ratios.min() < 0.011
    assert 0.95 < ratios.max() <= 1
    assert (ratios < 0.1).float().mean().item() == pytest.approx(0.5, abs=0.02)
