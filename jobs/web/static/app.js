// The page: its state is the address's fragment, so that a search can be kept, shared and gone back to.
import { element, picture, plural, number } from "./parts.js";
import { Threshold } from "./threshold.js";
import { Detail } from "./detail.js";

const PAGE = 48;
const $ = (id) => document.getElementById(id);
const NAMES = ["text", "key", "place", "upload", "side", "where", "label", "only", "at", "start"];

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
  if (!answer.ok) throw new Error(content.error ?? `the server answers ${answer.status}`);
  return content;
}

// What restricts the rows, without the threshold; with it, where only those above are wanted.
const condition = (now) => ({ where: now.where, label: now.label });
function narrowed(now) {
  if (!now.only || now.at === "") return condition(now);
  return { ...condition(now), at_least: Number(now.at).toFixed(4) };
}

const threshold = new Threshold({
  ask,
  onChange: (at) => {
    state.write({ at }, { replace: true });
    mark();
    if (state.read().only) results();
  },
  onOnly: (only) => state.write({ only: only ? "1" : "", start: "" }),
  onOpen: (row) => detail.open(row),
});
const detail = new Detail({
  onMore: (place) => state.write({ text: "", key: "", upload: "", place: String(place), start: "" }),
});

// --- results -------------------------------------------------------------------------------------------------------

async function results() {
  const now = state.read();
  const mine = ++shown;
  const start = Number(now.start) || 0;
  $("results").classList.add("waiting");
  try {
    const { text, key, place, upload } = now;
    const found = await ask("search", { text, key, place, upload, side: now.side || "image", ...narrowed(now), start, count: PAGE });
    if (mine !== shown) return;
    draw(found, now, start);
    complain(null);
  } catch (error) {
    if (mine === shown) complain(error);
  } finally {
    if (mine === shown) $("results").classList.remove("waiting");
  }
}

function draw(found, now, start) {
  const ranked = Boolean(now.text || now.key || now.place || now.upload);
  const last = start + found.hits.length;
  const most = ranked ? Math.min(found.total, about.deepest) : found.total;
  $("status").replaceChildren(
    ...(found.hits.length
      ? [element("b", {}, `${number(start + 1)}–${number(last)}`), ` of ${plural(found.total, "row")}`,
         found.note ? `. ${found.note}` : ranked ? `, best first${found.exact ? "" : " (by the index)"}` : ", in the dataset's order"]
      : [found.total ? "No further rows" : "No rows to show"]),
  );
  turnable(start > 0, last < Math.min(most, about.deepest));
  $("below-results").hidden = found.hits.length < PAGE;
  $("results").replaceChildren(...found.hits.map((hit, i) => card(hit, ranked ? start + i + 1 : null)));
  mark();
}

function card({ score, row }, rank) {
  const chips = [];
  if (score !== null) chips.push(chip("match", score));
  const similarity = row[about.similarity];
  if (typeof similarity === "number") chips.push(chip("similarity", similarity));
  if (row["labels.label"]) chips.push(element("span", { class: "chip label", title: "label" }, row["labels.label"]));
  if (row.error) chips.push(element("span", { class: "chip bad" }, row.error));
  const button = element("button", { type: "button" },
    picture(row, 320, rank),
    row.caption ? element("div", { class: "words", dir: "auto" }, row.caption) : element("div", { class: "words none" }, "no caption"),
    element("div", { class: "chips" }, ...chips));
  button.addEventListener("click", () => detail.open(row));
  const item = element("li", { class: "card" }, button);
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
  const at = state.read().at === "" ? null : threshold.at;
  for (const item of document.querySelectorAll(".card")) {
    const low = at !== null && item.dataset.similarity !== "" && Number(item.dataset.similarity) < at;
    item.classList.toggle("low", low);
    item.querySelector('.chip[data-name="similarity"]')?.classList.toggle("low", low);
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
    $("below-results").hidden = true;
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
  const like = now.upload || now.place;
  $("like").hidden = !like;
  $("words").hidden = $("by").hidden = Boolean(like);
  if (like) drawLike(now);
  if (now.at !== "") threshold.set(Number(now.at));
  threshold.only = Boolean(now.only);
  results();
  threshold.load(condition(now)).then(mark);
}

function drawLike(now) {
  const image = element("img", { alt: "", src: now.upload ? uploaded.get(now.upload) ?? "/static/icon.svg" : `/api/image/${encodeURIComponent(now.place)}` });
  const away = element("button", { type: "button", "aria-label": "Search by something else" }, "×");
  away.addEventListener("click", () => state.write({ upload: "", place: "", start: "" }));
  $("like").replaceChildren(image, element("span", {}, now.upload ? "Like this image" : `Like row ${now.place}`), away);
}

function hint() {
  $("words").placeholder = $("by").value === "key" ? "The key of a pair, such as 000012345" : "Describe what to look for";
}

function submit() {
  const words = $("words").hidden ? "" : $("words").value.trim();
  const byKey = $("by").value === "key";
  const asked = $("words").hidden ? {} : { text: byKey ? "" : words, key: byKey ? words : "", place: "", upload: "" };
  const side = document.querySelector('input[name="side"]:checked').value;
  state.write({ ...asked, side: side === "image" ? "" : side, where: $("where").value.trim(), label: $("label").value, start: "" });
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
