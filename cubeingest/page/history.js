// The history: a bar for each commit, as high as the slots that it wrote; one that is chosen lights its slots on the map.

const MAX_BARS = 72;
const MAX_TOLD = 30;
const commits = data.commits;
const nCommits = commits.snapshot.length;
const slotsIn = (n) => commits.written[n] + commits.empty[n];

/** Commits in groups of neighbours, so that no more bars stand there than can be hit. */
function groupCommits() {
  const most = window.matchMedia("(max-width: 40rem)").matches ? MAX_BARS / 3 : MAX_BARS;
  const each = Math.max(1, Math.ceil(nCommits / most));
  const groups = [];
  for (let n = 0; n < nCommits; n += each) {
    groups.push(Array.from({ length: Math.min(each, nCommits - n) }, (_, i) => n + i));
  }
  return groups;
}

function namesOf(n) {
  const pointing = (names) => Object.keys(names).filter((name) => names[name] === commits.snapshot[n]);
  return { tags: pointing(commits.tags), branches: pointing(commits.branches) };
}

const dayOf = (n) => formatTime(commits.time[n]).slice(0, 10);

function renderTimeline() {
  const groups = groupCommits();
  const sums = groups.map((group) => group.reduce((sum, n) => sum + slotsIn(n), 0));
  const most = Math.max(1, ...sums);
  const bars = groups.map((group, i) => bar(group, sums[i], most, i === 0 || dayOf(group[0]) !== dayOf(groups[i - 1][0])));
  const elsewhere = Object.entries({ ...commits.tags, ...commits.branches }).filter(([, id]) => !commits.snapshot.includes(id));
  const older = commits.older ? el("p", { class: "hint" }, `${formatCount(commits.older)} older commits are not shown.`) : "";
  byId("timeline").replaceChildren(
    el("div", { class: "bars-scroll" }, el("div", { class: "timeline", role: "group", "aria-label": "commits, oldest first" }, ...bars)),
    ...[older, elsewhere.length ? el("p", { class: "hint" }, `Not in this history: ${elsewhere.map(([name, id]) => `${name} (${id})`).join(", ")}.`) : ""].filter(Boolean),
  );
}

function bar(group, sum, most, isNewDay) {
  const { tags, branches } = group.map(namesOf).reduce((a, b) => ({ tags: [...a.tags, ...b.tags], branches: [...a.branches, ...b.branches] }));
  const text = group.length > 1 ? `${group.length} commits, ${formatCount(sum)} slots` : `${texts[commits.message[group[0]]]}, ${formatTime(commits.time[group[0]])}`;
  const height = sum ? 6 + 94 * Math.sqrt(sum / most) : 0;
  const fill = el("span", { class: sum ? "fill" : "fill none" });
  fill.style.height = sum ? `${height}%` : "";
  return el("button", { type: "button", class: "commit-bar", title: text, "aria-label": [text, ...tags, ...branches].join(", "), "aria-pressed": "false", "data-first": group[0], "data-last": group[group.length - 1], onclick: () => chooseCommits(group) },
    el("span", { class: "names" }, ...tags.map((t) => el("b", { class: "tag" }, t)), ...branches.map((t) => el("b", { class: "branch" }, t))),
    el("span", { class: "column" }, fill),
    el("span", { class: "day" }, isNewDay ? dayOf(group[0]) : ""));
}

/** Light what came with some commits, at a place on the axes where there is any of it. */
function chooseCommits(group) {
  const same = group.length === state.commits.length && group[0] === state.commits[0];
  update({ commits: same ? [] : group });
  const frames = new Set([...(lit || [])].map((slot) => Math.floor(slot / nRegions)));
  if (frames.size && !frames.has(currentFrame())) update({ blocks: { ...state.blocks, ...blocksOf(current(), Math.min(...frames)) } });
}

function renderCommits() {
  for (const button of byId("timeline").querySelectorAll(".commit-bar")) {
    const within = (n) => n >= Number(button.dataset.first) && n <= Number(button.dataset.last);
    button.setAttribute("aria-pressed", String(state.commits.some(within)));
  }
  const rows = [...state.commits].reverse().slice(0, MAX_TOLD).map(describeCommit);
  const more = state.commits.length > MAX_TOLD ? [el("p", { class: "hint" }, `and ${state.commits.length - MAX_TOLD} more`)] : [];
  byId("commit").replaceChildren(...(rows.length ? [commitSummary(), ...rows, ...more] : [el("p", { class: "hint" }, "Choose a commit to see on the map what came with it.")]));
}

function commitSummary() {
  const here = lit ? [...lit].filter((slot) => Math.floor(slot / nRegions) === currentFrame()).length : 0;
  const label = frameLabel(current(), currentFrame());
  const text = current().records ? `${formatCount(lit ? lit.size : 0)} slots of ${current().name} are as they came with it, ${formatCount(here)} of them ${label ? `in ${label}` : "shown"}. ` : "This page holds no records, so it cannot say which slots came with it. ";
  return el("p", {}, text, el("button", { type: "button", class: "link", onclick: () => update({ commits: [] }) }, "show all again"));
}

function describeCommit(n) {
  const { tags, branches } = namesOf(n);
  const version = texts[commits.version[n]];
  return el("div", { class: "commit-row" },
    el("time", {}, formatTime(commits.time[n])),
    el("code", {}, commits.snapshot[n]),
    el("span", { class: "message" }, texts[commits.message[n]]),
    ...tags.map((t) => el("b", { class: "tag" }, t)), ...branches.map((t) => el("b", { class: "branch" }, t)),
    el("small", {}, [slotsIn(n) ? `${formatCount(commits.written[n])} written, ${formatCount(commits.empty[n])} empty` : "", version ? `cubeingest ${version}` : "by other means"].filter(Boolean).join("; ")));
}

function startHistory() {
  if (!nCommits) return;
  byId("history").hidden = false;
  renderTimeline();
  watchers.push((changes) => {
    if ("commits" in changes || "blocks" in changes || "variable" in changes) renderCommits();
  });
}
