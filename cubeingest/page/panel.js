// The region that is selected: where it is, its state at each place on the axes, and what the ledger says of it.

const MAX_FRAMES = 200;

const chip = (name) => el("span", { class: "chip" }, el("i", { class: `key ${name}` }), shownState(name));

function renderPanel() {
  const panel = byId("panel");
  panel.replaceChildren(...(state.region ? describeRegion(state.region) : describeCube()));
}

function describeCube() {
  const rows = Object.entries(data.attrs).slice(0, 8).map(([k, v]) => el("div", {}, el("dt", {}, k), el("dd", {}, v.slice(0, 300))));
  const variable = current();
  const title = [variable.long_name || variable.name, variable.units && `(${variable.units})`].filter(Boolean).join(" ");
  return [
    el("h2", {}, title.slice(0, 200)),
    el("p", { class: "hint" }, nRegions > 1 ? "Select a region for its sources, checksums and commits." : "Select the region for its source, checksum and commit."),
    rows.length ? el("dl", { class: "pairs" }, ...rows) : null,
  ].filter(Boolean);
}

function describeRegion({ iy, ix }) {
  const variable = current();
  const slot = slotOf(currentFrame(), iy, ix);
  const name = STATES[variable.states[slot]];
  const label = frameLabel(variable, currentFrame());
  const head = el("div", { class: "panel-head" }, el("h2", {}, regionId(iy, ix)), el("button", { type: "button", class: "quiet", "aria-label": "close", onclick: () => update({ region: null }) }, "×"));
  return [
    head,
    el("p", { class: "state" }, label ? el("strong", {}, label) : "", chip(name), ...describeFlags(variable, slot)),
    ...captioned(variable, thumbnail(variable, currentFrame(), iy, ix, 192)),
    describePlace(iy, ix),
    describeFailure(variable, iy, ix),
    name === "outside" ? el("p", { class: "hint" }, "This region is not part of what the page was made for, or the grid leaves it out.") : describeRecord(variable, slot),
    variable.nFrames > 1 ? describeFrames(variable, iy, ix) : null,
  ].filter(Boolean);
}

function describeFlags(variable, slot) {
  return variable.stale && variable.stale[slot] ? [el("span", { class: "chip" }, "overviews behind")] : [];
}

function describePlace(iy, ix) {
  const unit = grid.geographic ? "°" : "";
  const range = ([a, b]) => `${formatPlace(a)}${unit} … ${formatPlace(b)}${unit}`;
  const pairs = regionPlace(iy, ix).map(([name, ends, more]) => [name, range(ends), more]);
  return el("dl", { class: "pairs" }, ...pairs.map(([k, v, more]) => el("div", {}, el("dt", {}, k), el("dd", {}, v, el("small", {}, more)))));
}

function describeFailure(variable, iy, ix) {
  const id = regionId(iy, ix);
  const label = frameLabel(variable, currentFrame());
  const failure = data.failures.find((f) => f.region === id && f.variable === variable.name && Object.values(f.axes).join(" ") === label);
  return failure ? el("p", { class: "failure" }, el("strong", {}, "failed in this run: "), failure.error, el("span", { class: "href" }, failure.href)) : null;
}

