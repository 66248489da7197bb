// The page: its state is the address's fragment, so that a search can be kept, shared and gone back to.
import { element, picture, plural, number } from "./parts.js";
import { Threshold } from "./threshold.js";
import { Detail } from "./detail.js";
import { Landscape, sampled } from "./map.js";
import { Taking } from "./taking.js";

const PAGE = 48;
const RETRY = 3000; // milliseconds before a busy server is asked again
const $ = (id) => document.getElementById(id);
const NAMES = ["text", "key", "place", "upload", "side", "where", "label", "score", "only", "at", "order", "way", "start"];

let about = null;
let shown = 0; // numbers the searches: an answer that comes late is not shown

const state = {
  read() {
    const given = new URLSearchParams(location.hash.slice(1));
    return Object.fromEntries(NAMES.map((name) => [name, given.get(name) ?? ""]));
  },
  write(changes, { replace = false } = {}) {
    const next = { ...this.read(), ...changes };
    const said = new URLSearchParams(Object.entries(next).filter(([, value]) => value !== ""));
    const url = `#${said}`;
    if (url === (location.hash || "#")) return;
    history[replace ? "replaceState" : "pushState"](null, "", url);
    if (!replace) show();
  },
};

export async function ask(path, parameters = {}, options = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const answer = await fetch(`/api/${path}?${new URLSearchParams(given)}`, options);
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) throw Object.assign(new Error(content.error ?? `the server answers ${answer.status}`), { busy: answer.status === 503 });
  return content;
}

// What restricts the rows, without the threshold; with it, where only those above are wanted.
const searches = (now) => Boolean(now.text || now.key || now.place || now.upload);
const score = (now) => (searches(now) && now.score === "match" ? "match" : "similarity");
const condition = ({ where, label, text, key, place, upload, side, ...now }) => (
  { where, label, text, key, place, upload, side: side || "image", score: score({ text, key, place, upload, score: now.score }) });
function narrowed(now) {
  const all = { ...condition(now), order: now.order || "best" };
  return now.only && now.at !== "" ? { ...all, at_least: Number(now.at).toFixed(4) } : all;
}

const threshold = new Threshold({
  ask,
  onChange: (at) => {
    state.write({ at }, { replace: true });
    mark();
    if (state.read().only) look();
  },
  onOnly: (only) => state.write({ only: only ? "1" : "", start: "" }),
  onOpen: (row) => detail.open(row),
});
const landscape = new Landscape({ ask, onOpen: (row) => detail.open(row) });
const taking = new Taking();
const detail = new Detail({
  onMore: (place) => state.write({ text: "", key: "", upload: "", place: String(place), start: "" }),
});

// --- results -------------------------------------------------------------------------------------------------------

async function look() {
  const now = state.read();
  const mine = ++shown;
  const start = Number(now.start) || 0;
  $("results").classList.add("waiting");
  try {
    const search = ask("search", { ...narrowed(now), start, count: PAGE });
    const found = now.way === "map" ? await landscape.load(narrowed(now)).then((map) => map && search.then((rows) => ({ ...rows, map }))) : await search;
    if (mine !== shown || !found) return;
    draw(found, now, start);
    complain(null);
  } catch (error) {
    if (mine !== shown) return;
    complain(error);
    if (error.busy) setTimeout(() => { if (mine === shown) look(); }, RETRY);
  } finally {
    if (mine === shown) $("results").classList.remove("waiting");
  }
}

function draw(found, now, start) {
  const ranked = searches(now);
  const last = start + found.hits.length;
  const most = ranked ? Math.min(found.total, about.deepest) : found.total;
  $("status").replaceChildren(
    ...(found.hits.length
      ? [element("b", {}, `${number(start + 1)}–${number(last)}`), ` of ${plural(found.total, "row")}`,
         found.note ? `. ${found.note}` : `, ${ordered(now, ranked, found)}`]
      : [found.total ? "No further rows" : "No rows to show"]),
  );
  if (found.map) $("status").replaceChildren("A map of ", element("b", {}, sampled(found.map)));
  const cut = now.only && now.at !== "" && score(now) === "match";
  taking.seen(narrowed(now), ranked && !cut ? most : found.total, ranked && !cut && most < found.total);
  const weak = ranked && found.weak_below !== null && found.hits.length && start === 0 && found.hits[0].score < found.weak_below;
  $("note").hidden = !weak && !found.why_none;
  $("note").textContent = found.why_none ?? (weak ? `Nothing fits well: ${weakness(found, now)}.` : "");
  $("map").hidden = !found.map;
  $("results").hidden = Boolean(found.map);
  turnable(start > 0, last < Math.min(most, about.deepest));
  $("below-results").hidden = Boolean(found.map) || (found.hits.length < PAGE && start === 0);
  $("results").replaceChildren(...found.hits.map((hit, i) => card(hit, ranked && !now.order ? start + i + 1 : null, found.weak_below)));
  mark();
}

