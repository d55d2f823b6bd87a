import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from pipeline.training.batches import EpochSampler, Shares, cut


class Faces:
    """Labels that are not equally frequent."""

    def __init__(self, count):
        self.label_ids = np.arange(count) ** 2 % 7

    def __len__(self):
        return len(self.label_ids)

    def class_counts(self):
        return np.bincount(self.label_ids, minlength=7).tolist()


def shares_of(count, processes, parts, faces, **settings):
    sampler = EpochSampler(faces, balanced=False, seed=3)
    return [Shares(sampler, count, parts=parts, rank=rank, count=processes, **settings) for rank in range(processes)]


def test_trainings_with_other_seeds_have_no_epoch_alike():
    orders = []
    for seed in range(3):
        sampler = EpochSampler(Faces(30), balanced=False, seed=seed)
        for epoch in range(5):
            sampler.set_epoch(epoch)
            orders.append(tuple(sampler))
    assert len(set(orders)) == 15


def test_shares_differ_by_at_most_one_face_and_none_is_smaller_than_allowed():
    assert cut([1, 2, 3, 4, 5], 2) == [[1, 3, 5], [2, 4]]
    assert cut([1, 2], 4) == [[1], [2], [], []]
    assert cut([1, 2, 3, 4, 5], 4, least=2) == [[1, 3, 5], [2, 4], [], []]
    assert cut([1], 1, least=2) == [[1]]


@pytest.mark.parametrize(("processes", "parts"), [(1, 1), (2, 1), (1, 4), (3, 2), (5, 4)])
def test_every_face_counts_once_in_the_batch_that_it_would_be_in(processes, parts):
    faces = Faces(52)
    (whole,) = shares_of(10, 1, 1, faces)
    shared = shares_of(10, processes, parts, faces)
    assert {len(shares) for shares in shared} == {6 * parts}
    counted = [
        [face for share, (factor, _) in zip(shares, shares.weigh(np.ones(52)), strict=True) if factor for face in share]
        for shares in shared
    ]
    assert sorted(sum(counted, [])) == sorted(sum(whole, []))
    for number, batch in enumerate(whole):
        seen = [list(shares)[number * parts + part] for shares in shared for part in range(parts)]
        assert set(sum(seen, [])) == set(batch)


@pytest.mark.parametrize(("processes", "parts"), [(2, 1), (1, 4), (3, 2), (5, 4)])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_mean_over_the_shares_is_the_loss_of_the_batch(processes, parts, weighted):
    faces = Faces(52)
    logits = torch.randn(52, 7, generator=torch.Generator().manual_seed(0))
    label_ids = torch.from_numpy(faces.label_ids)
    weights = torch.arange(1.0, 8.0) if weighted else None
    face_weights = np.ones(52) if weights is None else weights.numpy()[faces.label_ids]

    def losses(shares):
        return [
            factor * cross_entropy(logits[share], label_ids[share], weights, label_smoothing=0.1)
            for share, (factor, _) in zip(shares, shares.weigh(face_weights), strict=True)
        ]

    (whole,) = shares_of(10, 1, 1, faces)
    shared = torch.tensor([losses(shares) for shares in shares_of(10, processes, parts, faces)])
    torch.testing.assert_close(shared.mean(0).view(-1, parts).mean(1), torch.stack(losses(whole)))


def test_a_last_batch_of_one_face_is_left_out_in_every_process():
    assert [len(shares) for shares in shares_of(10, 2, 2, Faces(51))] == [10, 10]


def test_batch_norm_never_sees_a_single_face():
    (shares,) = shares_of(10, 1, 4, Faces(53), least=2)
    assert min(len(share) for share in shares) == 2
