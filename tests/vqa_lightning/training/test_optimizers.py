import pytest
import torch
from torch import nn

from vqa_lightning.training.optimizers import ExactMuon, MuonAdamW, orthogonal
from vqa_lightning.training.schedule import CosineWithWarmup


def network() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict(
        {"embedding": nn.Embedding(4, 8), "hidden": nn.Linear(8, 8), "head": nn.Linear(8, 1)}
    )


def train(net: nn.ModuleDict, optimizer: torch.optim.Optimizer, steps: int) -> float:
    words = torch.arange(4)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (net["head"](net["hidden"](net["embedding"](words)).tanh())[:, 0] - words).square().mean()
        loss.backward()
        optimizer.step()
    return loss.item()


class TestMuonAdamW:
    def test_only_hidden_matrices_go_to_muon(self) -> None:
        optimizer = MuonAdamW(network().named_parameters())
        muon, adamw = (group["param_names"] for group in optimizer.param_groups)
        assert muon == ["hidden.weight"]
        assert sorted(adamw) == ["embedding.weight", "head.bias", "head.weight", "hidden.bias"]

    def test_learns(self) -> None:
        net = network()
        optimizer = MuonAdamW(net.named_parameters(), lr=1e-2, matrix_lr=1e-2)
        assert train(net, optimizer, 200) < 0.1 * train(network(), MuonAdamW(network().named_parameters()), 1)

    def test_goes_on_from_its_state_as_if_it_had_not_stopped(self) -> None:
        straight, stopped = network(), network()
        train(straight, MuonAdamW(straight.named_parameters()), 6)
        first = MuonAdamW(stopped.named_parameters())
        train(stopped, first, 3)
        second = MuonAdamW(stopped.named_parameters())
        second.load_state_dict(first.state_dict())
        train(stopped, second, 3)
        assert all(
            torch.equal(a, b) for a, b in zip(straight.parameters(), stopped.parameters(), strict=True)
        )

    def test_a_step_that_is_dropped_changes_nothing_and_no_other_is_changed(self) -> None:
        straight, dropping = network(), network()
        plain, told = MuonAdamW(straight.named_parameters()), MuonAdamW(dropping.named_parameters())
        for drop in (True, False, False, True, True, False):
            before = everything(dropping, told)
            told.found_inf = torch.tensor(float(drop))
            train(dropping, told, 1)
            after = everything(dropping, told)
            if drop:
                # The first step makes the state, and leaves it at zero.
                assert all(
                    torch.equal(before.get(name, torch.zeros_like(one)), one) for name, one in after.items()
                )
            else:
                train(straight, plain, 1)
        expected = everything(straight, plain)
        assert after.keys() == expected.keys()
        assert all(torch.equal(after[name], expected[name]) for name in expected)


@pytest.mark.parametrize("shape", [(12, 12), (24, 8), (8, 24)])
def test_steps_are_those_of_muon_but_for_the_rounding(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    ours, torchs = (torch.nn.Parameter(torch.ones(shape)) for _ in range(2))
    optimizers = ExactMuon([ours]), torch.optim.Muon([torchs], adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        ours.grad = torch.randn(shape, generator=generator)
        torchs.grad = ours.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    moved = (ours - 1).norm()
    assert (ours - torchs).norm() < 0.02 * moved
    values = torch.linalg.svdvals(orthogonal(ours.grad, (3.4445, -4.775, 2.0315), 5, 1e-7))
    assert ((values > 0.6) & (values < 1.3)).all()


def everything(net: nn.ModuleDict, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Copies of weights and state."""
    found = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    for number, state in optimizer.state_dict()["state"].items():
        found |= {f"{number}.{name}": value.clone() for name, value in state.items()}
    return found


class TestCosineWithWarmup:
    def test_rises_then_falls_to_zero_for_both_parts(self) -> None:
        optimizer = MuonAdamW(network().named_parameters(), lr=1.0, matrix_lr=2.0)
        schedule = CosineWithWarmup(optimizer, total_steps=20, warmup=0.2)
        rates = []
        for _ in range(20):
            rates.append(schedule.get_last_lr())
            optimizer.step()
            schedule.step()
        adamw = [rate[1] for rate in rates]
        assert adamw[:5] == sorted(adamw[:5])
        assert adamw[4:] == sorted(adamw[4:], reverse=True)
        assert max(adamw) == 1.0
        assert schedule.get_last_lr()[1] < 1e-6
        assert all(rate[0] == 2 * rate[1] for rate in rates)
