// What can be chosen: version, variable, axis values; and the legend.
"use strict";

const shortTime = (text) => text.slice(0, 16).replace("T", " ");

function snapshotOf(ref) {
  return refs.branches[ref] || refs.tags[ref] || ref;
}

async function readRefs() {
  refs = await askJson(`api/refs?branch=${part(state.ref || "")}`);
  if (!state.ref) state.ref = refs.first;
  showRefs();
}

function showRefs() {
  const options = (names) => names.map((name) => el("option", { value: name, selected: name === state.ref }, name));
  const groups = [el("optgroup", { label: "branches" }, ...options(Object.keys(refs.branches)))];
  if (Object.keys(refs.tags).length) groups.push(el("optgroup", { label: "tags" }, ...options(Object.keys(refs.tags))));
  const named = refs.branches[state.ref] || refs.tags[state.ref];
  const commits = refs.history.map((c) => ({ value: c.snapshot, text: `${shortTime(c.time)} ${c.message}`.slice(0, 80) }));
  if (!named && !commits.some((c) => c.value === state.ref)) commits.unshift({ value: state.ref, text: state.ref });
  if (commits.length) groups.push(el("optgroup", { label: "commits" }, ...commits.map((c) => el("option", { value: c.value, selected: c.value === state.ref }, c.text))));
  const key = JSON.stringify([refs.branches, refs.tags, commits, state.ref]);
  if (showRefs.key === key) return;
  showRefs.key = key;
  byId("ref").replaceChildren(...groups);
  byId("ref").value = state.ref;
}

function showControls() {
  document.title = `${cube.name}: ${variable().title}`;
  byId("name").textContent = cube.name;
  const option = (value, text, now) => el("option", { value, selected: value === now }, text);
  byId("variables").hidden = cube.variables.length < 2;
  byId("variable").replaceChildren(...cube.variables.map((v) => option(v.name, v.title === v.name ? v.name : `${v.name}: ${v.title}`.slice(0, 60), state.variable)));
  byId("lattices").hidden = cube.lattices.length < 2;
  byId("lattice").replaceChildren(...cube.lattices.map((l) => option(l.name, l.title, state.lattice)));
  byId("coast").checked = state.coast;
  byId("regions").checked = state.regions;
  byId("axes").replaceChildren(...variable().axes.map(axisControl));
}

function axisControl(name) {
  const { labels } = axisOf(name);
  const now = isTogether(name) ? RGB : positionOf(name);
  const composite = variable().composite?.axis === name;
  const play = labels.length > 2 ? el("button", { type: "button", class: "play", "aria-label": `play ${name}`, "aria-pressed": "false", onclick: (event) => togglePlay(name, event.currentTarget) }, "▶") : "";
  if (composite || (labels.length <= FEW_LABELS && labels.join("").length <= 40)) {
    const choices = [...(composite ? [["colour", RGB]] : []), ...labels.map((label, i) => [label, i])];
    const chips = choices.map(([label, i]) => el("label", {}, el("input", { type: "radio", name: `axis ${name}`, value: i, checked: i === now, onchange: () => setPosition(name, i) }), label));
    return el("fieldset", { class: "axis", "data-axis": name }, el("legend", {}, name), el("div", { class: "chips" }, ...chips, play));
  }
  const output = el("output", {}, labels[now]);
  const input = el("input", { type: "range", min: 0, max: labels.length - 1, value: now, "aria-label": name, "aria-valuetext": labels[now], oninput: () => setPosition(name, Number(input.value)) });
  const step = (by) => setPosition(name, (state.positions[name] + by + labels.length) % labels.length);
  return el("fieldset", { class: "axis", "data-axis": name },
    el("legend", {}, name, output),
    el("div", { class: "slider" },
      el("button", { type: "button", "aria-label": `${name}: one back`, onclick: () => step(-1) }, "‹"), input,
      el("button", { type: "button", "aria-label": `${name}: one on`, onclick: () => step(1) }, "›"), play));
}

function setPosition(name, position) {
  state.positions[name] = position;
  const field = document.querySelector(`.axis[data-axis="${CSS.escape(name)}"]`);
  const label = labelOf(name);
  const slider = field?.querySelector("input[type=range]");
  if (slider) {
    slider.value = position;
    slider.setAttribute("aria-valuetext", label);
    field.querySelector("output").textContent = label;
  }
  const chip = field?.querySelector(`input[type=radio][value="${position}"]`);
  if (chip) chip.checked = true;
  clearTimeout(setPosition.timer);
  setPosition.timer = setTimeout(() => {
    showPixels();
    showLegend();
    showPanel();
    saveSoon();
  }, 60);
}

/** Go along an axis, each value once what was before is there. */
function togglePlay(name, button) {
  const stop = () => {
    showPoint.next = null;
    clearTimeout(togglePlay.timer);
    button.textContent = "▶";
    button.setAttribute("aria-pressed", "false");
  };
  if (button.getAttribute("aria-pressed") === "true") return stop();
  button.textContent = "❚❚";
  button.setAttribute("aria-pressed", "true");
  const on = () => {
    clearTimeout(togglePlay.timer);
    togglePlay.timer = setTimeout(() => {
      if (!button.isConnected) return stop();
      setPosition(name, isTogether(name) ? 0 : (state.positions[name] + 1) % axisOf(name).labels.length);
    }, 700);
  };
  showPoint.next = on;
  on();
  return undefined;
}

function keyIn(colour) {
  const key = el("i", { class: "key" });
  key.style.background = colour;
  return key;
}

async function showLegend() {
  const box = byId("legend");
  const path = () => `api/legend/${cube.snapshot}/${part(state.variable)}/${indexOf()}`;
  const asked = path();
  let told;
  try {
    told = await askJson(versioned(asked));
  } catch (error) {
    return lose(error);
  }
  if (asked !== path()) return undefined;
  const title = el("h2", {}, told.title, told.units ? el("small", {}, ` ${told.units}`) : "");
  let body;
  if (told.kind === "rgb") {
    const rows = told.classes.map((c) => el("li", {}, keyIn(c.colour), c.name));
    body = [el("ul", { class: "classes bands" }, ...rows), el("div", { class: "ends" }, el("span", {}, `dark ≤ ${tell(told.low)}`), el("span", {}, `bright ≥ ${tell(told.high)}`))];
  } else if (told.kind === "range") {
    const ramp = el("div", { class: "ramp" });
    ramp.style.background = `linear-gradient(to right, ${told.ramp.join(", ")})`;
    const low = ["min", "both"].includes(told.extend) ? "≤ " : "";
    const high = ["max", "both"].includes(told.extend) ? "≥ " : "";
    body = [ramp, el("div", { class: "ends" }, el("span", {}, low + tell(told.low)), el("span", {}, high + tell(told.high)))];
  } else {
    const rows = told.classes.map((c) => el("li", {}, keyIn(c.colour), c.name));
    body = [rows.length ? el("ul", { class: "classes" }, ...rows) : el("p", { class: "hint" }, "no data here yet"), told.more ? el("p", { class: "hint" }, `and ${told.more} more`) : ""];
  }
  const clear = el("p", { class: "hint nothing" }, el("i", { class: "key" }), "nothing there: clear");
  box.replaceChildren(title, ...body.filter(Boolean), clear, ...told.warnings.map((w) => el("p", { class: "hint" }, w)));
  box.hidden = false;
  return undefined;
}
