"use strict";

// ---- Data and small helpers ----

const page = JSON.parse(document.getElementById("data").textContent);
const byId = id => document.getElementById(id);
const several = page.runs.length > 1;
const DASH = "–";
const INK = "#1d2733", SOFT = "#5b6876", LINE = "#dfe4ea", ACCENT = "#1f6f8b";
const RUN_COLOURS = [ACCENT, "#d1752b", "#7a5ba6", "#3f8f4f", "#b8445a", "#8a6d1f"];
const CLASS_COLOURS = [
  "#4269d0", "#e08a1e", "#d6414a", "#4aa6a0", "#3f8f4f", "#d95fa8", "#8a5fc7", "#8c6244",
  "#6b7785", "#3a9bd9", "#a3a01c", "#1d3f72",
];

// An element with properties and children. Text goes in as text: it is never read as HTML.
function el(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.flat());
  return element;
}

// Plotly reads a little HTML in its texts.
const plain = text => String(text)
  .replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
const short = (text, length = 16) =>
  text.length > length ? `${text.slice(0, length - 1)}…` : text;
const known = value => value !== null && value !== undefined;
const percent = share => known(share) ? `${(100 * share).toFixed(1)} %` : DASH;
const number = value => known(value) ? value.toLocaleString("en") : DASH;

function bytes(value) {
  if (!known(value)) return DASH;
  const power = Math.min(3, Math.floor(Math.log10(Math.max(1, value)) / 3));
  const digits = power ? 1 : 0;
  return `${(value / 1000 ** power).toFixed(digits)} ${["B", "kB", "MB", "GB"][power]}`;
}

function classColour(label, classes) {
  if (classes <= CLASS_COLOURS.length) return CLASS_COLOURS[label];
  // Golden-angle steps: classes beside each other in the list get distant hues.
  return `hsl(${(label * 137.5) % 360} ${55 + (label % 3) * 15}% ${[42, 58, 34][label % 3]}%)`;
}

// ---- Plots ----

const CONFIG = { displayModeBar: false, responsive: true, scrollZoom: false };
const AXIS = { zeroline: false, gridcolor: LINE, linecolor: LINE, fixedrange: true };

function layout(changes = {}) {
  return {
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: SOFT },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 44, r: 10, t: 8, b: 36 },
    hoverlabel: { bgcolor: "#fff", bordercolor: LINE, font: { color: INK } },
    showlegend: false,
    ...changes,
  };
}

const draw = (element, traces, changes) => Plotly.react(element, traces, layout(changes), CONFIG);

// ---- Results ----

function withSpread(value, deviation) {
  if (!known(value) || !known(deviation)) return percent(value);
  return `${(100 * value).toFixed(1)} ± ${percent(deviation)}`;
}

function drawResults() {
  const measured = page.runs[0].metrics.split ?? "test";
  const columns = [
    ["Method", run => run.name],
    [measured === "test" ? "Test accuracy" : `Accuracy (${measured})`, ({ metrics }) =>
      withSpread(metrics[`${measured}_accuracy`], metrics[`${measured}_accuracy_std`])],
    ...(page.runs.some(({ metrics }) => known(metrics.val_accuracy)) ? [["Validation accuracy",
      ({ metrics }) => withSpread(metrics.val_accuracy, metrics.val_accuracy_std)]] : []),
    ["Trainable parameters", run => number(run.metrics.trainable_parameters)],
    ["Stored size", run => bytes(run.metrics.stored_bytes)],
    [page.runs[0].metrics.adapter ? "Seconds, one pass" : "Seconds per epoch", ({ metrics }) =>
      (metrics.seconds_per_epoch ?? metrics.seconds)?.toFixed(1) ?? DASH],
    ["Peak memory", run => bytes(run.metrics.peak_memory_bytes)],
  ];
  const kind = place => place ? "number" : "";
  byId("results-table").append(
    el("thead", {}, el("tr", {},
      columns.map(([name], i) => el("th", { scope: "col", className: kind(i) }, name)))),
    el("tbody", {}, page.runs.map(run => el("tr", {},
      columns.map(([, value], i) => el("td", { className: kind(i) }, value(run)))))),
  );
}

