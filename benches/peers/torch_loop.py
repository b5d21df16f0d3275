#!/usr/bin/env python3
"""The loops over areas in torch eager (or numpy), with the columns of sal-peers' CSV file.

    forward    for each area: y[rows] = relu(x[rows] W[z] + b[z])
    update     for each area: W[z] -= lr x[rows]^T delta[rows]
    feedback   (e F) * (y > 0), one matrix for all areas
    step       route, forward, feedback and update for every layer of a network
    dense-bp   one layer of the same width instead of areas, trained by backpropagation: what a SAL step competes with

It runs in a process of its own, so its ratios to ours need the figures of a run of sal-peers on the same machine just
before: --against FILE. Without it, the columns of the ratios are empty.

    taskset -c 1 python3 torch_loop.py --csv torch.csv --against peers.csv
"""

import argparse
import csv
import datetime
import math
import os
import platform
import sys
import time

COLUMNS = ("machine,date,isa,threads,verb,profile,batch,d_in,d_out,areas,who,min_us,median_us,gflops,"
           "ratio_min,ratio_median").split(",")
KEY = ["threads", "verb", "profile", "batch", "d_in", "d_out", "areas"]
PROFILES = ["balanced", "hot50", "hot80", "one-row", "rotating", "zipf"]
DIRECTIONS = 32  # of every router
TINY = 1e-12  # a rate that leaves the weights where they are


class Torch:
    """What the loops need, in torch."""

    name = "torch"

    def __init__(self, threads):
        import torch
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        torch.manual_seed(1)
        self.torch = torch

    def normal(self, *shape, scale=1.0):
        # Above a million the draws repeat: a billion would take longer than what is measured.
        count, period = 1, 1_048_573
        for n in shape:
            count *= n
        out = self.torch.empty(count)
        out[:period] = self.torch.randn(min(count, period)) * scale
        for start in range(period, count, period):
            end = min(start + period, count)
            out[start:end] = out[: end - start]
        return out.view(*shape)

    def rows(self, indices):
        return self.torch.tensor(indices, dtype=self.torch.int64)

    def empty(self, *shape):
        return self.torch.empty(*shape)

    def take(self, x, rows):
        return x.index_select(0, rows)

    def put(self, y, rows, values):
        y.index_copy_(0, rows, values)

    def affine(self, x, w, b, relu):
        y = self.torch.addmm(b, x, w)
        return y.relu_() if relu else y

    def gated(self, e, f, y):
        return (e @ f).mul_(y > 0)

    def add_product(self, w, a, b, scale):
        w.addmm_(a, b, alpha=scale)

    def add_sum(self, b, d, scale):
        b.add_(d.sum(0), alpha=scale)

    def groups(self, scores, areas):
        """(area, its rows) by the best score."""
        z = scores.argmax(1)
        counts = self.torch.bincount(z, minlength=areas).tolist()
        parts = z.argsort(stable=True).split(counts)
        return [(k, part) for k, part in enumerate(parts) if len(part)]


class Numpy:
    """The same in numpy."""

    name = "numpy"

    def __init__(self, threads):
        import numpy
        self.np = numpy
        self.draw = numpy.random.default_rng(1)

    def normal(self, *shape, scale=1.0):
        some = self.draw.standard_normal(1_048_573, dtype="f4") * self.np.float32(scale)
        return self.np.resize(some, shape)

    def rows(self, indices):
        return self.np.array(indices, dtype="i8")

    def empty(self, *shape):
        return self.np.empty(shape, dtype="f4")

    def take(self, x, rows):
        return x[rows]

    def put(self, y, rows, values):
        y[rows] = values

    def affine(self, x, w, b, relu):
        y = x @ w
        y += b
        return self.np.maximum(y, 0, out=y) if relu else y

    def gated(self, e, f, y):
        delta = e @ f
        delta *= y > 0
        return delta

    def add_product(self, w, a, b, scale):
        product = a @ b
        product *= self.np.float32(scale)
        w += product

    def add_sum(self, b, d, scale):
        b += d.sum(0) * self.np.float32(scale)

    def groups(self, scores, areas):
        z = scores.argmax(1)
        counts = self.np.bincount(z, minlength=areas)
        parts = self.np.split(z.argsort(kind="stable"), counts.cumsum()[:-1])
        return [(k, part) for k, part in enumerate(parts) if len(part)]


