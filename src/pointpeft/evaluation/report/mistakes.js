"use strict";

// Wrongly classified shapes in 3D, beside their neighbours; uses the helpers of report.js.

const webgl = (() => {
  const context = kind => document.createElement("canvas").getContext(kind);
  try {
    return Boolean(context("webgl2") ?? context("webgl"));
  } catch {
    return false;
  }
})();

function drawMistakes(run) {
  const analysis = run.analysis, mistakes = analysis?.mistakes;
  byId("mistakes").hidden = !analysis?.items;
  if (!analysis?.items) return;
  const listed = mistakes.listed, select = byId("mistake");
  byId("mistakes-view").hidden = !listed.length;
  byId("mistakes-note").textContent = mistakesNote(analysis);
  const name = label => analysis.class_names[label];
  select.replaceChildren(...listed.map((item, i) => el("option", { value: i },
    `${i + 1}. ${name(item.predicted)} instead of ${name(item.label)} (${item.id})`)));
  const show = place => {
    select.value = place;
    byId("previous").disabled = place === 0;
    byId("next").disabled = place === listed.length - 1;
    drawMistake(analysis, listed[place]);
  };
  select.onchange = () => show(Number(select.value));
  byId("previous").onclick = () => show(Number(select.value) - 1);
  byId("next").onclick = () => show(Number(select.value) + 1);
  if (listed.length) show(0);
}

function mistakesNote({ part, items, mistakes }) {
  const of = part === "all" ? `${items}` : `${items} ${part}`;
  if (!mistakes.total) return `There are none: all ${of} shapes were recognised.`;
  const shown = mistakes.listed.length;
  const notes = [`${mistakes.total} of ${of} shapes were taken for another class` + (
    shown < mistakes.total ? `; the ${shown} surest of them are shown.`
      : ", the surest mistakes first.")];
  notes.push(mistakes.listed.some(item => item.neighbours.length)
    ? "Beside each are the training shapes most similar to it before adaptation, as a memory " +
      "bank finds them."
    : "The shapes that the model was trained on are not part of this data, so none are shown " +
      "beside.");
  notes.push(webgl ? "Drag a shape to turn all of them."
    : "This browser offers no WebGL, so the shapes are flat views from the front.");
  return notes.join(" ");
}

function drawMistake(analysis, item) {
  const name = label => analysis.class_names[label];
  byId("verdict").replaceChildren(
    "This is ", el("b", {}, name(item.label)), "; the model says ",
    el("b", {}, name(item.predicted)), ` with a probability of ${percent(item.probability)}.`,
  );
  const clouds = [
    {
      title: name(item.label),
      lines: ["the shape itself", item.id],
      cloud: item.cloud,
      shades: ["#a5cbd6", "#0f4d63"],
    },
    ...item.neighbours.map(near => ({
      title: name(near.label),
      lines: [`similarity ${near.similarity.toFixed(4)}`, near.id],
      cloud: analysis.mistakes.clouds[near.cloud],
      shades: ["#c3ccd5", "#4c5a68"],
    })),
  ];
  const shapes = byId("shapes");
  while (shapes.children.length > clouds.length) {
    Plotly.purge(shapes.lastChild.firstChild);
    shapes.lastChild.remove();
  }
  clouds.forEach(({ title, lines, cloud, shades }, place) => {
    shapes.children[place] ?? shapes.append(shapeFigure());
    const [plot, caption] = shapes.children[place].children;
    caption.replaceChildren(title, ...lines.map(line => el("small", {}, line)));
    drawCloud(plot, cloud, shades);
  });
}

function shapeFigure() {
  return el("div", {}, el("div", { className: "plot" }), el("p"));
}

let camera = {
  up: { x: 0, y: 1, z: 0 }, eye: { x: 0.9, y: 0.7, z: 1.5 }, center: { x: 0, y: 0, z: 0 },
};

// Shaded from the lowest point to the highest, which gives a cloud of dots some depth.
function drawCloud(plot, cloud, shades) {
  const [x, y, z] = [0, 1, 2].map(axis => cloud.filter((_, i) => i % 3 === axis));
  const reach = 1.02 * cloud.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-6);
  const axis = { visible: false, range: [-reach, reach] };
  const margin = { l: 0, r: 0, t: 0, b: 0 };
  const colorscale = shades.map((shade, i) => [i, shade]);
  const marker = { color: y, colorscale, size: webgl ? 2.2 : 3 };
  if (!webgl) {
    const flat = { ...AXIS, ...axis };
    draw(plot, [{ x, y, mode: "markers", marker, hoverinfo: "skip" }],
      { margin, xaxis: flat, yaxis: { ...flat, scaleanchor: "x" } });
    return;
  }
  const scene = {
    xaxis: axis, yaxis: axis, zaxis: axis, aspectmode: "cube", camera, dragmode: "orbit",
  };
  const first = !plot.on;
  draw(plot, [{ type: "scatter3d", x, y, z, mode: "markers", marker, hoverinfo: "skip" }],
    { margin, scene });
  if (first) plot.on("plotly_relayout", change => turnAll(plot, change["scene.camera"]));
}

// Shapes are easier to compare from the same side.
function turnAll(turned, to) {
  if (!to || to === camera) return;
  camera = to;
  for (const { firstChild: plot } of byId("shapes").children) {
    if (plot !== turned) Plotly.relayout(plot, { "scene.camera": to });
  }
}
