"""Train a small SAM on a CPU, one single-threaded process a core, or on one GPU. Resumable.

    python -m convert.tiny.train --data DIR --out DIR --minutes 60 [--init EARLIER.safetensors]

Run again with the same --out to go on where it stopped. Writes OUT/last.safetensors (official
keys, averaged weights), OUT/log.jsonl (figures) and OUT/state.pt. Parameters are bfloat16 with
float32 masters; the processes share memory and average their gradients.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F  # noqa: N812

from convert.tiny.network import Network
from convert.tiny.objective import (
    click_loss,
    mask_loss,
    match_loss,
    most_confident,
    simulate_corrections,
    summarise,
)
from convert.tiny.optimise import Optimiser, layout_of
from convert.tiny.options import parse_arguments
from convert.tiny.samples import BOX, Sample, Sampler, Standardise
from convert.tiny.sources import read_sources
from convert.tiny.start import random_start, tiny_config, warm_start
from samjax.checkpoint.formats.safetensors import write_safetensors
from samjax.errors import SamjaxError
from samjax.files import replacing
from samjax.model.config import SamConfig

BUFFER = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
VALIDATION_IMAGES, PATIENCE = 48, 6 * 3600
CORRECTED = 1.5  # weight of the single mask after correcting clicks; 2 - CORRECTED of the three
CLICKS = 1.0  # weight of the loss at the clicked pixels
TEACHER = {"teacher.weight": (256, 256), "teacher.bias": (256,)}  # of a linear map, not saved
MOMENTS = ("master", "average", "first", "second")  # what state.pt holds


def config_of(options: argparse.Namespace) -> SamConfig:
    return tiny_config(options.size, options.width, options.depth, options.decoder_mlp)


class Worker:
    """One process: draws samples, computes gradients, updates its share of the parameters."""

    def __init__(self, rank: int, options: argparse.Namespace, shared: dict, barrier):
        self.rank, self.o, self.shared, self.barrier = rank, options, shared, barrier
        self.config = config_of(options)
        self.network = Network(self.config, torch.bfloat16)
        self.device = torch.device(options.device)
        if options.device == "cpu":
            torch.set_num_threads(1)
        started = int(shared["clock"][1])  # steps done: a resumed run draws other samples
        seed = (options.seed * 97 + rank) * 1_000_003 + started
        torch.manual_seed(seed)
        self.random = np.random.default_rng([options.seed, started])  # the same in each process
        sources = read_sources(
            options.data,
            options.cut_outs,
            options.backgrounds,
            False,
            options.packs,
            options.taught,
        )
        self.sampler = Sampler(sources, options.size, seed, options.paste, options.augment)
        self.standardise = Standardise(sources)
        if rank == 0:
            fixed = Sampler(
                read_sources(options.data, [], [], True, options.packs), options.size, 1, paste=0
            )
            self.validation = [fixed.sample(options.prompts) for _ in range(VALIDATION_IMAGES)]
            self.initialise()
        self.wait()
        self.bind()

    def wait(self) -> None:
        self.barrier.wait(PATIENCE)

    def initialise(self) -> None:
        o, shared = self.o, self.shared
        if not shared["clock"][1]:
            torch.manual_seed(o.seed)
            if o.init:
                model = warm_start(self.config, o.init)
            else:
                model = random_start(self.config, self.sampler)
            found = dict(model.named_parameters())
            parts = [found[k].detach().flatten() for k in shared["layout"] if k in found]
            flat = torch.cat([*parts, torch.zeros(sum(math.prod(s) for s in TEACHER.values()))])
            shared["master"].copy_(flat)
            shared["average"].copy_(flat)
            shared["buffer"].copy_(model.state_dict()[BUFFER])
        shared["weights"].copy_(shared["master"])
        figures = len(shared["master"]) / 1e6, len(self.sampler.sources.cut_outs)
        print("{:.2f} M parameters, {} cut-outs".format(*figures), flush=True)

    def bind(self) -> None:
        """Name the slices of the shared vectors."""
        self.parameters, self.averaged, place = {}, {}, 0
        gradient = self.shared["gradient"][self.rank]
        for name, shape in self.shared["layout"].items():
            end = place + math.prod(shape)
            weight = self.shared["weights"][place:end].view(shape).detach().requires_grad_(True)
            weight.grad = gradient[place:end].view(shape)
            self.parameters[name] = weight
            self.averaged[name] = self.shared["average"][place:end].view(shape)
            place = end
        buffer = self.shared["buffer"]
        self.parameters[BUFFER] = self.averaged[BUFFER] = buffer
        self.optimiser = Optimiser(self.shared, self.rank, self.o.processes, self.o.weight_decay)

    def arrays(self, samples: list[Sample]) -> tuple:
        """Patches, targets and padding in token order, points and their labels."""
        net = self.network
        images, masks, valid, corners, kinds, _, _ = (
            np.stack(x) for x in zip(*samples, strict=True)
        )
        prompts = masks.shape[1]
        target = net.to_token_order(torch.tensor(masks)).flatten(0, 1)
        inside = net.to_token_order(torch.tensor(valid)).float().repeat_interleave(prompts, 0)
        kinds = torch.tensor(kinds).flatten()
        labels = torch.where(kinds[:, None] == BOX, torch.tensor([[2, 3]]), torch.tensor([[1, -1]]))
        corners = torch.tensor(corners).flatten(0, 1)
        patches = net.patches(torch.tensor(images)).bfloat16()
        return tuple(x.to(self.device) for x in (patches, target * inside, inside, corners, labels))

    def gradients(self, samples: list[Sample], progress: float) -> dict[str, float]:
        """Forward and backward; leaves the gradients in shared memory, returns figures."""
        o, net, p = self.o, self.network, self.parameters
        patches, target, inside, xy, labels = self.arrays(samples)
        rates = o.drop * np.arange(o.depth) / max(1, o.depth - 1)
        skip = frozenset(np.flatnonzero(self.random.random(o.depth) < rates).tolist())
        balance = o.balance * min(1.0, max(0.0, (0.5 - progress) / 0.3))
        embedding = net.encode(p, patches, skip)
        logits, scores = net.decode(p, embedding, net.tokens(p, xy, labels))
        loss, iou = mask_loss(logits.float(), scores.float(), target, inside, balance)
        figures = {"loss": float(loss.detach())} | summarise(iou, scores, labels)
        features, known = (np.stack(x) for x in list(zip(*samples, strict=True))[-2:])
        if known.any():
            wanted = torch.tensor(self.standardise(features)).to(self.device)
            mapped = F.linear(embedding, *(p[k] for k in TEACHER)).float()
            match = match_loss(mapped, wanted, torch.tensor(known).to(self.device))
            figures["match"] = float(match.detach())
            loss = loss + o.match * match
        # Every process draws the same numbers here: none waits for another's longer step.
        correct, rounds, forget = (
            self.random.random(),
            self.random.choice([1, 2, 3, 4, 4]),
            self.random.random() < 0.15,
        )
        if correct < o.corrections:
            previous = most_confident(logits.detach().float(), scores.detach())
            xy, labels, previous = simulate_corrections(
                net, p, embedding.detach(), (xy, labels, previous), target, inside, int(rounds)
            )
            dense = None if forget else net.embed_masks(p, previous)
            logits, scores = net.decode(p, embedding, net.tokens(p, xy, labels), dense)
            second, iou = mask_loss(
                logits.float(), scores.float(), target, inside, balance, CORRECTED
            )
            clicks, obeyed = click_loss(net, logits.float(), xy, labels)
            figures |= {"corrected": float(iou[:, 0].mean()), "obeyed": float(obeyed)}
            loss = loss + second + CLICKS * clicks
        self.shared["gradient"][self.rank].zero_()
        loss.backward()
        return figures

    def update(self, step: int, progress: float) -> float:
        """Step this process's share of the parameters; returns the gradient's norm."""
        o, shared = self.o, self.shared
        shared["norm"][self.rank] = self.optimiser.average()
        self.wait()
        norm = float(shared["norm"].sum()) ** 0.5
        if math.isfinite(norm):
            rate = o.lr * min(1, step / o.warmup)
            if not o.constant:
                rate *= 0.5 * (1 + math.cos(math.pi * min(1.0, progress))) * 0.99 + 0.01
            self.optimiser.step(step, rate, norm, o.average)
        return norm

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Mean IoU on the held-out tenth, averaged weights, at mask resolution."""
        weights = {k: v.bfloat16() if k != BUFFER else v for k, v in self.averaged.items()}
        net, found, corrected = self.network, [], []
        with torch.random.fork_rng():  # training goes on with its own numbers
            torch.manual_seed(1)
            for i in range(0, len(self.validation), 4):
                patches, target, inside, xy, labels = self.arrays(self.validation[i : i + 4])
                embedding = net.encode(weights, patches)
                logits, scores = net.decode(weights, embedding, net.tokens(weights, xy, labels))
                iou = mask_loss(logits.float(), scores.float(), target, inside, 0)[1]
                found.append((iou, scores, labels))
                first = xy, labels, most_confident(logits.float(), scores)
                xy, labels, previous = simulate_corrections(
                    net, weights, embedding, first, target, inside, 2
                )
                dense = net.embed_masks(weights, previous)
                logits, scores = net.decode(
                    weights, embedding, net.tokens(weights, xy, labels), dense
                )
                iou = mask_loss(logits.float(), scores.float(), target, inside, 0)[1]
                obeyed = click_loss(net, logits[:, :1].float(), xy, labels)[1]
                corrected.append((float(iou[:, 0].mean()), float(obeyed)))
        figures = summarise(*(torch.cat(x) for x in zip(*found, strict=True)))
        means = np.mean(corrected, 0).round(4).tolist()
        return figures | dict(zip(("two_corrections", "obeyed"), means, strict=True))

    def save(self, record: dict) -> None:
        out, shared = self.o.out, self.shared
        kept = {k: v for k, v in self.averaged.items() if k not in TEACHER}
        tensors = {k: v.detach().float().cpu().numpy() for k, v in kept.items()}
        write_safetensors(out / "last.safetensors", tensors, {"training": json.dumps(record)})
        with replacing(out / "state.pt") as temporary:
            torch.save({k: shared[k] for k in (*MOMENTS, "clock", "buffer", "layout")}, temporary)

    def run(self) -> None:
        o, clock = self.o, self.shared["clock"]
        budget, begun, before = o.minutes * 60, time.time(), float(clock[0])
        saved, recent, step = begun, [], int(clock[1])
        parent = os.getppid()
        while True:
            if self.rank == 0:
                clock[0], clock[1] = before + time.time() - begun, step
            if o.processes > 1 and os.getppid() != parent:  # the launcher was killed
                return
            self.wait()
            progress = float(clock[0]) / budget
            if progress >= 1:
                break
            step += 1
            figures = self.gradients(
                [self.sampler.sample(o.prompts) for _ in range(o.batch)], progress
            )
            self.wait()
            figures["norm"] = self.update(step, progress)
            if self.rank == 0:
                recent.append(figures)
                late = time.time() - saved > o.save_every * 60
                if step % 100 == 0 or late:
                    record = self.record(step, recent)
                    recent = []
                    if late:
                        saved = time.time()
                        record["held_out"] = self.validate()
                        self.save(record)
                    self.log(record)
        if self.rank == 0:
            record = self.record(step, recent) | {"held_out": self.validate()}
            self.save(record)
            self.log(record)

    def record(self, step: int, recent: list[dict[str, float]]) -> dict:
        keys = sorted({k for figures in recent for k in figures})
        means = {k: float(np.nanmean([f.get(k, np.nan) for f in recent])) for k in keys}
        images = step * self.o.batch * self.o.processes
        return {
            "step": step,
            "images": images,
            "seconds": round(float(self.shared["clock"][0])),
        } | {k: round(v, 4) for k, v in means.items()}

    def log(self, record: dict) -> None:
        print(json.dumps(record), flush=True)
        with (self.o.out / "log.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")