// ---- Learning curves ----

const CURVES = [
  ["train_loss", "Training loss", ".2~f"],
  ["train_accuracy", "Training accuracy", ".0%"],
  ["val_accuracy", "Validation accuracy", ".0%"],
  ["test_accuracy", "Test accuracy", ".0%"],  // where it selects the epoch
];

function drawCurves() {
  const trained = page.runs.flatMap((run, place) => Object.entries(run.histories)
    .map(([seed, rows]) => ({ run, seed, rows, colour: RUN_COLOURS[place % RUN_COLOURS.length] })));
  byId("curves").hidden = !trained.length;
  if (several) {
    byId("curves-key").append(...page.runs.map((run, place) => {
      const dot = el("i");
      dot.style.color = RUN_COLOURS[place % RUN_COLOURS.length];
      return el("span", {}, dot, run.name);
    }));
  }
  const drawn = CURVES.map(([key, title, tickformat]) => {
    const lines = trained.filter(({ rows }) => rows.some(row => known(row[key])));
    return { key, title, tickformat, lines, plot: el("div", { className: "plot" }) };
  }).filter(({ lines }) => lines.length);
  // All of them are in place before the first is drawn, since plots take the width they find.
  byId("curves-plots").append(
    ...drawn.map(({ title, plot }) => el("div", {}, el("h3", {}, title), plot)),
  );
  for (const { key, tickformat, lines, plot } of drawn) {
    const precision = key === "train_loss" ? ".3f" : ".1%";
    draw(plot, lines.map(({ run, seed, rows, colour }) => ({
      x: rows.map(row => row.epoch),
      y: rows.map(row => row[key]),
      mode: rows.length > 1 ? "lines" : "markers",
      line: { color: colour, width: 1.75 },
      marker: { color: colour },
      text: rows.map(() => plain(several ? `${run.name}, ${seed}` : seed)),
      hovertemplate: `%{text}<br>epoch %{x}: %{y:${precision}}<extra></extra>`,
    })), {
      xaxis: {
        ...AXIS, title: { text: "epoch", standoff: 6 }, showgrid: false, dtick: epochStep(lines),
      },
      yaxis: { ...AXIS, tickformat, rangemode: "tozero" },
    });
  }
}

// Ticks at whole epochs, six or so.
function epochStep(lines) {
  const epochs = Math.max(...lines.map(({ rows }) => rows.length));
  return [1, 2, 5, 10, 20, 50, 100, 200, 500].find(step => epochs / step <= 6) ?? 1000;
}

// ---- Confusion ----

function confusionOf({ analysis, metrics }) {
  return analysis?.confusion ?? metrics.best_confusion ?? metrics.confusion;
}

const partOf = run => run.analysis?.part ?? run.metrics.split ?? "test";

function drawConfusion(run) {
  const counts = confusionOf(run), names = run.metrics.class_names;
  const measured = Boolean(counts?.flat().some(count => count));
  byId("confusion").querySelector(".wide-and-narrow").hidden = !measured;
  byId("confusion-note").textContent = measured ? confusionNote(run) : "No shape was measured.";
  if (!measured) return;
  const totals = counts.map(row => row.reduce((sum, count) => sum + count, 0));
  const shares = counts.map((row, i) => row.map(count => totals[i] ? count / totals[i] : 0));
  const places = names.map((_, i) => i), ticktext = names.map(name => plain(short(name)));
  const axis = {
    ...AXIS, tickvals: places, ticktext, showgrid: false, automargin: true,
    range: [-0.5, names.length - 0.5],
  };
  const plot = byId("confusion-plot");
  plot.style.height = `${Math.max(300, 26 * names.length + 110)}px`;
  plot.style.minWidth = `${Math.max(0, 24 * names.length + 110)}px`;
  draw(plot, [{
    type: "heatmap", x: places, y: places, z: shares,
    zmin: 0, zmax: 1, xgap: 1, ygap: 1, showscale: false,
    colorscale: [[0, "#f2f5f7"], [1, ACCENT]],
    text: counts.map(row => row.map(count => count || "")),
    texttemplate: "%{text}",
    hovertext: counts.map((row, i) => row.map((count, j) => [
      `true ${plain(names[i])}`, `predicted ${plain(names[j])}`,
      `${count} of ${totals[i]} (${percent(shares[i][j])})`,
    ].join("<br>"))),
    hoverinfo: "text",
  }], {
    margin: { l: 20, r: 8, t: 4, b: 20 },
    xaxis: { ...axis, tickangle: -50 },
    yaxis: { ...axis, range: [names.length - 0.5, -0.5] },
  });
  drawClasses(names.map((name, i) => ({
    name, items: totals[i], accuracy: totals[i] ? shares[i][i] : null,
  })));
}