function ordered(now, ranked, found) {
  const by = { similarity: "highest similarity first", "-similarity": "lowest similarity first" }[now.order];
  if (by) return ranked && found.total > about.deepest ? `of the best ${number(about.deepest)} matches, ${by}` : by;
  return ranked ? `best first${found.exact ? "" : " (by the index)"}` : "in the dataset's order";
}

function weakness(found, now) {
  const best = `the best match, ${found.hits[0].score.toFixed(3)},`;
  const across = Boolean(now.text) === ((now.side || "image") === "image");
  return across ? `${best} is nearer to what unrelated rows reach than to what captions reach with their own images` : `${best} hardly stands out from the other rows`;
}

function card({ score, row }, rank, weakBelow) {
  const chips = [];
  if (score !== null) chips.push(chip("match", score));
  const weak = score !== null && weakBelow != null && score < weakBelow;
  if (weak) chips.push(element("span", { class: "chip weak", title: `below ${weakBelow.toFixed(3)}, a match means little` }, "weak match"));
  const similarity = row[about.similarity];
  if (typeof similarity === "number") chips.push(chip("similarity", similarity));
  if (row["labels.label"]) chips.push(element("span", { class: "chip label", title: "label" }, row["labels.label"]));
  if (row.error) chips.push(element("span", { class: "chip bad" }, row.error));
  const button = element("button", { type: "button" },
    picture(row, 320, rank),
    row.caption ? element("div", { class: "words", dir: "auto" }, row.caption) : element("div", { class: "words none" }, "no caption"),
    element("div", { class: "chips" }, ...chips));
  button.addEventListener("click", () => detail.open(row));
  const item = element("li", { class: weak ? "card weak" : "card" }, button, taking.tick(row));
  item.dataset.match = score ?? "";
  item.dataset.place = row._place;
  item.dataset.similarity = similarity ?? "";
  return item;
}

function chip(name, value) {
  const made = element("span", { class: "chip" }, `${name} `, element("b", {}, value.toFixed(3)));
  made.dataset.name = name;
  return made;
}

// Rows that the threshold drops are drawn paler, once somebody has chosen one.
function mark() {
  const now = state.read(), at = now.at === "" ? null : threshold.at, by = score(now);
  for (const item of document.querySelectorAll(".card")) {
    const low = at !== null && item.dataset[by] !== "" && Number(item.dataset[by]) < at;
    item.classList.toggle("low", low);
    for (const chip of item.querySelectorAll(".chip[data-name]")) chip.classList.toggle("low", low && chip.dataset.name === by);
  }
}

function turnable(back, on) {
  for (const button of document.querySelectorAll(".previous")) button.disabled = !back;
  for (const button of document.querySelectorAll(".next")) button.disabled = !on;
}

function complain(error) {
  $("error").hidden = error === null;
  $("error").textContent = error?.message ?? "";
  $("where").classList.toggle("wrong", Boolean(error?.message.startsWith("filter:")));
  if (error) {
    $("results").replaceChildren();
    $("status").textContent = "";
    $("below-results").hidden = $("note").hidden = $("map").hidden = $("take").hidden = true;
    turnable(false, false);
  }
}

// --- what is asked for ---------------------------------------------------------------------------------------------

function show() {
  const now = state.read();
  $("by").value = now.key ? "key" : "text";
  hint();
  $("words").value = now.key || now.text;
  $("where").value = now.where;
  $("label").value = now.label;
  for (const radio of document.getElementsByName("side")) radio.checked = radio.value === (now.side || "image");
  for (const radio of document.getElementsByName("score")) radio.checked = radio.value === score(now);
  for (const radio of document.getElementsByName("way")) radio.checked = radio.value === now.way;
  for (const pages of document.querySelectorAll(".pages")) pages.hidden = now.way === "map";
  orders(now);
  const like = now.upload || now.place;
  $("like").hidden = !like;
  $("words").hidden = $("by").hidden = Boolean(like);
  if (like) drawLike(now);
  threshold.set(now.at === "" ? NaN : Number(now.at));
  threshold.only = Boolean(now.only);
  threshold.name(score(now), searches(now));
  look();
  threshold.load(condition(now)).then(mark);
}

