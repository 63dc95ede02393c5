#!/usr/bin/env python3
"""Shows that TensorBoard shows what a run logged.

    pip install tensorboard
    bazel build //tools:train
    python3 tests/tensorboard_oracle.py [--train=bazel-bin/tools/train] [--work=DIR]

Trains a small model on two sources with two validation sets, a task and samples. Then it trains it
again under the eyes of a running TensorBoard, kills that run between two checkpoints, and lets it go
on. Of both runs, what the server tells a browser is compared with metrics.jsonl: the tags, the
steps and the values of each chart, rounded to f32, and the steps of the samples. The server that
saw the kill still shows how long the steps took that were done again; one that is started later
does not. What TensorBoard's own reader finds in the event files, whose checksums it compares, is
compared, too.

    python3 tests/tensorboard_oracle.py --golden=train/tensorboard/testdata/events.golden

writes the events that //train/tensorboard:tensorboard_test makes, with TensorBoard's own code.
"""

import argparse
import collections
import json
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

STEPS = 400
FLAGS = ["--seq_len=16", "--micro_batch=4", "--threads=1", "--warmup_steps=2", "--save_every=40",
         "--eval_every=20", "--eval_batches=2", "--sample_every=100", "--tensorboard",
         "--model=./model.json", "--train_data=books:books.txt:0.7,code:code.txt:0.3",
         "--val_data=books:books.txt,code:code.txt", "--eval_tasks=task.jsonl"]
MODEL = {"model_type": "llama", "vocab_size": 256, "max_position_embeddings": 32,
         "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
         "num_attention_heads": 2}


def write_inputs(work):
    (work / "model.json").write_text(json.dumps(MODEL))
    (work / "books.txt").write_text("".join(f"line {i * i} of the book\n" for i in range(900)))
    (work / "code.txt").write_text("".join(f"x = {i * 7}; /* Üß */\n" for i in range(900)))
    question = {"context": "line ", "choices": ["16", "of"], "answer": 0}
    (work / "task.jsonl").write_text(json.dumps(question) + "\n")


def train(program, work, name):
    return subprocess.Popen([str(program), *FLAGS, f"--steps={STEPS}", f"--out=runs/{name}"],
                            cwd=work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process):
    output, _ = process.communicate()
    if process.returncode != 0:
        sys.exit(f"train ended with {process.returncode}:\n{output}")


def f32(value):
    return float("nan") if value is None else struct.unpack("f", struct.pack("f", value))[0]


def expected(run):
    """Tag -> [(step, value)] of metrics.jsonl, written anew from docs/training.md."""
    names = {"loss": "loss", "lr": "learning_rate", "grad_norm": "grad_norm", "tokens": "tokens",
             "targets": "targets", "seconds": "seconds", "tokens_per_second": "tokens_per_second",
             "epoch": "epoch", "mfu": "mfu"}
    series = collections.defaultdict(list)
    for line in (run / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)

        def add(tag, key, values=record, step=record["step"]):
            if key in values:
                series[tag].append((step, f32(values[key])))

        if "val_loss" in record:
            prefix = "validation/" + (record["val_data"] + "/" if "val_data" in record else "")
            add(prefix + "loss", "val_loss")
            add(prefix + "bits_per_byte", "val_bits_per_byte")
        elif "eval_task" in record:
            for key in ("acc", "acc_norm", "examples"):
                add(f"tasks/{record['eval_task']}/{key}", key)
        else:
            for key, name in names.items():
                add("train/" + name, key)
            for source, values in record.get("sources", {}).items():
                for key in ("loss", "tokens", "targets"):
                    add(f"sources/{source}/{key}", key, values)
    return dict(series)


class Server:
    """A TensorBoard that shows a folder."""

    def __init__(self, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tensorboard.main", f"--logdir={folder}", "--host=127.0.0.1",
             f"--port={self._port}", "--reload_interval=1",
             "--samples_per_plugin=scalars=100000,text=100000"], stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)

    def get(self, path, **query):
        url = f"http://127.0.0.1:{self._port}/data/{path}?{urllib.parse.urlencode(query)}"
        for _ in range(100):
            try:
                with urllib.request.urlopen(url) as answer:
                    return json.load(answer)
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.5)
        sys.exit(f"no answer to {url}")

    def tags(self, plugin, run):
        return set(self.get(f"plugin/{plugin}/tags").get(run, {}))

    def scalars(self, run):
        return {tag: [(step, value) for _, step, value in
                      self.get("plugin/scalars/scalars", run=run, tag=tag)]
                for tag in self.tags("scalars", run)}

    def samples(self, run):
        if "sample" not in self.get("plugin/text/tags").get(run, []):
            return []
        return self.get("plugin/text/text", run=run, tag="sample")

    def stop(self):
        self._process.terminate()
        self._process.wait()


def same(a, b):
    """Whether two lists of (step, value) are the same; JSON may have rounded, and NaN is NaN."""
    return len(a) == len(b) and all(
        i == j and (x == y or (x != x and y != y) or f32(x) == f32(y)) for (i, x), (j, y) in zip(a, b))


def wait_for(get, is_there):
    """What `get` returns when that is there."""
    for _ in range(30):
        value = get()
        if is_there(value):
            return value
        time.sleep(1)
    sys.exit(f"the server shows {value}")


