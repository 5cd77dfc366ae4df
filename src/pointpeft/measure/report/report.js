"use strict";

// Draws what the page holds: every figure is JSON beside the element that shows it.

const CONFIG = { displayModeBar: false, responsive: true, scrollZoom: false };
const colours = getComputedStyle(document.documentElement);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const content = script => JSON.parse(script.textContent.replace(
  /var\((--[\w-]+)\)/g, (_, name) => colours.getPropertyValue(name).trim()));

// Plotly draws in steps: what is done to a plot waits for what was begun before.
const after = (plot, step) => { plot.work = (plot.work ?? Promise.resolve()).then(step); };

function drawFigures(within) {
  for (const figure of all(".figure", within)) {
    const [script, plot] = figure.children, { data, layout } = content(script);
    after(plot, () => Plotly.react(plot, data, layout, CONFIG));
  }
}

// ---- Shapes in 3D ----

let camera = {
  up: { x: 0, y: 1, z: 0 }, eye: { x: 0.8, y: 0.62, z: 1.33 }, center: { x: 0, y: 0, z: 0 },
};
const CLOUD_LAYOUT = { margin: { l: 0, r: 0, t: 0, b: 0 }, paper_bgcolor: "rgba(0,0,0,0)",
  plot_bgcolor: "rgba(0,0,0,0)", showlegend: false };

function drawCloud(plot, { data, reach }) {
  const axis = { visible: false, range: [-reach, reach] };
  const scene = { xaxis: axis, yaxis: axis, zaxis: axis, aspectmode: "cube", camera, dragmode: "orbit" };
  return Plotly.react(plot, data, { ...CLOUD_LAYOUT, scene }, CONFIG)
    .then(() => plot.on("plotly_relayout", change => turnAll(plot, change["scene.camera"])));
}

// Shapes are easier to compare from the same side.
function turnAll(turned, to) {
  if (!to || to === camera) return;
  camera = to;
  for (const plot of all(".scene:not([hidden]) .plot", turned.closest(".gallery"))) {
    if (plot !== turned) Plotly.relayout(plot, { "scene.camera": to });
  }
}

// Browsers draw few shapes in 3D at a time, so those that are not seen are taken away.
function setUpGallery(gallery) {
  const [previous, next] = all(".steps button", gallery), select = gallery.querySelector("select");
  const scenes = all(".scene", gallery);
  if (!scenes.length) return;
  const clouds = content(gallery.querySelector("script"));
  gallery.clear = () => scenes.filter(scene => !scene.hidden).forEach(scene => {
    all(".plot", scene).forEach(plot => after(plot, () => Plotly.purge(plot)));
    scene.hidden = true;
  });
  gallery.show = (place = Number(select.value)) => {
    gallery.clear();
    select.value = place;
    previous.disabled = place === 0;
    next.disabled = place === scenes.length - 1;
    scenes[place].hidden = false;
    for (const plot of all(".plot", scenes[place])) {
      after(plot, () => drawCloud(plot, clouds[plot.dataset.cloud]));
    }
  };
  select.onchange = () => gallery.show();
  previous.onclick = () => gallery.show(Number(select.value) - 1);
  next.onclick = () => gallery.show(Number(select.value) + 1);
}

// ---- Tables and keys ----

function setUpTable(table) {
  const body = table.tBodies[0];
  all("th button", table).forEach(button => button.onclick = () => {
    const heading = button.parentElement, place = heading.cellIndex;
    const down = heading.getAttribute("aria-sort") === "ascending";
    const value = row => row.cells[place].dataset.value;
    const order = (a, b) => value(a).localeCompare(value(b), "en", { numeric: true });
    const number = (a, b) => value(a) - value(b);
    all("th", table).forEach(each => each.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...body.rows].sort(heading.className ? number : order);
    body.append(...(down ? rows.reverse() : rows));
  });
}

function setUpKey(button) {
  button.onclick = () => {
    const shown = button.ariaPressed !== "true", label = Number(button.dataset.label);
    button.ariaPressed = String(shown);
    for (const plot of all(".plot", button.closest("section"))) {
      const traces = () => plot.data.flatMap((trace, i) => trace.meta === label ? [i] : []);
      after(plot, () => Plotly.restyle(plot, { visible: shown }, traces()));
    }
  };
}

// ---- The page ----

function showRun(place) {
  all(".run").forEach((run, i) => {
    run.hidden = i !== place;
    const galleries = all(".gallery", run).filter(gallery => gallery.show);
    if (run.hidden) galleries.forEach(gallery => gallery.clear());
    else {
      drawFigures(run);
      galleries.forEach(gallery => gallery.show());
      all(".key button", run).forEach(button => { button.ariaPressed = "true"; });
    }
  });
}

all(".gallery").forEach(setUpGallery);
all("table.sortable").forEach(setUpTable);
all(".key button").forEach(setUpKey);
all("#curves").forEach(drawFigures);
const method = document.getElementById("method");
if (method) method.onchange = () => showRun(Number(method.value));
showRun(method ? Number(method.value) : 0);
matchMedia("(prefers-color-scheme: dark)").onchange = () => location.reload();
document.documentElement.dataset.state = "drawn";
