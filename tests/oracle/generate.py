"""Writes the training runs that tests/oracle.rs repeats: initial tensors, data, areas, results and error bounds.

    python3 tests/oracle/generate.py PATH_TO_sal_ref.py          (needs numpy; writes tests/oracle/*.json)

Values come from the float64 oracle sal_ref.py, which implements sections 3 to 8 of the SAL algorithm; only momentum
(section 6) is written here. Every number that goes in is a float32.

How far may float32 be off? Each run is repeated RUNS times with rounding noise: a sum of n products in float32 equals
the exact sum of operands that were changed by at most about (n + 2) 2^-24 of themselves, so each operand of each
product is multiplied by 1 + (n + 2) 2^-24 uniform(-1, 1), and what is stored between steps by 1 + c 2^-24
uniform(-1, 1). The oracle carries the noise through ReLU, cosine, softmax and Adam's division, element by element.
The bound of an element is SAFETY times its largest deviation. What no noise reaches (a weight of an area that was
never used) has the bound 0. Seeds are passed over where noise changes a route or opens or closes a ReLU, where a route was
chosen by a margin of less than MARGIN of the largest score, or where a bound exceeds LOOSE of value plus learning rate
(a gradient that is nothing but noise, which Adam blows up to a whole step, or a projection next to zero).
"""
import importlib.util
import json
import math
import pathlib
import sys

import numpy as np

RUNS, SAFETY, MARGIN, LOOSE, UNIT = 32, 2.0, 1e-3, 1e-3, 2.0**-24
COMMAND = "python3 tests/oracle/generate.py PATH_TO_sal_ref.py"
BETA1, BETA2, MOMENTUM = (float(np.float32(x)) for x in (0.9, 0.999, 0.9))

spec = importlib.util.spec_from_file_location("sal_ref", sys.argv[1])
ref = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ref)


# ------------------------------------------------------------------ cases
def case(**changes):
    config = dict(
        inputs=6, hidden=[9], classes=3, areas=4, output_areas=4, tie=False,
        feedback="fa", shared_feedback=False, zero_output=False,
        rule="sharp", similarity="cosine", width=None, tau=0.1, alpha=1.0, gamma=0.0, router_lr=0.2, centred=True,
        optimizer="sgd", weight_decay=0.0, averaging="area", lr=0.1, batches=[8, 8, 8, 8, 3],
    )
    assert changes.keys() <= config.keys(), changes
    return config | changes


