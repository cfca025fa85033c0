// The page around the map: choosing a variable and values of axes, searching, the legend, and following a run.

const MAX_MINIATURES = 24;
const MINIATURE_REGIONS = 40000;
const MAX_HITS = 20;
const PLAY_MS = 900;
const SILENT_SECONDS = 90;
const GIVE_UP_SECONDS = 3600;
const LOST = "probably lost";

// ---- variable and axes ----------------------------------------------------------------------------------

function startVariables() {
  const select = byId("variables").querySelector("select");
  variables.forEach((v, n) => select.append(el("option", { value: n }, v.name)));
  byId("variables").hidden = variables.length < 2;
  select.addEventListener("change", () => update({ variable: Number(select.value) }));
  watchers.push(() => { select.value = String(state.variable); });
}

function renderAxes() {
  byId("axes").replaceChildren(...current().axes.filter((axis) => axis.labels.length > 1).map(axisControl));
}

function axisControl(axis) {
  return axis.labels.length <= MAX_MINIATURES && nRegions <= MINIATURE_REGIONS ? miniatures(axis) : slider(axis);
}

/** One small map for each value: at once the overview of all and the choice of one. */
function miniatures(axis) {
  const choices = axis.labels.map((label, block) => {
    const frame = frameOf(current(), { ...state.blocks, [axis.name]: block });
    const checked = (state.blocks[axis.name] || 0) === block;
    const radio = el("input", { type: "radio", name: `axis-${axis.name}`, value: block, checked, onchange: () => choose(axis, block) });
    return el("label", { class: "miniature" }, radio, miniature(current(), frame), el("span", {}, label, el("small", {}, share(current(), frame))));
  });
  const row = el("div", { class: "miniatures" }, ...choices);
  return el("fieldset", { class: "axis", "data-axis": axis.name }, el("legend", {}, axis.name, playButton(axis)), row);
}

function slider(axis) {
  const last = axis.labels.length - 1;
  const at = state.blocks[axis.name] || 0;
  const output = el("output", {}, axis.labels[at]);
  const input = el("input", { type: "range", min: 0, max: last, step: 1, value: at, "aria-label": axis.name, "aria-valuetext": axis.labels[at], oninput: () => choose(axis, Number(input.value)) });
  const step = (by, sign, name) => el("button", { type: "button", class: "quiet", "aria-label": name, onclick: () => choose(axis, Math.min(last, Math.max(0, (state.blocks[axis.name] || 0) + by))) }, sign);
  return el("fieldset", { class: "axis", "data-axis": axis.name }, el("legend", {}, axis.name, playButton(axis)), el("div", { class: "slider" }, step(-1, "‹", `earlier ${axis.name}`), input, step(1, "›", `later ${axis.name}`), output));
}

const choose = (axis, block) => update({ blocks: { ...state.blocks, [axis.name]: block } });

function showChoices() {
  for (const axis of current().axes) {
    const at = state.blocks[axis.name] || 0;
    for (const field of byId("axes").querySelectorAll(".axis")) {
      if (field.dataset.axis !== axis.name) continue;
      for (const input of field.querySelectorAll("input")) {
        if (input.type === "radio") {
          input.checked = Number(input.value) === at;
          if (input.checked) bringIntoRow(input.parentElement);
        } else { input.value = at; input.setAttribute("aria-valuetext", axis.labels[at]); }
      }
      for (const output of field.querySelectorAll("output")) output.textContent = axis.labels[at];
    }
  }
}

/** Scroll a row sideways, and nothing else, until one of its labels is seen. */
function bringIntoRow(label) {
  const row = label.parentElement;
  const [start, end] = [label.offsetLeft, label.offsetLeft + label.offsetWidth];
  if (start < row.scrollLeft) row.scrollLeft = start - 8;
  else if (end > row.scrollLeft + row.clientWidth) row.scrollLeft = end - row.clientWidth + 8;
}

/** A share that is 100 % or 0 % only if it is. */
function percentOf(part, whole) {
  const share = (100 * part) / whole;
  const shown = share > 0 && share < 0.1 ? 0.1 : share > 99.9 && share < 100 ? 99.9 : share;
  return `${shown.toFixed(1).replace(/\.0$/, "")} %`;
}

