// The page: a file that is chosen, or dropped anywhere on it, and a list of classes.

import { classify, loadModel } from "./classify.js";
import { SUFFIXES } from "./read.js";

const SHOWN = 5; // classes
const [picker, state, results, classes] = ["picker", "state", "results", "classes"].map((id) =>
  document.getElementById(id),
);
const page = document.documentElement, loading = loadModel();
let latest = 0; // number of the file that was opened last

picker.accept = SUFFIXES.map((suffix) => `.${suffix}`).join();
picker.addEventListener("change", () => {
  open([...picker.files]);
  picker.value = ""; // so that the same file can be chosen again
});
// A file dropped beside the box would otherwise take the place of the page.
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  page.classList.add("dragging");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) page.classList.remove("dragging");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  page.classList.remove("dragging");
  open([...event.dataTransfer.files]);
});

loading.then(ready, (error) =>
  say(`the model cannot be loaded: ${error.message}; serve this folder over HTTP`, true),
);

function ready({ properties: { class_names, input } }) {
  classes.textContent = class_names.join(", ");
  page.dataset.state = "ready";
  if (!latest) say(`ready; ${input.up_axis} is taken for the axis that points up`);
}

async function open(files) {
  if (!files.length) return;
  const [file] = files, number = ++latest;
  say(`${file.name} ...`);
  results.replaceChildren();
  let told;
  try {
    if (files.length > 1) throw new Error(`one of ${files.length} files: open them one by one`);
    const model = await loading;
    const { ranking, notes } = await classify(model, file.name, await file.arrayBuffer());
    told = () => {
      show(ranking);
      say([file.name, ...notes].join("; "));
    };
  } catch (error) {
    told = () => say(`${file.name}: ${error.message}`, true);
  }
  if (number === latest) told(); // else another file was opened meanwhile
}

function show(ranking) {
  results.replaceChildren(
    ...ranking.slice(0, SHOWN).map(({ label, probability }) => {
      const row = document.createElement("li"), bar = document.createElement("meter");
      bar.value = probability;
      bar.setAttribute("aria-label", label);
      row.append(label, bar, `${(100 * probability).toFixed(1)} %`);
      return row;
    }),
  );
}

function say(text, isError = false) {
  state.textContent = text;
  state.classList.toggle("error", isError);
}
