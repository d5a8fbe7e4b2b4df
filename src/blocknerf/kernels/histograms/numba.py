"""numba kernels of histograms along rays: each takes one pass over a ray's sorted intervals."""

import numpy as np

from blocknerf.kernels.jit.parallel_for import F1, F2, F8, kernel, parallel_for, worker_body


@worker_body
def _resample(start, stop, edges, weights, jitter, padding, out):
    rays, bins = weights.shape
    wanted = out.shape[1]
    for r in range(start, stop):
        floor = np.float32(padding / bins)
        total = np.float32(0)
        for b in range(bins):
            total += weights[r, b] + floor
        b = 0
        low = np.float32(0)
        share = (weights[r, 0] + floor) / total
        for n in range(wanted):
            quantile = (np.float32(n) + jitter[r]) / np.float32(wanted)
            while b < bins - 1 and low + share <= quantile:
                low += share
                b += 1
                share = (weights[r, b] + floor) / total
            fraction = min(max((quantile - low) / share, np.float32(0)), np.float32(1))
            out[r, n] = edges[r, b] + fraction * (edges[r, b + 1] - edges[r, b])


@kernel(F2, F2, F1, F8, F2)
def resample(edges, weights, jitter, padding, out):
    parallel_for(_resample, len(weights), (edges, weights, jitter, padding, out))


@worker_body
def _interlevel(start, stop, proposal_edges, proposal_weights, edges, weights, epsilon, losses, grad):
    rays, bins = proposal_weights.shape
    fine = weights.shape[1]
    for r in range(start, stop):
        for b in range(bins):
            grad[r, b] = 0
        loss = np.float32(0)
        first = 0
        for n in range(fine):
            while first < bins and proposal_edges[r, first + 1] <= edges[r, n]:
                first += 1
            bound = np.float32(0)
            end = first
            while end < bins and proposal_edges[r, end] < edges[r, n + 1]:
                bound += proposal_weights[r, end]
                end += 1
            missed = weights[r, n] - bound
            if missed > 0:
                loss += missed * missed / (weights[r, n] + np.float32(epsilon))
                pull = -2 * missed / (weights[r, n] + np.float32(epsilon))
                for b in range(first, end):
                    grad[r, b] += pull
        losses[r] = loss


@kernel(F2, F2, F2, F2, F8, F1, F2)
def interlevel(proposal_edges, proposal_weights, edges, weights, epsilon, losses, grad):
    parallel_for(_interlevel, len(weights), (proposal_edges, proposal_weights, edges, weights, epsilon, losses, grad))


@worker_body
def _distortion(start, stop, edges, weights, losses, grad):
    rays, bins = weights.shape
    for r in range(start, stop):
        all_weight = np.float32(0)
        all_moment = np.float32(0)
        for b in range(bins):
            middle = np.float32(0.5) * (edges[r, b] + edges[r, b + 1])
            all_weight += weights[r, b]
            all_moment += weights[r, b] * middle
        loss = np.float32(0)
        weight = np.float32(0)
        moment = np.float32(0)
        for b in range(bins):
            w = weights[r, b]
            middle = np.float32(0.5) * (edges[r, b] + edges[r, b + 1])
            width = edges[r, b + 1] - edges[r, b]
            before = middle * weight - moment
            weight += w
            moment += w * middle
            behind = (all_moment - moment) - middle * (all_weight - weight)
            pull = before + behind
            loss += w * pull + w * w * width / np.float32(3)
            grad[r, b] = 2 * pull + 2 * w * width / np.float32(3)
        losses[r] = loss


@kernel(F2, F2, F1, F2)
def distortion(edges, weights, losses, grad):
    """sum_ij w_i w_j |m_i - m_j| by running sums: for sorted middles the pairs before i give w_i (m_i W - M)."""
    parallel_for(_distortion, len(weights), (edges, weights, losses, grad))