/** Percentage of the slots of a frame that have a tile and are filled: what is not committed may yet be lost. */
function share(variable, frame) {
  const counts = countFrame(variable, frame);
  const of = (...names) => names.reduce((sum, name) => sum + counts[codeOf(name)], 0);
  const filled = of("done", "virtual", "empty");
  const wanted = filled + of("fresh", "pending", "failed");
  return wanted ? percentOf(filled, wanted) : "–";
}

function miniature(variable, frame) {
  const { width, height, placeOf } = miniatureShape();
  const out = el("canvas", { width, height, "aria-hidden": "true" });
  const ink = out.getContext("2d");
  for (let j = 0; j < height; j += 1) {
    for (let i = 0; i < width; i += 1) {
      const slot = placeOf(i, j);
      const name = slot < 0 ? "outside" : STATES[variable.states[frame * nRegions + slot]];
      if (name === "outside") continue;
      ink.fillStyle = palette[name];
      ink.fillRect(i, j, 1, 1);
    }
  }
  const shape = (bounds.right - bounds.left) / (bounds.top - bounds.bottom);
  const k = Math.min(112 / shape, 56);
  out.style.width = `${Math.max(8, Math.round(k * shape))}px`;
  out.style.height = `${Math.max(4, Math.round(k))}px`;
  return out;
}

let playing = 0;

function playButton(axis) {
  const button = el("button", { type: "button", class: "quiet play", "aria-label": `play ${axis.name}`, onclick: () => togglePlay(axis, button) }, "▶");
  return button;
}

function togglePlay(axis, button) {
  const was = playing && button.classList.contains("on");
  clearInterval(playing);
  playing = 0;
  for (const other of document.querySelectorAll(".play")) { other.classList.remove("on"); other.textContent = "▶"; }
  if (was) return;
  button.classList.add("on");
  button.textContent = "❚❚";
  playing = setInterval(() => choose(axis, ((state.blocks[axis.name] || 0) + 1) % axis.labels.length), PLAY_MS);
}

// ---- search, legend, tables -----------------------------------------------------------------------------

/** Ids that hold some text, those that begin with it first. */
function searchRegions(text) {
  const wanted = text.trim().toLowerCase();
  const [first, rest] = [[], []];
  for (let iy = 0; iy < nRows && wanted; iy += 1) {
    for (let ix = 0; ix < nColumns; ix += 1) {
      const id = regionId(iy, ix);
      const at = id.toLowerCase().indexOf(wanted);
      if (id.toLowerCase() === wanted) first.unshift({ iy, ix, id });
      else if (at === 0 && first.length < MAX_HITS) first.push({ iy, ix, id });
      else if (at > 0 && rest.length < MAX_HITS) rest.push({ iy, ix, id });
    }
  }
  return [...first, ...rest].slice(0, MAX_HITS);
}

function goTo(region) {
  const wide = Math.max(bounds.right - bounds.left, bounds.top - bounds.bottom) / regionWidth;
  const box = regionBounds(region.iy, region.ix);
  const zoom = Math.max(state.view ? state.view.zoom : 1, wide / 8);
  update({ region: { iy: region.iy, ix: region.ix }, view: clampView((box.left + box.right) / 2, (box.bottom + box.top) / 2, zoom) });
}

function startSearch() {
  const form = byId("search");
  const input = form.querySelector("input");
  input.placeholder = regionId(0, 0);
  const find = () => {
    const [hit] = searchRegions(input.value);
    byId("found").textContent = hit ? "" : input.value.trim() ? `no region ${input.value.trim()}` : "";
    if (hit) goTo(hit);
  };
  input.addEventListener("input", () => {
    const hits = searchRegions(input.value);
    byId("found").textContent = "";
    byId("ids").replaceChildren(...hits.map((hit) => el("option", { value: hit.id })));
  });
  input.addEventListener("change", () => { if (searchRegions(input.value)[0]?.id === input.value) find(); });
  form.addEventListener("submit", (event) => { event.preventDefault(); find(); });
}

