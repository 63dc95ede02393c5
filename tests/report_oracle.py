#!/usr/bin/env python3
"""Shows that a browser draws what a run logged.

    bazel build //tools:train //tools:report
    python3 tests/report_oracle.py [--train=bazel-bin/tools/train] [--report=bazel-bin/tools/report]
        [--chromium=chromium] [--work=DIR]

Trains a small model on two sources with two validation sets, a task and samples; stops that run and
lets it go on; and trains another one with other settings. In headless Chromium, each curve of
their pages, of a page of both and of one that is drawn while a run goes on must have the steps and
the values of metrics.jsonl: those that a pointer over the curve is shown, and those of the line's
pixels. Zooming and logarithmic axes must leave them in place. Nothing may appear on the console.

A log of 1,000,000 steps must become a page of less than 3 MB, with the log's extremes, that is
written in less than a second, and drawn in less than one. Screenshots are left in DIR.
"""

import argparse
import collections
import json
import math
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import time

FLAGS = ["--seq_len=16", "--micro_batch=4", "--warmup_steps=2", "--save_every=40",
         "--eval_every=20", "--eval_batches=2", "--sample_every=100", "--model=./model.json",
         "--train_data=books:books.txt:0.7,code:code.txt:0.3",
         "--val_data=books:books.txt,code:code.txt", "--eval_tasks=task.jsonl"]
MODEL = {"model_type": "llama", "vocab_size": 256, "max_position_embeddings": 32,
         "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
         "num_attention_heads": 2}
KEYS = ["lr", "grad_norm", "tokens_per_second", "mfu"]

# Runs in the page, after its own script, and leaves what it finds in the document.
PROBE = r"""
<script>
window.addEventListener('error', (event) => problems.push(String(event.message)));
const problems = [], found = [];
function pointsOf(d) {
  return [...d.matchAll(/[ML](-?[\d.]+) (-?[\d.]+)/g)].map((m) => [Number(m[1]), Number(m[2])]);
}
function pointer(chart, type, x) {
  const box = chart.plot.getBoundingClientRect();
  chart.plot.dispatchEvent(new PointerEvent(type, { bubbles: true, button: 0, pointerId: 1,
      clientX: box.left + x, clientY: box.top + 60 }));
}
// How far the line is from the values, in pixels.
function farthest(chart, series) {
  chart.series.forEach((other) => { if (other !== series) chart.hidden.add(other); });
  chart.draw();
  const line = pointsOf(chart.svg.querySelector('path').getAttribute('d'));
  chart.hidden.clear();
  const inside = series.px.map((x, i) => [x, series.curve.y[i]]).filter(([, y]) => y !== null &&
      (!chart.logY || y > 0)).filter(([x]) => !view.logX || x > 0);
  if (view.from !== null) return line.length;
  if (line.length !== inside.length) return Infinity;
  return Math.max(0, ...line.map(([x, y], i) => Math.max(
      Math.abs(x - chart.x(inside[i][0])), Math.abs(y - chart.y(inside[i][1])))));
}
function probe() {
  for (const chart of charts) {
    for (const series of chart.series) {
      const hovered = series.px.map((x) => { view.hover = x; return chart.value(series); });
      found.push({ run: series.run.name, chart: series.curve.chart, name: series.curve.name,
          points: hovered.map((row, i) => row === null ? [series.curve.x[i], null] : [row.step, row.y]),
          means: series.curve.thinned ? series.curve.means.length : 0,
          counts: series.curve.counts.reduce((a, b) => a + b, 0), far: farthest(chart, series) });
    }
  }
  view.hover = null;
  // A log scale, a zoom by the pointer and back, and the legend of what is under the pointer.
  const first = charts[0];
  first.logButton.click();
  const farLog = farthest(first, first.series[0]);
  first.logButton.click();
  pointer(first, 'pointermove', 300);
  const tip = first.tip.textContent;
  first.plot.setPointerCapture = () => {};
  const range = [first.x.invert(200), first.x.invert(400)];
  pointer(first, 'pointerdown', 200);
  pointer(first, 'pointermove', 300);
  pointer(first, 'pointerup', 400);
  const zoomed = [view.from, view.to];
  first.plot.dispatchEvent(new MouseEvent('dblclick', { bubbles: true }));
  return { found, tip, farLog, range, zoomed, whole: view.from === null,
      text: document.getElementById('page').innerText, loaded, problems,
      wide: document.documentElement.scrollWidth - document.documentElement.clientWidth };
}
const loaded = performance.now();  // since the page was asked for
view.smoothing = 0;
charts.forEach((chart) => chart.series.forEach((series) => { if (!series.curve.thinned) series.smooth = false; }));
update();
const result = probe();
const pre = document.createElement('pre');
pre.id = 'probe';
pre.textContent = JSON.stringify(result).replace(/</g, '\\u003c').replace(/&/g, '\\u0026').replace(/>/g, '\\u003e');
document.body.append(pre);
</script>
"""