function confusionNote(run) {
  const part = partOf(run), seeds = run.metrics.seeds?.length ?? 1;
  const notes = [];
  if (part === "validation") {
    notes.push("There is no test split: these are the shapes of the validation split, on which " +
      "the model was chosen too.");
  } else if (part !== "test") {
    notes.push(`Measured: ${part === "all" ? "all shapes" : `the ${part} split`}.`);
  }
  if (seeds > 1) {
    const selects = run.metrics.selection?.startsWith("test") ? "test" : "validation";
    notes.push(`The best of ${seeds} seeds by ${selects} accuracy, here and below.`);
  }
  return notes.join(" ");
}

// Sorted by accuracy, worst first, until a heading is clicked.
function drawClasses(rows, key = "accuracy", sign = 1) {
  const value = row => row[key] ?? Infinity;
  const compare = key === "name"
    ? (a, b) => a.name.localeCompare(b.name)
    : (a, b) => value(a) - value(b) || 0;
  const sorted = [...rows].sort((a, b) => sign * compare(a, b));
  const heading = (name, text, kind) => {
    const button = el("button", { type: "button" }, text);
    button.onclick = () => drawClasses(rows, name, name === key ? -sign : 1);
    const cell = el("th", { scope: "col", className: kind }, button);
    if (name === key) cell.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    return cell;
  };
  const bar = share => {
    const filled = el("span");
    filled.style.width = `${100 * (share ?? 0)}%`;
    return el("span", { className: "bar" }, filled);
  };
  byId("class-table").replaceChildren(
    el("thead", {}, el("tr", {}, heading("name", "Class", ""), el("th", { ariaHidden: "true" }),
      heading("accuracy", "Accuracy", "number"), heading("items", "Shapes", "number"))),
    el("tbody", {}, sorted.map(row => el("tr", {},
      el("td", { title: row.name }, row.name),
      el("td", {}, bar(row.accuracy)),
      el("td", { className: "number" }, percent(row.accuracy)),
      el("td", { className: "number" }, number(row.items))))),
  );
}

// ---- Feature maps ----

function drawMaps(run) {
  const map = run.analysis?.map;
  byId("features").hidden = !map?.shown;
  if (!map?.shown) return;
  const names = run.analysis.class_names, hidden = new Set();
  byId("features-title").textContent =
    map.after ? "Features before and after adaptation" : "Features of the pre-trained encoder";
  byId("before-title").hidden = byId("after").hidden = !map.after;
  byId("features-note").textContent = mapNote(map);
  const present = names.map((_, label) => label).filter(label => map.labels.includes(label));
  const redraw = () => {
    drawMap(byId("map-before"), map, map.before, names, hidden);
    if (map.after) drawMap(byId("map-after"), map, map.after, names, hidden);
  };
  byId("features-key").replaceChildren(
    ...present.map(label => classChip(names, label, hidden, redraw)),
    el("span", { className: "plain" }, markerKey(map, partOf(run))),
  );
  redraw();
}

function mapNote(map) {
  const drawn = map.shown < map.items
    ? `${number(map.shown)} of ${number(map.items)} shapes, drawn at random`
    : `${number(map.items)} shapes`;
  const frozen = map.after ? "" : "The head alone was trained, so the features are the same " +
    "before and after adaptation. ";
  return `${frozen}${drawn}, placed by ${map.method}: near each other means alike to the ` +
    "network. Directions and distances between far groups mean nothing. Click a class to hide it.";
}

