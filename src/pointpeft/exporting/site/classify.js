// From a file to classes: the model runs here, nothing leaves this machine.

import * as ort from "./ort.wasm.min.mjs";
import { prepare } from "./prepare.js";
import { readShape } from "./read.js";

const here = new URL("./", import.meta.url).href;
ort.env.wasm.wasmPaths = here;
ort.env.wasm.numThreads = 1; // more need headers that not every server sends

/** The model and what it says of itself. */
export async function loadModel() {
  const properties = await (await fetch(`${here}model.json`)).json();
  const session = await ort.InferenceSession.create(`${here}model.onnx`);
  return { properties, session };
}

/** Classes with their probabilities, the most probable first, and notes on the shape. */
export async function classify(model, name, buffer) {
  const { properties, session } = model;
  const { input, notes } = prepare(readShape(name, buffer), properties.input);
  const points = new ort.Tensor("float32", input, [1, properties.input.num_points, 3]);
  const { probabilities } = await session.run({ points });
  const ranking = properties.class_names
    .map((label, place) => ({ label, probability: probabilities.data[place] }))
    .sort((a, b) => b.probability - a.probability);
  return { ranking, notes };
}