class Browser:
    def __init__(self, program, work):
        self._program, self._work = program, work

    def _call(self, page, *flags):
        done = subprocess.run(
            [self._program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
             "--enable-logging=stderr", "--v=0", *flags,
             page.as_uri()], capture_output=True, text=True, timeout=120)
        said = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
        if said:
            sys.exit(f"{page.name}: on the console: {said}")
        return done.stdout

    def _changed(self, page, script):
        copy = self._work / f"probed-{page.parent.name}-{page.name}"
        copy.write_text(page.read_text().replace("</body>", script + "</body>"))
        return copy

    def probe(self, page):
        dom = self._call(self._changed(page, PROBE), "--dump-dom", "--window-size=1280,900")
        found = re.search(r'<pre id="probe">(.*?)</pre>', dom, re.DOTALL)
        if not found:
            sys.exit(f"{page}: the script failed")
        return json.loads(found[1])

    def screenshot(self, page, name, width, height, theme="light"):
        copy = self._changed(page, f"<script>theme('{theme}'); draw();</script>")
        self._call(copy, f"--window-size={width},{height}",
                   f"--screenshot={self._work / name}.png")

    def print(self, page, name):
        self._call(page, "--no-pdf-header-footer", f"--print-to-pdf={self._work / name}.pdf")


def write_inputs(work):
    (work / "model.json").write_text(json.dumps(MODEL))
    (work / "books.txt").write_text("".join(f"line {i * i} of the book\n" for i in range(900)))
    (work / "code.txt").write_text("".join(f"x = {i * 7}; /* Üß */\n" for i in range(900)))
    question = {"context": "line ", "choices": ["16", "of"], "answer": 0}
    (work / "task.jsonl").write_text(json.dumps(question) + "\n")


def train(program, work, name, *flags):
    return subprocess.Popen([str(program), *FLAGS, *flags, f"--out=runs/{name}"], cwd=work,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            errors="replace")


def finish(process, code=0):
    output, _ = process.communicate()
    if process.returncode != code:
        sys.exit(f"the training ended with {process.returncode}: {output}")


def wait_for_step(run, step):
    for _ in range(600):
        log = run / "metrics.jsonl"
        if log.exists() and f'{{"step":{step},' in log.read_text():
            return
        time.sleep(0.05)
    sys.exit(f"{run} has no step {step}")


def logged(run):
    """(chart, name) -> [(step, value)] of metrics.jsonl."""
    curves = collections.defaultdict(list)
    for text in (run / "metrics.jsonl").read_text().splitlines(keepends=True):
        if not text.endswith("\n"):
            continue
        line = json.loads(text)
        add = lambda chart, name, value: curves[chart, name].append((line["step"], value))
        if "val_loss" in line:
            name = line.get("val_data")
            add("validation" if name else "loss", name or "validation", line["val_loss"])
            if "val_bits_per_byte" in line:
                add("bits_per_byte", name or "", line["val_bits_per_byte"])
        elif "eval_task" in line:
            add("tasks", line["eval_task"], line["acc"])
            add("tasks", line["eval_task"] + ", normalized", line["acc_norm"])
        else:
            add("loss", "training", line["loss"])
            for key in KEYS:
                if key in line:
                    add(key, "", line[key])
            for name, source in line.get("sources", {}).items():
                add("sources", name, source["loss"])
    return curves


def compare(what, result, runs, running=False):
    """`runs`: what the page calls a run -> its folder."""
    if result["problems"] or result["wide"] > 0:
        sys.exit(f"{what}: {result['problems']}, {result['wide']} pixels too wide")
    drawn = {(one["run"], one["chart"], one["name"]): one for one in result["found"]}
    wanted = {(name, *key): points for name, run in runs.items()
              for key, points in logged(run).items()}
    if set(drawn) != set(wanted):
        sys.exit(f"{what}: curves {sorted(set(drawn) ^ set(wanted))} are there or not")
    for key, one in drawn.items():
        points = [tuple(point) for point in one["points"]]
        log = wanted[key][:len(points)] if running else wanted[key]
        if points != log:
            sys.exit(f"{what}: {key} is {points[:3]}.. of {len(points)}, not {log[:3]}..")
        if one["far"] > 0.051:  # pixels are written with one digit
            sys.exit(f"{what}: the line of {key} is {one['far']} pixels away")
    if result["farLog"] > 0.051 or not result["whole"]:
        sys.exit(f"{what}: log axis {result['farLog']}, whole {result['whole']}")
    if any(abs(a - b) > 1e-6 * abs(b) for a, b in zip(result["zoomed"], result["range"])):
        sys.exit(f"{what}: zoomed to {result['zoomed']}, not {result['range']}")
    if "step" not in result["tip"]:
        sys.exit(f"{what}: a pointer shows {result['tip']}")
    print(f"{what}: {len(drawn)} curves of {sum(len(o['points']) for o in drawn.values())} values agree")


def draw(program, work, page, *runs):
    subprocess.run([str(program), *[str(run) for run in runs], f"--out={page}"], cwd=work,
                   check=True, stdout=subprocess.DEVNULL)
    return page