function describeRecord(variable, slot) {
  const record = recordOf(variable, slot);
  if (!record) {
    const held = HELD.includes(variable.states[slot]);
    if (!held) return null;
    return el("p", { class: "hint" }, variable.records ? "Its record cannot be read: cubeingest check says more." : "This page holds no records.");
  }
  const rows = [];
  const add = (k, ...v) => rows.push(el("div", {}, el("dt", {}, k), el("dd", {}, ...v)));
  const sources = record.sources.map((s) => el("li", {}, el("span", { class: "href" }, s.href), el("small", {}, [s.href.startsWith("python:") ? "" : formatBytes(s.size), formatStamp(s.stamp)].filter(Boolean).join(", "))));
  if (record.nSources > sources.length) sources.push(el("li", {}, `and ${record.nSources - sources.length} more`));
  add(record.nSources > 1 ? `${record.nSources} sources` : "source", el("ul", { class: "sources" }, ...sources));
  if (record.checksum) add("checksum", el("code", {}, record.checksum), record.how === "copied" ? el("small", {}, "of the blocks, as they are") : "");
  if (record.reading) add("read as", record.reading);
  if (record.how) add("filled", { virtual: "by reference", copied: "with the tile's blocks as they are", materialized: "from references" }[record.how] || record.how);
  add("time", formatTime(record.time));
  add("run", el("code", {}, record.run));
  add("commit", describeCommitOf(record));
  return el("dl", { class: "pairs record" }, ...rows);
}

function describeCommitOf(record) {
  if (record.commit === null || record.commit === undefined) return "no longer in the history";
  const id = data.commits.snapshot[record.commit];
  return el("button", { type: "button", class: "link", title: "show what came with it", onclick: () => chooseCommits([record.commit]) }, el("code", {}, id));
}

/** A row for each frame: its state, time and picture; those near the current one where there are very many. */
function describeFrames(variable, iy, ix) {
  const first = Math.max(0, Math.min(currentFrame() - MAX_FRAMES / 2, variable.nFrames - MAX_FRAMES));
  const frames = Array.from({ length: Math.min(MAX_FRAMES, variable.nFrames) }, (_, i) => first + i);
  const rows = frames.map((frame) => describeFrame(variable, frame, iy, ix));
  return el("div", { class: "frames" }, el("h3", {}, `by ${variable.axes.map((a) => a.name).join(", ")}`), el("table", {}, el("tbody", {}, ...rows)));
}

function describeFrame(variable, frame, iy, ix) {
  const slot = slotOf(frame, iy, ix);
  const record = recordOf(variable, slot);
  const here = frame === currentFrame();
  const button = el("button", { type: "button", class: "link", "aria-pressed": String(here), onclick: () => update({ blocks: { ...state.blocks, ...blocksOf(variable, frame) } }) }, frameLabel(variable, frame));
  const source = record && record.sources[0] ? record.sources[0].href.split("/").pop() : "";
  return el("tr", { class: here ? "here" : "" },
    el("th", { scope: "row" }, button),
    el("td", {}, chip(STATES[variable.states[slot]])),
    el("td", {}, thumbnail(variable, frame, iy, ix, 32)),
    el("td", { class: "href" }, source, el("small", {}, record ? formatTime(record.time) : "")));
}

/** A thumbnail, and what it is of if not of the whole frame. */
function captioned(variable, picture) {
  const first = picture && firstLabel(variable, currentFrame());
  return first ? [picture, el("small", {}, `pixels of ${first} only`)] : [picture];
}

/** A region's part of a frame's picture on a canvas of its own, or null. */
function thumbnail(variable, frame, iy, ix, longest) {
  if (!PIXELS.includes(variable.states[slotOf(frame, iy, ix)])) return null;
  const picture = pictureOf(variable, frame);
  if (!picture) return null;
  const part = partOf(picture, iy, ix);
  const k = longest / Math.max(part.width, part.height);
  const [width, height] = [Math.max(1, Math.round(part.width * k)), Math.max(1, Math.round(part.height * k))];
  const out = el("canvas", { width, height, class: "thumbnail", role: "img", "aria-label": `pixels of ${regionId(iy, ix)} ${firstLabel(variable, frame) || frameLabel(variable, frame)}, thinned` });
  const ink = out.getContext("2d");
  ink.imageSmoothingEnabled = false;
  ink.fillStyle = variable.legend?.missing || "transparent";
  ink.fillRect(0, 0, width, height);
  ink.drawImage(picture.image, part.x, part.y, part.width, part.height, 0, 0, width, height);
  return out;
}