function markerKey(map, part) {
  const shown = { all: "measured", train: "measured" }[part] ?? part;
  return [
    map.held_out.includes(false) && "● training",
    map.held_out.includes(true) && `◆ ${shown}`,
  ].filter(Boolean).join("   ");
}

function classChip(names, label, hidden, redraw) {
  const dot = el("i");
  dot.style.color = classColour(label, names.length);
  const button = el("button", { type: "button", ariaPressed: "true" }, dot, names[label]);
  button.onclick = () => {
    hidden.has(label) ? hidden.delete(label) : hidden.add(label);
    button.ariaPressed = String(!hidden.has(label));
    redraw();
  };
  return button;
}

function drawMap(element, map, places, names, hidden) {
  const trace = heldOut => {
    const chosen = map.ids.map((_, i) => i)
      .filter(i => map.held_out[i] === heldOut && !hidden.has(map.labels[i]));
    return {
      mode: "markers",
      x: chosen.map(i => places[i][0]),
      y: chosen.map(i => places[i][1]),
      marker: {
        color: chosen.map(i => classColour(map.labels[i], names.length)),
        symbol: heldOut ? "diamond" : "circle",
        size: heldOut ? 9 : 6,
        opacity: heldOut ? 1 : 0.55,
        line: { color: "#fff", width: heldOut ? 1 : 0 },
      },
      text: chosen.map(i => `${plain(map.ids[i])}<br>${plain(names[map.labels[i]])}`),
      hoverinfo: "text",
    };
  };
  const [x, y] = [0, 1].map(axis => paddedRange(places.map(place => place[axis])));
  const axis = { ...AXIS, visible: false };
  draw(element, [trace(false), trace(true)], {
    margin: { l: 6, r: 6, t: 6, b: 6 },
    hovermode: "closest",
    xaxis: { ...axis, range: x },
    yaxis: { ...axis, range: y, scaleanchor: "x" },
  });
}

// Of all shapes, so that nothing moves when a class is hidden.
function paddedRange(values) {
  const low = Math.min(...values), high = Math.max(...values);
  const space = 0.06 * (high - low) || 1;
  return [low - space, high + space];
}

// ---- Settings and notes ----

function drawSettings() {
  const unique = key => [...new Set(page.runs.flatMap(run => run.metrics[key] ?? []))];
  const fold = (title, ...content) =>
    byId("details").append(el("details", {}, el("summary", {}, title), ...content));
  const list = items => el("ul", {}, items.map(item => el("li", {}, item)));
  for (const run of page.runs) {
    const title = several ? `${run.name}: settings` : "Settings";
    if (run.config) fold(title, el("pre", {}, run.config));
  }
  const versions = Object.entries(page.runs[0].metrics.versions ?? {});
  fold("Versions", list(versions.map(([name, version]) => `${name} ${version}`)));
  for (const [key, title] of [["notes", "Notes on the data"], ["skipped", "Skipped files"]]) {
    const items = unique(key);
    fold(`${title} (${items.length})`, items.length ? list(items) : el("p", {}, "None."));
  }
}

// ---- The page ----

function choose(place) {
  const run = page.runs[place];
  for (const select of document.querySelectorAll("[data-pick] select")) select.value = place;
  drawConfusion(run);
  drawMaps(run);
  drawMistakes(run);
}

function addPickers() {
  if (!several) return;
  for (const where of document.querySelectorAll("[data-pick]")) {
    const options = page.runs.map((run, i) => el("option", { value: i }, run.name));
    const select = el("select", {}, options);
    select.onchange = () => choose(Number(select.value));
    where.append(el("label", {}, "Method ", select));
  }
}

byId("summary").textContent = page.summary;
drawResults();
drawCurves();
addPickers();
choose(Math.max(0, page.runs.findIndex(({ metrics }) => metrics.method === "point-peft")));
drawSettings();
document.documentElement.dataset.state = "drawn";