def write_long_log(run, steps):
    """Returns the losses."""
    run.mkdir(parents=True)
    noise = random.Random(1)
    losses = {}
    with open(run / "metrics.jsonl", "w") as log:
        for step in range(1, steps + 1):
            losses[step] = 2 + 8 / math.sqrt(step) + noise.gauss(0, 0.1)
            log.write(json.dumps({
                "step": step, "loss": losses[step], "lr": 1e-3 * (1 - step / steps) + 1e-5,
                "grad_norm": abs(noise.gauss(1, 0.3)), "tokens": 524288,
                "seconds": 1 + noise.random(), "tokens_per_second": 5e5 * (1 - noise.random() / 9),
                "epoch": step / steps * 3, "mfu": 0.41 + noise.random() / 50,
                "sources": {name: {"tokens": 262144, "loss": losses[step] + noise.gauss(d, 0.1)}
                            for name, d in (("books", 0.2), ("code", -0.4))}},
                separators=(",", ":")) + "\n")
            if step % 1000 == 0:
                log.write(f'{{"step":{step},"val_loss":{losses[step] + 0.1}}}\n')
    return losses


def check_long_run(options, work, browser):
    run = work / "runs" / "long"
    losses = write_long_log(run, 1000000)
    begin = time.monotonic()
    page = draw(options.report, work, work / "long.html", run)
    seconds = time.monotonic() - begin
    result = browser.probe(page)
    loss = next(o for o in result["found"] if o["chart"] == "loss" and o["name"] == "training")
    points = dict(map(tuple, loss["points"]))
    lowest, highest = min(losses, key=losses.get), max(losses, key=losses.get)
    if any(losses[step] != value for step, value in points.items()):
        sys.exit("long: a point is not the log's")
    if lowest not in points or highest not in points or loss["counts"] != len(losses):
        sys.exit("long: an extreme is missing")
    print(f"long: {len(points)} of {len(losses)} losses, page of {page.stat().st_size} bytes, read "
          f"and written in {seconds:.2f} s, drawn {result['loaded'] / 1000:.2f} s after it was asked "
          "for")
    if page.stat().st_size >= 3e6 or result["problems"]:
        sys.exit("long: too long")
    browser.screenshot(page, "long", 1280, 1500)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--train", type=pathlib.Path, default="bazel-bin/tools/train")
    parser.add_argument("--report", type=pathlib.Path, default="bazel-bin/tools/report")
    parser.add_argument("--chromium", default="chromium")
    parser.add_argument("--work", type=pathlib.Path)
    options = parser.parse_args()
    options.train, options.report = options.train.resolve(), options.report.resolve()
    work = (options.work or pathlib.Path(tempfile.mkdtemp())).resolve()
    work.mkdir(parents=True, exist_ok=True)
    browser = Browser(options.chromium, work)
    write_inputs(work)

    one, two = work / "runs" / "one", work / "runs" / "two"
    stopped = train(options.train, work, "one", "--threads=1", "--steps=4000")
    wait_for_step(one, 150)
    stopped.send_signal(signal.SIGINT)
    finish(stopped, 3)
    finish(train(options.train, work, "one", "--threads=1", "--steps=900"))
    result = browser.probe(one / "report.html")
    compare("one run", result, {"runs/one": one})
    for word in ("stopped", "resumed", "finished", "most that the process held"):
        if word not in result["text"]:
            sys.exit(f"one run: the page doesn't tell {word}")

    finish(train(options.train, work, "two", "--steps=600", "--tp=2", "--lr=0.002", "--seed=7"))
    result = browser.probe(two / "report.html")
    compare("two ranks", result, {"runs/two": two})
    if "Formula and count" not in result["text"]:
        sys.exit("two ranks: what was communicated is missing")
    both = draw(options.report, work, work / "both.html", one, two)
    result = browser.probe(both)
    compare("both runs", result, {str(one): one, str(two): two})
    differing = result["text"].partition("What differs")[2].partition("Results")[0]
    for key in ("lr", "seed", "tp"):
        if not re.search(rf"^{key}\t", differing, re.MULTILINE):
            sys.exit(f"both runs: {key} does not differ: {differing}")

    running = train(options.train, work, "running", "--threads=1", "--steps=100000")
    wait_for_step(work / "runs" / "running", 100)
    page = draw(options.report, work, work / "running.html", work / "runs" / "running", one)
    compare("a running one", browser.probe(page),
            {str(work / "runs" / "running"): work / "runs" / "running", str(one): one}, running=True)
    running.send_signal(signal.SIGINT)
    finish(running, 3)

    for name, page, width, height, theme in (
            ("light", one / "report.html", 1280, 2700, "light"),
            ("dark", one / "report.html", 1280, 2700, "dark"),
            ("phone", one / "report.html", 390, 4200, "light"),
            ("both", both, 1280, 3600, "light"), ("both-dark", both, 1280, 3600, "dark")):
        browser.screenshot(page, name, width, height, theme)
    browser.print(one / "report.html", "printed")
    check_long_run(options, work, browser)
    print(f"screenshots are in {work}")


if __name__ == "__main__":
    main()