function drawLike(now) {
  const image = element("img", { alt: "", src: now.upload ? uploaded.get(now.upload) ?? "/static/icon.svg" : `/api/image/${encodeURIComponent(now.place)}` });
  const away = element("button", { type: "button", "aria-label": "Search by something else" }, "×");
  away.addEventListener("click", () => state.write({ upload: "", place: "", start: "" }));
  $("like").replaceChildren(image, element("span", {}, now.upload ? "Like this image" : `Like row ${now.place}`), away);
}

function orders(now) {
  const options = [["", searches(now) ? "Best match first" : "Dataset order"], ["similarity", "Highest similarity first"], ["-similarity", "Lowest similarity first"]];
  $("order").replaceChildren(...options.map(([value, name]) => element("option", { value }, name)));
  $("order").value = now.order;
  $("order").hidden = about.similarity === null;
}

function hint() {
  $("words").placeholder = $("by").value === "key" ? "The key of a pair, such as 000012345" : "What to look for";
}

function submit() {
  const words = $("words").hidden ? "" : $("words").value.trim();
  const byKey = $("by").value === "key";
  const asked = $("words").hidden ? {} : { ...(state.read().score ? { at: "" } : {}), text: byKey ? "" : words, key: byKey ? words : "", place: "", upload: "" };
  const side = document.querySelector('input[name="side"]:checked').value;
  state.write({ ...asked, side: side === "image" ? "" : side, where: $("where").value.trim(), label: $("label").value, order: $("order").value, start: "" });
}

const uploaded = new Map(); // the names of uploads -> what they look like here

async function upload(file) {
  if (!file) return;
  $("status").textContent = "Looking at the image…";
  try {
    const { upload } = await ask("upload", {}, { method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" } });
    uploaded.set(upload, URL.createObjectURL(file));
    state.write({ text: "", key: "", place: "", upload, start: "" });
  } catch (error) {
    complain(error);
  }
}

$("search").addEventListener("submit", (event) => { event.preventDefault(); submit(); });
$("by").addEventListener("change", hint);
$("label").addEventListener("change", submit);
for (const radio of document.getElementsByName("side")) radio.addEventListener("change", submit);
$("where").addEventListener("change", submit);
$("order").addEventListener("change", submit);
for (const radio of document.getElementsByName("score")) radio.addEventListener("change", () => state.write({ score: radio.value === "match" ? "match" : "", at: "", only: "", start: "" }));
for (const radio of document.getElementsByName("way")) radio.addEventListener("change", () => state.write({ way: radio.value, start: "" }));
$("file").addEventListener("change", (event) => { upload(event.target.files[0]); event.target.value = ""; });
const turn = (by) => { state.write({ start: String(Math.max(0, (Number(state.read().start) || 0) + by) || "") }); scrollTo({ top: 0 }); };
for (const button of document.querySelectorAll(".previous")) button.addEventListener("click", () => turn(-PAGE));
for (const button of document.querySelectorAll(".next")) button.addEventListener("click", () => turn(PAGE));
addEventListener("popstate", show);

const images = (transfer) => [...(transfer?.files ?? [])].filter((file) => file.type.startsWith("image/"));
addEventListener("dragover", (event) => { event.preventDefault(); $("drop").hidden = false; });
addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").hidden = true; });
addEventListener("drop", (event) => { event.preventDefault(); $("drop").hidden = true; upload(images(event.dataTransfer)[0]); });
addEventListener("paste", (event) => upload(images(event.clipboardData)[0]));

async function begin() {
  try {
    about = await ask("about");
  } catch (error) {
    complain(error);
    return;
  }
  $("about").textContent = `${plural(about.rows, "row")} · ${about.model} · ${about.dataset}`;
  $("about").title = about.dataset;
  taking.begin(about.downloads);
  for (const radio of document.getElementsByName("side")) radio.disabled = !(radio.value in about.sides);
  if (about.labels) {
    const options = about.labels.map(([name, rows]) => element("option", { value: name }, `${name} (${number(rows)})`));
    $("label").replaceChildren(element("option", { value: "" }, "Any label"), ...options);
    $("label").hidden = false;
  }
  if (innerWidth <= 900) document.querySelector("#threshold details").open = false;
  show();
}

begin();