PAPER = dict(rule="label", similarity="dot", tau=1.0, alpha=0.0, centred=False)
ADAMW = dict(optimizer="adamw", lr=0.02)
CASES = dict(
    # One area each: dense feedback alignment, direct feedback, backpropagation.
    dense_fa=case(areas=1, output_areas=1, hidden=[9, 7], averaging="batch", weight_decay=0.1),
    dense_dfa_adamw=case(areas=1, output_areas=1, hidden=[9, 7], feedback="dfa", **ADAMW),
    dense_bp_momentum=case(areas=1, output_areas=1, hidden=[9, 7], feedback="bp", optimizer="momentum", lr=0.02),
    # The presets: tuned (dense output that starts at zero) and the paper's (routed output).
    tuned=case(output_areas=1, zero_output=True, weight_decay=0.05, **ADAMW),
    paper_more_areas=case(batches=[12, 12, 12, 5], **PAPER),
    paper_fewer_areas=case(areas=2, output_areas=2, classes=5, hidden=[7, 6], batches=[8, 8, 8, 3], **PAPER),
    # Feedback, areas and averagings.
    fa_shared_tied=case(hidden=[8, 7], tie=True, shared_feedback=True, averaging="K", weight_decay=0.2),
    fa_tied_dense_output=case(hidden=[8, 7], output_areas=1, tie=True, alpha=0.0, **ADAMW),
    fa_areas_adamw=case(hidden=[8, 7], areas=2, output_areas=2, weight_decay=0.3, **ADAMW),
    fa_momentum_sum=case(areas=2, output_areas=1, optimizer="momentum", weight_decay=0.2, averaging="sum", lr=0.005),
    dfa_areas=case(hidden=[8, 7], feedback="dfa", averaging="sqrt", alpha=0.0),
    dfa_shared=case(hidden=[8, 7], feedback="dfa", shared_feedback=True, areas=2, output_areas=1, averaging="batch",
                    weight_decay=0.1, **ADAMW),
    bp_areas=case(hidden=[8, 7], feedback="bp", alpha=0.0, averaging="sqrt"),
    bp_adamw=case(feedback="bp", areas=2, output_areas=1, averaging="K", weight_decay=0.1, **ADAMW),
    # Routers.
    fixed_balanced=case(rule="fixed", gamma=0.05, width=6, averaging="K", zero_output=True),
    sharp_dot_balanced=case(similarity="dot", tau=0.5, gamma=0.02, output_areas=1, width=2),
    sharp_dot_uncentred=case(similarity="dot", tau=1.0, centred=False, areas=2, output_areas=2, shared_feedback=True),
    label_cosine_load=case(rule="label", classes=2, alpha=1.0, averaging="sum", lr=0.02, feedback="dfa"),
    label_cosine_adamw=case(rule="label", areas=2, output_areas=2, classes=2, gamma=0.01, averaging="sqrt", **ADAMW),
    # More than one panel of every instruction set, with a ragged end, and more samples than one tile has rows.
    wide=case(inputs=5, hidden=[69], classes=4, areas=2, output_areas=2, batches=[37, 37, 37, 19]),
)


# ------------------------------------------------------------------ a training run
def f32(x):
    return np.asarray(x, np.float32).astype(np.float64)


def short(x):
    """To four decimals, then to float32: short to write, but its float32 has no short mantissa."""
    return f32(np.round(x, 4))


def initial(c, seed):
    rng = np.random.default_rng(seed)
    params, router, F = ref.init(
        [c["inputs"], *c["hidden"], c["classes"]], c["areas"], c["output_areas"], R=c["width"], seed=seed,
        tie=c["tie"], feedback=c["feedback"], fb_shared=c["shared_feedback"], zero_out=c["zero_output"])
    for p in params:
        p["W"] = short(p["W"])
        p["b"] = short(0.1 * rng.standard_normal(p["b"].shape) * (p["W"].any() > 0))
    for r in router:
        if isinstance(r, dict):
            r["P"], r["C"] = short(r["P"]), f32(r["C"])
    n = sum(c["batches"])
    y = rng.integers(0, c["classes"], n)
    centres = rng.standard_normal((c["classes"], c["inputs"]))
    x = short(centres[y] + 0.7 * rng.standard_normal((n, c["inputs"])) + 0.3)
    return dict(params=params, router=router, F=[short(f) for f in F], x=x, y=y)


def momentum_update(p, m, gW, gb, n, lr, wd):
    p, m = ({k: v.copy() for k, v in d.items()} for d in (p, m))
    for k in np.flatnonzero(n):
        for q, g, keep in (("W", gW, 1 - lr * wd), ("b", gb, 1.0)):
            m[q][k] = MOMENTUM * m[q][k] + g[k]
            p[q][k] = keep * p[q][k] - lr * m[q][k]
    return p, m