def compare(what, actual, wanted):
    problems = [f"no {tag}" for tag in wanted.keys() - actual.keys()]
    problems += [f"{tag} is too much" for tag in actual.keys() - wanted.keys()]
    problems += [f"{tag}: {len(actual[tag])} values, first {actual[tag][:3]}, not "
                 f"{len(wanted[tag])}, first {wanted[tag][:3]}"
                 for tag in wanted.keys() & actual.keys() if not same(actual[tag], wanted[tag])]
    if problems:
        sys.exit(f"{what}: " + "; ".join(sorted(problems)))
    print(f"{what}: {len(wanted)} charts of {sum(map(len, wanted.values()))} values agree")


def read_files(run):
    """Tag -> [(step, value)] of what TensorBoard's reader finds, and the texts."""
    from tensorboard.backend.event_processing import event_accumulator
    from tensorboard.util import tensor_util
    reader = event_accumulator.EventAccumulator(
        str(run / "tensorboard"), purge_orphaned_data=False,
        size_guidance={event_accumulator.SCALARS: 0, event_accumulator.TENSORS: 0})
    reader.Reload()
    tags = reader.Tags()
    scalars = {tag: [(e.step, e.value) for e in reader.Scalars(tag)] for tag in tags["scalars"]}
    texts = {tag: [(e.step, tensor_util.make_ndarray(e.tensor_proto).item().decode())
                   for e in reader.Tensors(tag)] for tag in tags["tensors"]}
    for tag in tags["tensors"]:
        metadata = reader.SummaryMetadata(tag).plugin_data.plugin_name
        if metadata == "scalars":
            scalars[tag] = [(step, float(value)) for step, value in texts.pop(tag)]
    return scalars, texts


SAMPLE_STEPS = list(range(100, STEPS + 1, 100))


def check_files(work, name):
    run = work / "runs" / name
    scalars, texts = read_files(run)
    compare(f"{name}, files", scalars, expected(run))
    if list(texts) != ["sample"] or [step for step, _ in texts["sample"]] != SAMPLE_STEPS:
        sys.exit(f"{name}, files: samples of {texts}")


def check_server(server, work, name, leave_out=()):
    def of_interest(series):
        return {tag: values for tag, values in series.items() if tag not in leave_out}
    show = f"{name}/tensorboard"
    shown = wait_for(lambda: server.samples(show),
                     lambda samples: [sample["step"] for sample in samples] == SAMPLE_STEPS)
    compare(f"{name}, server", of_interest(server.scalars(show)),
            of_interest(expected(work / "runs" / name)))
    if "<code>" not in shown[0]["text"]:
        sys.exit(f"{name}, server: samples of {shown}")
    return shown


def main(arguments):
    work = pathlib.Path(arguments.work or tempfile.mkdtemp())
    work.mkdir(exist_ok=True)
    write_inputs(work)
    program = pathlib.Path(arguments.train).resolve()
    finish(train(program, work, "whole"))
    server = Server(work / "runs")
    try:
        killed = train(program, work, "killed")
        metrics = work / "runs/killed/metrics.jsonl"
        while not metrics.exists() or metrics.read_text().count('"grad_norm"') < 150:
            time.sleep(0.001)
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        # For the server to show what is about to be cut.
        steps = [step for step, _ in expected(work / "runs/killed")["train/loss"]]
        wait_for(lambda: server.scalars("killed/tensorboard").get("train/loss", [])[-1:],
                 lambda last: last and last[0][0] == steps[-1])
        finish(train(program, work, "killed"))
        print(f"killed in step {steps[-1] + 1}, and the server has shown the one before")
        check_server(server, work, "killed", ("train/seconds", "train/tokens_per_second", "train/mfu"))
    finally:
        server.stop()
    server = Server(work / "runs")
    try:
        for name in ("whole", "killed"):
            check_files(work, name)
            samples = check_server(server, work, name)
        print(f"samples of steps {SAMPLE_STEPS}; the last is shown as\n{samples[-1]['text']}")
    finally:
        server.stop()


def golden(path):
    from tensorboard.compat.proto import event_pb2, summary_pb2
    from tensorboard.plugins.text import metadata
    from tensorboard.summary.writer import record_writer
    from tensorboard.util import tensor_util
    value = summary_pb2.Summary.Value
    scalars = summary_pb2.Summary(value=[value(tag="train/loss", simple_value=0.1),
                                         value(tag="sources/Üß/loss", simple_value=-3e38)])
    text = summary_pb2.Summary(value=[value(
        tag="sample", tensor=tensor_util.make_tensor_proto("**prompt** Üß\n"),
        metadata=metadata.create_summary_metadata(display_name="", description=""))])
    events = [event_pb2.Event(wall_time=1.5, file_version="brain.Event:2"),
              event_pb2.Event(wall_time=1796200000.25, step=1, summary=scalars),
              event_pb2.Event(wall_time=1796200001, step=2**40, summary=text)]
    with open(path, "wb") as file:
        writer = record_writer.RecordWriter(file)
        for event in events:
            writer.write(event.SerializeToString())
        writer.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", default="bazel-bin/tools/train")
    parser.add_argument("--work")
    parser.add_argument("--golden")
    flags = parser.parse_args()
    if flags.golden:
        golden(flags.golden)
    else:
        main(flags)
