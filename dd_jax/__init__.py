"""dd_jax: dataset distillation in JAX.

import dd_jax as dd
data   = dd.load_dataset("digits")
model  = dd.models.mlp(data)
method = dd.methods.unrolled(model, num_batches=1, num_epochs=10)
run    = dd.distill(method, data, num_outer_steps=1500, out="runs/digits")
print(dd.evaluate(run.distilled, model, data))
"""

from dd_jax import methods, models
from dd_jax.data import dataset_from_arrays, graph_from_arrays, load_dataset, to_model, to_pixels
from dd_jax.errors import DataError, DataWarning, DDJaxError, DivergedError, OptionError, RunError
from dd_jax.evaluation import (
    PROTOCOLS,
    Evaluation,
    ProtocolWarning,
    baselines,
    cross_architecture,
    dc_bench,
    dd_ranking,
    evaluate,
    storage_bytes,
    train_on,
)
from dd_jax.inner import Regression, Training
from dd_jax.runs import (
    Estimate,
    Exported,
    Run,
    compare,
    distill,
    distill_many,
    estimate,
    export,
    pretrain,
    pretrain_experts,
    save_tiles,
    use_cores,
)
from dd_jax.runs import write_report as report
from dd_jax.storage import import_distilled, load_distilled, load_experts, load_pretrained, save_distilled
from dd_jax.synthetic import distilled_from_arrays, share_images
from dd_jax.types import Batch, Dataset, DistilledData, Edges, Experts, Nodes, Pretrained, Protocol, Transform

__version__ = "0.2.0"

__all__ = [
    "PROTOCOLS",
    "Batch",
    "DDJaxError",
    "DataError",
    "DataWarning",
    "Dataset",
    "DistilledData",
    "DivergedError",
    "Edges",
    "Estimate",
    "Evaluation",
    "Experts",
    "Exported",
    "Nodes",
    "OptionError",
    "Pretrained",
    "Protocol",
    "ProtocolWarning",
    "Regression",
    "Run",
    "RunError",
    "Training",
    "Transform",
    "__version__",
    "baselines",
    "compare",
    "cross_architecture",
    "dataset_from_arrays",
    "dc_bench",
    "dd_ranking",
    "distill",
    "distill_many",
    "distilled_from_arrays",
    "estimate",
    "evaluate",
    "export",
    "graph_from_arrays",
    "import_distilled",
    "load_dataset",
    "load_distilled",
    "load_experts",
    "load_pretrained",
    "methods",
    "models",
    "pretrain",
    "pretrain_experts",
    "report",
    "save_distilled",
    "save_tiles",
    "share_images",
    "storage_bytes",
    "to_model",
    "to_pixels",
    "train_on",
    "use_cores",
]
