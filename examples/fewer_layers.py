"""Writes a smaller model: a larger one without its middle layers, which it can do without best.

    python examples/fewer_layers.py smollm2-135m-instruct 4 6 smollm2-10-layers

keeps the first 4 and the last 6 layers and writes them, with the tokenizer, into the folder `smollm2-10-layers`, which
`--set model.base=smollm2-10-layers` then names. It is no good model before it is trained further; it is a smaller one
of the same family, for studies such as `leakage-size.toml`.
"""

import argparse
from pathlib import Path
from typing import cast

from torch.nn import Module, ModuleList

from confide.model.load import load_base_model


def write_fewer_layers(model: str, num_first: int, num_last: int, folder: Path) -> None:
    """Keeps the first and the last layers of a model of Llama's form.

    Args:
        model: as in `model.base`.
        num_first: layers kept at the beginning, >= 0.
        num_last: layers kept at the end, >= 0; at least one together, and fewer than the model has.
        folder: where the smaller model goes; must not exist.
    """
    base = load_base_model(model, device="cpu", dtype="float32")
    decoder = cast(Module, getattr(base.module, "model", base.module))
    layers = list(cast(ModuleList, getattr(decoder, "layers", ())))
    if not layers:
        raise SystemExit(f"{model} is not of Llama's form, with layers under model.layers: take another model")
    if min(num_first, num_last) < 0 or not 0 < num_first + num_last < len(layers):
        raise SystemExit(f"{model} has {len(layers)} layers: keep at least one, and fewer than that")
    decoder.layers = ModuleList(layers[:num_first] + layers[len(layers) - num_last :])
    base.module.config.num_hidden_layers = num_first + num_last
    folder.mkdir(parents=True)
    base.module.save_pretrained(folder)
    base.tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("num_first", type=int)
    parser.add_argument("num_last", type=int)
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args()
    write_fewer_layers(asked.model, asked.num_first, asked.num_last, asked.folder)