def areas_of(profile, batch, areas, turn):
    """The area of each sample; None where the profile does not fit. As sal-peers does it, unshuffled but strided."""
    if profile == "balanced":
        z = [(turn * batch + s) % areas for s in range(batch)]
    elif areas == 1 or batch == 1:
        return None
    elif profile == "one-row":
        if batch > areas:
            return None
        z = [(turn * batch + s) % areas for s in range(batch)]
    elif profile == "rotating":
        z = [turn % areas] * batch
    elif batch < areas:
        return None
    elif profile in ("hot50", "hot80"):
        hot = round(batch * int(profile[3:]) / 100)
        z = [0] * hot + [1 + s % (areas - 1) for s in range(batch - hot)]
    else:
        total = sum(1 / (k + 1) for k in range(areas))
        share = [batch / total / (k + 1) for k in range(areas)]
        z = [k for k in range(areas) for _ in range(int(share[k]))]
        rest = sorted(range(areas), key=lambda k: int(share[k]) - share[k])
        z += rest[: batch - len(z)]
    # A stride without a common divisor mixes them the same way every time.
    stride = next(s for s in range(max(batch * 5 // 8, 1), 2 * batch + 2) if math.gcd(s, batch) == 1)
    return [z[s * stride % batch] for s in range(batch)]


def close(what, got, terms, relu=False):
    """Fails unless `got` is the sum of products within the bound of an f32 sum in any order."""
    products = [float(a) * float(b) for a, b in terms]
    want, size = sum(products), sum(map(abs, products))
    want = max(want, 0.0) if relu else want
    bound = (len(products) + 3) * 2.0**-24 * size
    if not abs(float(got) - want) <= bound:
        raise SystemExit(f"error: {what}: got {float(got)}, want {want} +- {bound}")


def some(n):
    return sorted({0, n // 2, n - 1})


class Layer:
    """One verb on one layer; weights as d_in x d_out, or the transpose of d_out x d_in."""

    def __init__(self, lib, verb, profile, batch, d_in, d_out, areas, transposed):
        self.lib, self.verb, self.shape = lib, verb, (batch, d_in, d_out, areas)
        used = 1 if profile == "rotating" else min(batch, areas)
        turns = max(-(-areas // used), 4)
        self.plans = []
        for turn in range(turns):
            z = areas_of(profile, batch, areas, turn)
            by_area = [[s for s in range(batch) if z[s] == k] for k in range(areas)]
            self.plans.append([(k, lib.rows(rows)) for k, rows in enumerate(by_area) if rows])
        self.x = [lib.normal(batch, d_in) for _ in range(4 if batch * d_in < 1 << 22 else 2)]
        self.delta = lib.normal(batch, d_out)
        self.b = list(lib.normal(areas, d_out))
        if verb == "feedback":
            f = lib.normal(d_in, d_out) if transposed else lib.normal(d_out, d_in)
            self.f = f.T if transposed else f
            self.y = lib.normal(batch, d_in)
        else:
            shape = (areas, d_out, d_in) if transposed else (areas, d_in, d_out)
            w = lib.normal(*shape, scale=(2 / d_in) ** 0.5)
            self.w = list(w.swapaxes(1, 2) if transposed else w)
        self.out = lib.empty(batch, d_out)

    def flop(self):
        batch, d_in, d_out, _ = self.shape
        return 2 * batch * d_in * d_out

    def run(self, turn, lr=TINY):
        lib, x, plan = self.lib, self.x[turn % len(self.x)], self.plans[turn % len(self.plans)]
        whole = len(plan) == 1 and len(plan[0][1]) == len(x)
        if self.verb == "forward":
            for k, rows in plan:
                if whole:  # a dense layer gathers nothing
                    self.out = lib.affine(x, self.w[k], self.b[k], True)
                else:
                    lib.put(self.out, rows, lib.affine(lib.take(x, rows), self.w[k], self.b[k], True))
        elif self.verb == "update":
            for k, rows in plan:
                a, d = (x, self.delta) if whole else (lib.take(x, rows), lib.take(self.delta, rows))
                lib.add_product(self.w[k], a.T, d, -lr)
        else:
            self.out = lib.gated(self.delta, self.f, self.y)

    def check(self):
        batch, d_in, d_out, _ = self.shape
        x = self.x[0]
        if self.verb == "update":
            k, rows = self.plans[0][0]
            entries = [(i, j, float(self.w[k][i, j])) for i in some(d_in) for j in some(d_out)]
            self.run(0, 1.0)
            for i, j, before in entries:
                terms = [(-x[int(s), i], self.delta[int(s), j]) for s in rows] + [(1.0, before)]
                close("update", self.w[k][i, j], terms)
            return
        self.run(0)
        if self.verb == "forward":
            for k, rows in self.plans[0]:
                s = int(rows[0])
                for j in some(d_out):
                    terms = [*zip(x[s].tolist(), self.w[k][:, j].tolist()), (1.0, self.b[k][j])]
                    close("forward", self.out[s, j], terms, relu=True)
        else:
            for s in some(batch):
                for j in some(d_in):
                    on = 1.0 if self.y[s, j] > 0 else 0.0
                    column = self.f[:, j].tolist()
                    close("feedback", self.out[s, j], [(on * e, f) for e, f in zip(self.delta[s].tolist(), column)])


class Step:
    """A whole SAL step, or with `dense` a step of backpropagation through one matrix a layer."""

    def __init__(self, lib, widths, areas, batch, inputs, dense, transposed):
        self.lib, self.widths, self.dense = lib, widths, dense
        self.areas = 1 if dense else areas
        self.batch = batch
        self.x = inputs or [lib.normal(batch, widths[0]) for _ in range(4)]
        self.target = lib.normal(batch, widths[-1])

        def matrix(count, d_in, d_out, scale):
            shape = (count, d_out, d_in) if transposed else (count, d_in, d_out)
            w = lib.normal(*shape, scale=scale)
            return list(w.swapaxes(1, 2) if transposed else w)

        pairs = list(zip(widths, widths[1:]))
        self.w = [matrix(self.areas, i, o, (2 / i) ** 0.5) for i, o in pairs]
        self.b = [list(lib.normal(self.areas, o, scale=0.1)) for _, o in pairs]
        self.p = [lib.normal(i, DIRECTIONS, scale=i**-0.5) for i, _ in pairs]
        self.c = [lib.normal(DIRECTIONS, areas, scale=DIRECTIONS**-0.5) for _ in pairs]
        self.f = [matrix(1, o2, o, (2 / o) ** 0.5)[0] for (_, o), (_, o2) in zip(pairs, pairs[1:])]

    def flop(self):
        pairs = list(zip(self.widths, self.widths[1:]))
        products = sum(2 * i * o for i, o in pairs) + sum(i * o for i, o in pairs[1:])
        route = 0 if self.dense else sum(DIRECTIONS * (i + self.areas) for i, _ in pairs)
        return 2 * self.batch * (products + route)

    def run(self, turn, lr=TINY):
        lib, h, plans = self.lib, [self.x[turn % len(self.x)]], []
        last = len(self.w) - 1
        for l in range(last + 1):
            x = h[-1]
            if self.dense:
                h.append(lib.affine(x, self.w[l][0], self.b[l][0], l < last))
                continue
            plans.append(lib.groups(x @ self.p[l] @ self.c[l], self.areas))
            y = lib.empty(self.batch, self.widths[l + 1])
            for k, rows in plans[l]:
                lib.put(y, rows, lib.affine(lib.take(x, rows), self.w[l][k], self.b[l][k], l < last))
            h.append(y)
        deltas = [None] * last + [h[-1] - self.target]
        for l in reversed(range(last)):
            back = self.w[l + 1][0].T if self.dense else self.f[l]
            deltas[l] = lib.gated(deltas[l + 1], back, h[l + 1])
        for l in range(last + 1):
            for k, rows in [(0, None)] if self.dense else plans[l]:
                x, d = h[l], deltas[l]
                if not self.dense:
                    x, d = lib.take(x, rows), lib.take(d, rows)
                lib.add_product(self.w[l][k], x.T, d, -lr)
                lib.add_sum(self.b[l][k], d, -lr)
        self.found = h, plans, deltas

    def check(self):
        self.run(0)
        h, plans, deltas = self.found
        last = len(self.w) - 1
        for l in range(last + 1):
            k, rows = (0, [0]) if self.dense else plans[l][-1]
            s = int(rows[0])
            for j in some(self.widths[l + 1]):
                column = self.w[l][k][:, j].tolist()
                terms = [*zip(h[l][s].tolist(), column), (1.0, self.b[l][k][j])]
                close("step, forward", h[l + 1][s, j], terms, relu=l < last)
                if l < last:
                    back = self.w[l + 1][0].T if self.dense else self.f[l]
                    on = 1.0 if h[l + 1][s, j] > 0 else 0.0
                    terms = [(on * e, f) for e, f in zip(deltas[l + 1][s].tolist(), back[:, j].tolist())]
                    close("step, feedback", deltas[l][s, j], terms)


def measure(work, seconds):
    """Seconds a call, the best and the median; a fifth of the time is not counted."""
    begin, turn, samples = time.perf_counter(), 0, []
    while True:
        start = time.perf_counter()
        work.run(turn)
        end = time.perf_counter()
        turn += 1
        if end - begin > seconds / 5 or end - start > seconds / 5:
            samples.append(end - start)
        if end - begin > seconds and len(samples) >= 2:
            samples.sort()
            return samples[0], samples[len(samples) // 2]


def default_points():
    """(verb, profile, batch, d_in, d_out, areas), as sal-peers has them."""
    points = []
    for verb in ("forward", "update"):
        points += [(verb, "balanced", n, 1024, 1024, 16) for n in (1, 16, 64, 256, 1024)]
        points += [(verb, p, 256, 1024, 1024, 16) for p in ("hot80", "rotating", "zipf")]
        points += [(verb, "one-row", 8, 1024, 1024, 16)]
        points += [(verb, "balanced", 256, 1024, 1024, k) for k in (64, 1)]
        points += [(verb, "balanced", n, 784, 256, 16) for n in (1, 16, 64, 256)]
        points += [(verb, "balanced", 64, 256, 10, 16)]
        points += [(verb, "balanced", n, 4096, 4096, 16) for n in (64, 512)]
    points += [("feedback", "balanced", n, 1024, 1024, 1) for n in (1, 16, 256)]
    points += [("feedback", "balanced", 512, 4096, 4096, 1)]
    steps = [("784-256-10", n) for n in (16, 64, 256)] + [("8x1024", 256), ("4x4096", 64)]
    return points + [point for name, n in steps for point in step_points(name, n, 16)]


def step_points(name, batch, areas):
    widths = network(name)
    kinds = ["step", "dense-bp"]
    return [(f"{kind}-{name}", "dense", batch, widths[0], widths[-1], areas) for kind in kinds]


def network(name):
    if "x" in name:
        layers, width = name.split("x")
        return [int(width)] * (int(layers) + 1)
    return [int(w) for w in name.split("-")]


def selected_points(flags):
    verbs = {"forward", "update", "feedback", "step"}
    if not (flags.shapes or flags.areas or flags.batches or flags.profiles or flags.networks or flags.full):
        points = default_points()
    else:
        full = flags.full
        shapes = flags.shapes or (["256x10", "784x256", "1024x1024", "4096x4096"] if full else
                                  [] if flags.networks else ["1024x1024"])
        areas = flags.areas or ([1, 4, 16, 64] if full else [16])
        batches = flags.batches or ([1, 16, 64, 256, 1024, 4096] if full else [16, 64, 256])
        profiles = flags.profiles or (PROFILES if full else ["balanced"])
        networks = flags.networks or (["784-256-10", "8x1024", "4x4096"] if full else
                                      [] if flags.shapes or flags.profiles else ["784-256-10"])
        points = []
        for verb in ("forward", "update", "feedback"):
            for shape in shapes:
                d_in, d_out = map(int, shape.split("x"))
                for k in areas if verb != "feedback" else [1]:
                    for n in batches:
                        for p in profiles if verb != "feedback" else ["balanced"]:
                            if areas_of(p, n, k, 0) is not None:
                                points.append((verb, p, n, d_in, d_out, k))
        points += [point for name in networks for k in areas for n in batches for point in step_points(name, n, k)]
    kind = lambda verb: "step" if verb.startswith(("step-", "dense-bp-")) else verb
    return [p for p in points if kind(p[0]) in (flags.verbs or verbs)]


def machine():
    try:
        with open("/proc/cpuinfo") as info:
            return next(l.split(":", 1)[1].strip() for l in info if l.startswith("model name")).replace(",", " ")
    except (OSError, StopIteration):
        return platform.machine()


def read_ours(path):
    """Times of sal and sal-signs by place."""
    ours = {}
    if path:
        with open(path, newline="") as file:
            for row in csv.DictReader(file):
                if row["who"] in ("sal", "sal-signs"):
                    ours[tuple(row[c] for c in KEY)] = float(row["min_us"]), float(row["median_us"])
    return ours


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words = lambda text: text.split(",")
    numbers = lambda text: [int(n) for n in text.split(",")]
    parser.add_argument("--lib", choices=["torch", "numpy"], default="torch")
    parser.add_argument("--full", action="store_true", help="the whole grid, which takes hours")
    parser.add_argument("--verbs", type=words, help="forward,update,feedback,step")
    parser.add_argument("--shapes", type=words, help="such as 784x256,1024x1024")
    parser.add_argument("--areas", type=numbers)
    parser.add_argument("--batches", type=numbers)
    parser.add_argument("--profiles", type=words, help=",".join(PROFILES))
    parser.add_argument("--networks", type=words, help="such as 784-256-10,8x1024")
    parser.add_argument("--threads", type=int, choices=[1, 2], default=1)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each point, without checks")
    parser.add_argument("--csv", help="adds the results to this file")
    parser.add_argument("--against", help="CSV of sal-peers on the same machine, for the ratios")
    parser.add_argument("--machine", default=machine(), help="its name in the CSV file")
    flags = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, str(flags.threads))  # before the library is loaded
    try:
        lib = {"torch": Torch, "numpy": Numpy}[flags.lib](flags.threads)
    except ImportError as error:
        sys.exit(f"error: this Python has no {flags.lib}: {error}")
    ours = read_ours(flags.against)
    out = None
    if flags.csv:
        new = not os.path.exists(flags.csv) or os.path.getsize(flags.csv) == 0
        out = open(flags.csv, "a", newline="")
        if new:
            out.write(",".join(COLUMNS) + "\n")
    print(f"{'verb':<21} {'profile':<8} {'batch':>5} {'shape':>9} {'k':>3} {'min us':>11} {'median us':>11} {'GF/s':>6}"
          "  ratio of minima/of medians to ours, f32 and signs")
    for verb, profile, batch, d_in, d_out, areas in selected_points(flags):
        def work(transposed):
            if verb.startswith(("step-", "dense-bp-")):
                dense, name = verb.startswith("dense-bp-"), verb.removeprefix("dense-bp-").removeprefix("step-")
                return Step(lib, network(name), areas, batch, None, dense, transposed)
            return Layer(lib, verb, profile, batch, d_in, d_out, areas, transposed)

        # The better of two layouts counts, one after the other: two copies of a large network do not fit.
        best = None
        for transposed in (False, True):
            candidate = work(transposed)
            candidate.check()
            flop, times = candidate.flop(), measure(candidate, flags.seconds / 2)
            del candidate
            if best is None or times < best[0]:
                best = times, lib.name + (":t" if transposed else "")
            if times[0] > 0.5:
                break
        (low, median), who = best
        ratios = []
        for suffix in ("", " signs"):
            place = [flags.threads, verb.replace("dense-bp-", "step-") + suffix, profile, batch, d_in, d_out, areas]
            found = ours.get(tuple(map(str, place)))
            found = found and (low * 1e6 / found[0], median * 1e6 / found[1])
            if suffix and not found:
                continue
            ratios.append(f"{found[0]:.2f}/{found[1]:.2f}" if found else "-")
            row = [flags.machine, datetime.datetime.now(datetime.timezone.utc).date(), "", flags.threads, verb + suffix,
                   profile, batch, d_in, d_out, areas, who, f"{low * 1e6:.3f}", f"{median * 1e6:.3f}",
                   f"{flop / low / 1e9:.2f}"]
            row += [f"{found[0]:.4f}", f"{found[1]:.4f}"] if found else ["", ""]
            if out:
                out.write(",".join(map(str, row)) + "\n")
                out.flush()
        print(f"{verb:<21} {profile:<8} {batch:>5} {f'{d_in}x{d_out}':>9} {areas:>3} {low * 1e6:>11.1f}"
              f" {median * 1e6:>11.1f} {flop / low / 1e9:>6.1f}  {who} {' '.join(ratios)}", flush=True)


if __name__ == "__main__":
    main()