function renderLegend() {
  const counts = countFrame(current(), currentFrame());
  const order = ["done", "virtual", "empty", "fresh", "failed", "pending", "absent"];
  const items = order.map((name) => ({ name, n: counts[codeOf(name)] })).filter(({ n }) => n);
  const entries = items.map(({ name, n }) => el("li", {}, el("i", { class: `key ${name}` }), `${shownState(name)} `, el("b", {}, formatCount(n))));
  if (current().stale) entries.push(el("li", { class: "hint" }, "corner: overviews behind"));
  byId("legend").replaceChildren(...entries);
}

/** What the colours of the pixels mean. */
function renderColours() {
  const legend = state.pixels ? current().legend : null;
  byId("colours").replaceChildren(...(legend ? describeColours(legend) : []));
}

function describeColours(legend) {
  const out = [];
  if (legend.ramp) {
    const ramp = el("span", { class: "ramp" });
    ramp.style.backgroundImage = `linear-gradient(to right, ${legend.ramp.join(", ")})`;
    out.push(el("p", { class: "hint" }, formatLimit(legend.low), ramp, `${formatLimit(legend.high)} ${legend.units}`));
  }
  const named = (legend.rows || []).concat(legend.missing ? [["no data", legend.missing]] : []);
  const rows = named.map(([name, colour]) => {
    const key = el("i", { class: "key" });
    key.style.backgroundColor = colour;
    return el("li", {}, key, name);
  });
  if (legend.more) rows.push(el("li", {}, `and ${legend.more} more`));
  if (rows.length) out.push(el("ul", { class: "classes", "aria-label": "colours" }, ...rows));
  const first = pictureOf(current(), currentFrame()) && firstLabel(current(), currentFrame());
  if (first) out.push(el("p", { class: "hint" }, `The pixels are those of ${first} only.`));
  return out;
}

function startPaint() {
  const has = variables.some((v) => Object.keys(v.pictures).length);
  byId("paint").hidden = !has;
  for (const radio of byId("paint").querySelectorAll("input")) {
    radio.addEventListener("change", () => update({ pixels: radio.value === "pixels" }));
  }
  watchers.push(() => {
    for (const radio of byId("paint").querySelectorAll("input")) radio.checked = (radio.value === "pixels") === state.pixels;
  });
}

/** Rows of the tables lead to what they speak of. */
function startTables() {
  for (const row of document.querySelectorAll("tr[data-axis]")) {
    const axis = data.axes.find((a) => a.name === row.dataset.axis);
    const block = axis ? axis.labels.indexOf(row.dataset.label) : -1;
    if (block >= 0) link(row.querySelector("th"), () => choose(axis, block));
  }
  for (const row of document.querySelectorAll("#failures tr[data-region]")) {
    const region = row.dataset.region ? findRegion(row.dataset.region) : null;
    const [axes, name] = [row.cells[1].textContent, row.cells[2].textContent];
    const variable = Math.max(0, variables.findIndex((v) => v.name === name));
    const frame = Array.from({ length: variables[variable].nFrames }, (_, f) => f).find((f) => frameLabel(variables[variable], f) === axes);
    if (region) link(row.querySelector("th"), () => { update({ variable, blocks: { ...state.blocks, ...blocksOf(variables[variable], frame || 0) } }); goTo(region); });
  }
}

function link(cell, onclick) {
  const text = cell.textContent;
  cell.replaceChildren(el("button", { type: "button", class: "link", onclick: () => { onclick(); byId("explore").scrollIntoView({ block: "start" }); } }, text));
}

// ---- a run that goes on ---------------------------------------------------------------------------------

const secondsSince = () => Math.max(0, Date.now() / 1000 - data.at);