def train(c, start, rng=None):
    """-> named results (float64), areas z[step][layer], activity of every ReLU, smallest routing margin."""
    def noise(x, n):
        return x if rng is None else x * (1 + n * UNIT * rng.uniform(-1, 1, np.shape(x)))

    def stored(new, old):
        return np.where(new == old, new, noise(new, 4))

    def operands(p, n):
        return [dict(W=noise(q["W"], q["W"].shape[1] + n), b=noise(q["b"], n)) for q in p]

    lr, wd, tau, alpha, gamma, router_lr = (
        float(np.float32(c[k])) for k in ("lr", "weight_decay", "tau", "alpha", "gamma", "router_lr"))
    params, router, F = start["params"], list(start["router"]), start["F"]
    state = [ref.adam_state(p) if c["optimizer"] == "adamw" else {k: np.zeros_like(v) for k, v in p.items()}
             for p in params]
    rule, cosine = c["rule"], c["similarity"] == "cosine"
    losses, areas, active, margin, results, first = [], [], [], np.inf, {}, 0
    for batch in c["batches"]:
        x, y = start["x"][first:first + batch], start["y"][first:first + batch]
        first += batch
        # Forward, error and deltas.
        routing = [r if not isinstance(r, dict) else r | dict(
            P=noise(r["P"], r["P"].shape[1] + 2), C=noise(r["C"], r["C"].shape[1] + 2),
            mu=noise(r["mu"], r["P"].shape[1] + 2)) for r in router]
        logits, tape = ref.forward(x, operands(params, 2), routing, cosine)
        loss, e = ref.loss_grad(logits, y)
        back = [noise(f, f.shape[1] + 2) for f in F]
        delta = ref.backward(noise(e, 1), tape, operands(params, 2), back, c["feedback"])
        losses.append(loss.mean())
        areas.append([t["z"] for t in tape])
        active.append([t["a"] > 0 for t in tape[:-1]])
        if len(losses) == 1:
            results |= {f"delta {l}": d for l, d in enumerate(delta)}
        # Routers learn from the inputs and scores of this step.
        for l, (r, t) in enumerate(zip(router, tape)):
            if not isinstance(r, dict):
                continue
            best = np.sort(t["s"] + r["bias"], axis=1)
            best = best[best.any(1)]    # a row of zeros is an exact tie in float32 too
            margin = min(margin, ((best[:, -1] - best[:, -2]) / np.abs(best).max(1)).min(initial=np.inf))
            s = noise(t["s"], 2) + tau * (noise(np.ones_like(t["s"]), 8) - 1)    # 8: the error of p, relative
            new = ref.update_router(
                noise(t["h"], batch + 2), t["z"], s, noise(t["uh"], 2), noise(t["nu"], 2), y,
                r | dict(mu=noise(r["mu"], 2)), rule, router_lr, tau, alpha, gamma, cosine, c["centred"])
            router[l] = r | {k: stored(new[k], r[k]) for k in ("P", "mu", "bias")} | dict(n=new["n"])
        # Areas learn.
        for l, (p, t) in enumerate(zip(params, tape)):
            d = noise(delta[l], batch + 2)
            gW, gb, n = ref.area_grads(t["h"], t["z"], d, len(p["W"]), c["averaging"])
            if c["optimizer"] == "sgd":
                new = ref.update_sgd(p, gW, gb, n, lr, wd)
            elif c["optimizer"] == "momentum":
                new, state[l] = momentum_update(p, state[l], gW, gb, n, lr, wd)
            else:
                new, state[l] = ref.update_adam(p, state[l], gW, gb, n, lr, wd, BETA1, BETA2)
            state[l] = {k: v if k == "t" else noise(v, 4) for k, v in state[l].items()}
            params = params[:l] + [{k: stored(new[k], p[k]) for k in new}] + params[l + 1:]
    results["losses"] = np.array(losses)
    for l, (p, r) in enumerate(zip(params, router)):
        results |= {f"weights {l}": p["W"], f"bias {l}": p["b"]}
        if isinstance(r, dict):
            results |= {f"projection {l}": r["P"].T, f"mean {l}": r["mu"], f"selection bias {l}": r["bias"]}
    return results, areas, active, margin


def same(a, b):
    return all(np.array_equal(p, q) for one, other in zip(a, b) for p, q in zip(one, other))


def loosest(c, results, bound):
    return max((bound[k] / (np.abs(v) + c["lr"])).max() for k, v in results.items())