def shared_state(options: argparse.Namespace) -> dict:
    """The vectors that the processes share, restored from OUT/state.pt when it is there."""
    from convert.official import build_official

    named = build_official(config_of(options)).named_parameters()
    layout = layout_of({name: tuple(p.shape) for name, p in named} | TEACHER)
    count = sum(math.prod(shape) for shape in layout.values())

    def vector(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        made = torch.zeros(*shape, dtype=dtype, device=options.device)
        return made.share_memory_() if options.device == "cpu" else made

    shared: dict = {k: vector(count) for k in MOMENTS}
    shared |= {
        "weights": vector(count, dtype=torch.bfloat16),
        "gradient": vector(options.processes, count, dtype=torch.bfloat16),
        "norm": vector(options.processes),
        "buffer": vector(2, 128),
        "clock": torch.zeros(2, dtype=torch.float64).share_memory_(),  # seconds, steps
        "layout": layout,
    }
    state = options.out / "state.pt"
    if state.exists():
        found = torch.load(state, weights_only=True)
        # The vectors of an earlier recipe are as long, and in another order.
        if list(found.pop("layout", {}).items()) != list(layout.items()):
            raise SystemExit(
                f"{state} is of another model or an earlier recipe: choose another --out"
            )
        for key, value in found.items():
            shared[key].copy_(value)
        print(f"going on after step {int(shared['clock'][1])}", flush=True)
    return shared


def start_worker(rank: int, options: argparse.Namespace, shared: dict, barrier) -> None:
    Worker(rank, options, shared, barrier).run()


def check_start(options: argparse.Namespace) -> None:
    try:
        warm_start(config_of(options), options.init)
    except SamjaxError as error:
        raise SystemExit(f"--init: {error}") from error
    except RuntimeError as error:  # torch names every tensor
        sizes = f"--width {options.width} and --decoder-mlp {options.decoder_mlp}"
        raise SystemExit(f"--init {options.init}: its weights are not of {sizes}") from error


def check_data(data: Path) -> None:
    needed = "bsds500/train", "coco_tiny/annotations/instances_train2017.json", "nuclei"
    missing = [name for name in needed if not (data / name).exists()]
    if missing:
        raise SystemExit(
            f"--data {data} has no {', no '.join(missing)}: see convert/tiny/sources.py"
        )


def main() -> None:
    options = parse_arguments((__doc__ or "").splitlines()[0])
    config_of(options)  # an unfit size is told before anything is written or started
    if options.init and not (options.out / "state.pt").exists():
        check_start(options)
    if options.balance is None:
        options.balance = 0.0 if options.init else 0.6
    if options.device != "cpu":
        options.processes = 1
    shared = shared_state(options)
    check_data(options.data)
    options.out.mkdir(parents=True, exist_ok=True)
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()}
    (options.out / "settings.json").write_text(json.dumps(settings, default=str, indent=1))
    barrier = mp.get_context("spawn").Barrier(options.processes)
    if options.processes == 1:
        start_worker(0, options, shared, barrier)
    else:
        mp.spawn(start_worker, (options, shared, barrier), nprocs=options.processes)


if __name__ == "__main__":
    main()