function followRun() {
  const run = data.run;
  if (!run) return;
  const section = byId("run");
  const pace = [run.rate && `${(run.rate / 1e6).toFixed(1)} million pixels a second`, run.left !== null && `about ${formatAge(run.left)} left`].filter(Boolean);
  if (!run.outcome && pace.length) byId("run-counts").append(el("span", { id: "run-pace" }, `; ${pace.join(", ")}`));
  const tell = () => {
    const age = secondsSince();
    const silent = !run.outcome && age > Math.max(SILENT_SECONDS, 6 * run.refresh);
    section.classList.toggle("silent", silent);
    if (silent) fallSilent(section);
    byId("run-age").textContent = run.outcome
      ? `Last written ${formatAge(age)} ago, when the run ended.`
      : silent ? `Last written ${formatAge(age)} ago: the run may have been killed. What it had committed stays; the same command goes on from there.`
        : `Last written ${formatAge(age)} ago; the page reads itself again while the run is on.`;
  };
  tell();
  setInterval(tell, 1000);
  if (!run.outcome) setTimeout(reloadWhenIdle, 1000 * Math.max(2, 1.5 * run.refresh));
}

/** A run that is gone has taken with it what it had not committed. */
function fallSilent(section) {
  section.querySelector("h2").textContent = "No sign of life from the run";
  byId("run-pace")?.remove();
  if (SHOWN.fresh === LOST) return;
  SHOWN.fresh = LOST;
  const reword = (text) => text.replace("not committed", LOST);
  for (const place of [document.querySelector(".lead"), ...document.querySelectorAll("th:has(.key.fresh)")]) place.lastChild.textContent = reword(place.lastChild.textContent);
  document.title = reword(document.title);
  update({ blocks: state.blocks });
}

/** Keep which control has the focus over a reload, where the browser lets a page from the disk keep anything. */
function keepFocus() {
  try {
    sessionStorage.setItem("focus", document.activeElement.id);
  } catch { /* then the focus is lost, no more */ }
}

function takeFocusBack() {
  try {
    const id = sessionStorage.getItem("focus");
    sessionStorage.removeItem("focus");
    if (id) byId(id)?.focus({ preventScroll: true });
  } catch { /* likewise */ }
}

/** Read the page again, but not while somebody drags, types or looks elsewhere. */
function reloadWhenIdle() {
  const typing = document.activeElement && document.activeElement.type === "search" && document.activeElement.value;
  const busy = pointers.size || typing || playing || document.hidden;
  if (secondsSince() > GIVE_UP_SECONDS) return;
  if (busy) {
    setTimeout(reloadWhenIdle, 1000);
    return;
  }
  window.history.replaceState(null, "", `#${writeHash()}`);
  keepFocus();
  location.reload();
}

/** What a screen reader says of the region that is selected. */
function sayRegion() {
  if (!state.region) return "";
  const { iy, ix } = state.region;
  const name = STATES[current().states[slotOf(currentFrame(), iy, ix)]];
  return [regionId(iy, ix), frameLabel(current(), currentFrame()), shownState(name)].filter(Boolean).join(", ");
}

// ---- start ----------------------------------------------------------------------------------------------

function start() {
  byId("explore").hidden = !variables.length;
  if (!variables.length) return;
  Object.assign(state, readHash());
  startMap();
  startPointer();
  startHistory();
  startVariables();
  startSearch();
  startPaint();
  startTables();
  watchers.push((changes) => {
    const other = Object.keys(changes).some((key) => key !== "view");
    if ("variable" in changes || ("blocks" in changes && current().axes.length > 1)) renderAxes();
    if ("variable" in changes || "blocks" in changes) showChoices();
    if (!other && Object.keys(changes).length) return;
    renderLegend();
    renderColours();
    renderPanel();
    byId("said").textContent = sayRegion();
    canvas.setAttribute("aria-label", `regions of ${current().name} ${frameLabel(current(), currentFrame())}${state.region ? `, ${regionId(state.region.iy, state.region.ix)} selected` : ""}`);
  });
  window.addEventListener("hashchange", () => { if (location.hash.slice(1) !== written) update(readHash()); });
  const repaint = () => { readPalette(); renderAxes(); update({}); draw(); };
  for (const query of ["(prefers-color-scheme: dark)", "print"]) window.matchMedia(query).addEventListener("change", repaint);
  update(readHash());
  followRun();
  takeFocusBack();
}

start();
