// The page: a place to drop a file on, and a list of classes.

import { classify, loadModel } from "./classify.js";
import { SUFFIXES } from "./read.js";

const SHOWN = 5; // classes
const [drop, picker, state, results] = ["drop", "picker", "state", "results"].map((id) =>
  document.getElementById(id),
);
picker.accept = SUFFIXES.map((suffix) => `.${suffix}`).join();

function say(text, isError = false) {
  state.textContent = text;
  state.classList.toggle("error", isError);
}

function show({ ranking, notes }) {
  results.replaceChildren(
    ...ranking.slice(0, SHOWN).map(({ label, probability }) => {
      const row = document.createElement("li"), bar = document.createElement("meter");
      bar.value = probability;
      row.append(label, bar, `${(100 * probability).toFixed(1)} %`);
      return row;
    }),
  );
  if (notes.length) say(`${state.textContent}; ${notes.join("; ")}`);
}

async function open(model, file) {
  say(`${file.name} ...`);
  results.replaceChildren();
  try {
    const found = await classify(model, file.name, await file.arrayBuffer());
    say(file.name);
    show(found);
  } catch (error) {
    say(`${file.name}: ${error.message}`, true);
  }
}

try {
  const model = await loadModel();
  const { class_names, input } = model.properties;
  document.getElementById("classes").textContent = class_names.join(", ");
  say(`ready; ${input.up_axis} is taken for the axis that points up`);
  document.documentElement.dataset.state = "ready";
  picker.addEventListener("change", () => picker.files[0] && open(model, picker.files[0]));
  drop.addEventListener("dragover", (event) => event.preventDefault());
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files[0]) open(model, event.dataTransfer.files[0]);
  });
} catch (error) {
  say(`the model cannot be loaded: ${error.message}; serve this folder over HTTP`, true);
}
