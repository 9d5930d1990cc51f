import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from everymask.decoding.resizing import Grid, logit, make_grid
from everymask.geometry import Geometry, Size

from . import reference

CPU = torch.device("cpu")
sizes = st.builds(Size, st.integers(1, 40), st.integers(1, 40))


def random_logits(size: Size) -> torch.Tensor:
    return torch.randn(3, *size, generator=torch.Generator().manual_seed(size.height * 100 + size.width))


@settings(derandomize=True, deadline=None, max_examples=100)
@given(sizes, sizes)
def test_without_padding_it_is_bilinear_interpolate(logits: Size, original: Size) -> None:
    values = random_logits(logits)
    resized = make_grid(Geometry(original, Size(77, 55), Size(77, 55)), logits, CPU).resize(values[0])
    expected = torch.nn.functional.interpolate(values[None, :1], original, mode="bilinear", align_corners=False)
    torch.testing.assert_close(resized, expected[0, 0], rtol=1e-4, atol=1e-4)


def test_padding_of_whole_logits_is_cropped_exactly() -> None:
    values = random_logits(Size(10, 12))
    resized = make_grid(Geometry(Size(63, 41), Size(28, 36), Size(40, 48)), Size(10, 12), CPU).resize(values[0])
    cropped = values[None, :1, :7, :9]
    expected = torch.nn.functional.interpolate(cropped, (63, 41), mode="bilinear", align_corners=False)
    torch.testing.assert_close(resized, expected[0, 0], rtol=1e-5, atol=1e-5)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(sizes, sizes, st.data())
def test_rectangles_and_lists_of_cells_give_the_same_pixels(logits: Size, original: Size, data: st.DataObject) -> None:
    padded = Size(4 * logits.height, 4 * logits.width)
    resized = Size(data.draw(st.integers(1, padded.height)), data.draw(st.integers(1, padded.width)))
    geometry = Geometry(original, resized, padded)
    values = random_logits(logits)
    grid = make_grid(geometry, logits, CPU)
    expected = reference.resize(values[:1], geometry)[0].float()
    torch.testing.assert_close(grid.resize(values[0]), expected, rtol=1e-5, atol=1e-5)

    rows, columns = len(grid.rows), len(grid.columns)
    slots = torch.zeros(rows, grid.rows.slots, columns, grid.columns.slots)
    (cells,) = grid.pieces(torch.ones(rows, columns, dtype=torch.bool), 1)
    pixels = grid.resize_cells(values, torch.zeros(1, 1, dtype=torch.int64), cells)[0]  # (S, P, G)
    slots[cells.rows, cells.slots, cells.columns] = pixels.permute(2, 0, 1)
    torch.testing.assert_close(torch.from_numpy(grid.to_image(slots)), expected, rtol=1e-5, atol=1e-5)
    assert int(grid.pixels.sum()) == original.height * original.width

    smallest, largest = grid.bounds(values[:1])  # (1, R, C)
    inside = ~pixels.isnan()
    low = smallest[0, cells.rows, cells.columns].expand_as(pixels)[inside] - 1e-5
    high = largest[0, cells.rows, cells.columns].expand_as(pixels)[inside] + 1e-5
    assert ((low <= pixels[inside]) & (pixels[inside] <= high)).all()


def test_bands_cover_the_image_once() -> None:
    grid = make_grid(Geometry(Size(3000, 4000), Size(800, 1067), Size(800, 1088)), Size(200, 272), CPU)
    bands: list[Grid] = list(grid.bands(300))
    assert len(bands) > 1
    assert [band.rows.pixels.start for band in bands[1:]] == [band.rows.pixels.stop for band in bands[:-1]]
    assert (bands[0].rows.pixels.start, bands[-1].rows.pixels.stop) == (0, 3000)


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_logit_is_the_inverse_of_the_sigmoid(probability: float) -> None:
    assert torch.tensor(logit(probability)).sigmoid().item() == pytest.approx(probability)