def find(name, c):
    """The first seed whose routes and ReLUs float32 cannot flip."""
    for seed in range(1000):
        start = initial(c, seed)
        results, areas, active, margin = train(c, start)
        if margin < MARGIN:
            continue
        bound = {k: np.zeros_like(v) for k, v in results.items()}
        for run in range(RUNS):
            noisy, noisy_areas, noisy_active, _ = train(c, start, np.random.default_rng([seed, run]))
            if not (same(areas, noisy_areas) and same(active, noisy_active)):
                break
            for k, v in noisy.items():
                bound[k] = np.maximum(bound[k], SAFETY * np.abs(v - results[k]))
        else:
            if loosest(c, results, bound) > LOOSE:
                continue
            return seed, start, results, areas, margin, bound
    raise SystemExit(f"{name}: no seed is far enough from ties and kinks")


# ------------------------------------------------------------------ JSON
def numbers(values, write):
    def trim(s):
        return s.replace("e-0", "e-").removesuffix(".0")
    return "[" + ",".join(trim(write(v)) for v in np.ravel(values)) + "]"


def exact(values):
    return numbers(values, lambda v: str(np.float32(v)))


def upward(v):
    """One digit, rounded up."""
    if v == 0:
        return "0"
    exponent = math.floor(math.log10(v))
    return f"{math.ceil(v / 10.0**exponent)}e{exponent}"


def lines(items, indent):
    """An object with one member a line."""
    pad = "\n" + " " * indent
    return "{" + ",".join(f"{pad}{json.dumps(k)}: {v}" for k, v in items) + pad[:-1] + "}"


def write(path, name, c):
    seed, start, results, areas, margin, bound = find(name, c)
    layers = []
    for l, (p, r) in enumerate(zip(start["params"], start["router"])):
        tensors = [("weights", exact(p["W"])), ("bias", exact(p["b"]))]
        if isinstance(r, dict):
            tensors += [("projection", exact(r["P"])), ("prototypes", exact(r["C"]))]
        if l < len(start["F"]) and c["feedback"] != "bp":
            tensors.append(("feedback", exact(start["F"][l])))
        layers.append(lines(tensors, 3))
    counts = [len(p["W"]) for p in start["params"]]
    empty = sum(n - np.unique(z).size for step in areas for n, z in zip(counts, step))
    unused = sum(n - np.unique(np.concatenate(z)).size for n, *z in zip(counts, *areas))
    expected = [(k, '{"value": %s,\n  "bound": %s}' % (
        numbers(results[k], lambda v: f"{v:.9g}"), numbers(bound[k], upward))) for k in results]
    text = lines([
        ("made_by", json.dumps(f"{COMMAND}, numpy {np.__version__}, seed {seed}")),
        ("smallest_routing_margin", "null" if np.isinf(margin) else f"{margin:.2g}"),
        ("empty_areas_over_all_steps", str(empty)),
        ("areas_never_used", str(unused)),
        ("config", json.dumps(c)),
        ("x", exact(start["x"])),
        ("y", numbers(start["y"], str)),
        ("areas", "[" + ",\n  ".join("[" + ",".join(numbers(z, str) for z in step) + "]" for step in areas) + "]"),
        ("layers", "[" + ",\n  ".join(layers) + "]"),
        ("expected", lines(expected, 2)),
    ], 1)
    path.write_text(text + "\n")
    json.loads(text)
    print(f"{name:22} seed {seed:3}  {len(text):6} bytes  margin {margin:.1e}  empty {empty}  never used {unused}  "
          f"bounds to {loosest(c, results, bound):.0e}  loss {results['losses'][0]:.3f} -> {results['losses'][-1]:.3f}")
    return len(text)


def main():
    here = pathlib.Path(__file__).resolve().parent
    print("total", sum(write(here / f"{name}.json", name, c) for name, c in CASES.items()))


main()
