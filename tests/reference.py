"""The formulas as the papers print them, in float64 NumPy, one sample at a time.

A second, slow statement of everything in adakd that is a number. It shares no code with adakd, and nothing here
is clever: s, t are the logits of one sample (K,), y its label, tau a temperature.
"""

import numpy as np

C2 = (1 + np.sqrt(3)) / 2  # 2503.09030, Eq. 20


def log_softmax(x):
    x = x - np.max(x)
    return x - np.log(np.sum(np.exp(x)))


def softmax(x):
    return np.exp(log_softmax(x))


def cross_entropy(s, y):
    return -log_softmax(s)[y]


def standardize(x, ddof=0, eps=0.0):
    """Sun et al. 2024, Algorithm 1; ddof=1, eps=1e-7 in their code. A constant row is zeros by decision."""
    if np.all(x == x[0]):
        return np.zeros_like(x)
    variance = np.sum((x - np.mean(x)) ** 2) / (len(x) - ddof)
    return (x - np.mean(x)) / (np.sqrt(variance) + eps)


def pearson(a, b):
    """Between two rows; 0 with a constant one, by decision."""
    if np.all(a == a[0]) or np.all(b == b[0]):
        return 0.0
    a, b = a - np.mean(a), b - np.mean(b)
    return np.sum(a * b) / np.sqrt(np.sum(a**2) * np.sum(b**2))


def kl(log_p, log_q):
    """sum p log(p / q), with 0 log 0 = 0."""
    return np.sum(np.exp(log_p) * (log_p - log_q))


def kd(s, t, tau_s, tau_t=None):
    """Hinton et al. 2015: tau^2 KL(p_t || p_s); tau_s tau_t where the two differ."""
    tau_t = tau_s if tau_t is None else tau_t
    return tau_s * tau_t * kl(log_softmax(t / tau_t), log_softmax(s / tau_s))


def tckd(s, t, y, tau):
    """Zhao et al. 2022, Eq. 7, first term: KL of the binary distributions (p_y, 1 - p_y)."""
    log_p, log_q = log_softmax(t / tau), log_softmax(s / tau)
    p, q = ([v[y], np.log(np.sum(np.exp(np.delete(v, y))))] for v in (log_p, log_q))
    return tau**2 * kl(np.array(p), np.array(q))


def nckd(s, t, y, tau):
    """Second term: KL of the distributions over the K - 1 other classes."""
    return kd(np.delete(s, y), np.delete(t, y), tau)


def dkd(s, t, y, tau, alpha=1.0, beta=8.0):
    return alpha * tckd(s, t, y, tau) + beta * nckd(s, t, y, tau)


def mlt(s, t, definition="paper"):
    """2503.09030: the maximum logit as temperature, for (standardized) logits s and t."""
    if definition == "paper":  # Algorithm 1
        return C2 * max(np.max(t), np.max(s))
    if definition == "code":  # kei813121/atkd
        return C2 * max(np.max(np.abs(t)), np.max(np.abs(s)))
    if definition == "abstract":
        return C2 * np.max(t)
    assert definition == "two-sided"  # Eq. 20 with the end that the paper leaves out
    return max(max(C2 * np.max(z), -(C2 - 1) * np.min(z)) for z in (s, t))


def total(s, t, y, divergence, ce_weight=1.0, kd_weight=1.0, warmup=1.0):
    """Mean over the batch of CE and of divergence(s, t, y), weighted. s, t: (B, K), y: (B,)."""
    ce = np.mean([cross_entropy(*row) for row in zip(s, y, strict=True)])
    kd = np.mean([divergence(*row) for row in zip(s, t, y, strict=True)])
    return ce_weight * ce + kd_weight * warmup * kd
