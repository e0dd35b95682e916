"""Fitting the levels of two sign planes again: in plain torch as by numba on a CPU."""

import pytest
import torch

from hubq.tensors.kernels.sign_plane_refit import refit_levels
from hubq.tensors.kernels.sign_planes import sign_errors

COLUMNS, OUT = 12, 70


@pytest.mark.parametrize("means", [False, True])
def test_levels_are_fitted_again_as_on_a_cpu(means: bool, device: torch.device) -> None:
    random = torch.Generator().manual_seed(0)
    weight, inputs = (torch.randn(COLUMNS, each, generator=random) for each in (OUT, 40))
    codes = torch.randint(4, (COLUMNS, OUT), dtype=torch.uint8, generator=random)
    apart = torch.arange(COLUMNS) % 3 == 0
    own, levels = inputs @ inputs.T, torch.rand(3, 2, OUT, generator=random)
    errors = sign_errors(weight, codes, levels, apart.long())
    given = (codes, apart, levels, own @ errors, own)

    fitted, renamed = refit_levels(*given, means=means)
    there = refit_levels(*(each.to(device) for each in given), means=means)

    assert (renamed != codes).any()
    assert all(each.device.type == device.type for each in there)
    assert torch.equal(there[1].cpu(), renamed)
    torch.testing.assert_close(there[0].cpu(), fitted, rtol=1e-4, atol=1e-5)


def test_nan_in_a_gradient_is_nan_in_its_rows_levels(device: torch.device) -> None:
    codes = torch.randint(4, (COLUMNS, OUT), dtype=torch.uint8)
    apart = torch.arange(COLUMNS) % 3 == 0
    gradient = torch.ones(COLUMNS, OUT)
    gradient[3, 7] = torch.nan
    given = (codes, apart, torch.ones(3, 2, OUT), gradient, torch.eye(COLUMNS))

    here, _ = refit_levels(*given, means=True)
    there, _ = refit_levels(*(each.to(device) for each in given), means=True)

    for fitted in (here, there.cpu()):
        assert fitted[..., 7].isnan().all()
        assert fitted.isnan().sum() == 6
