// The map: each point is a row, near to those whose embeddings are like its own.
import { element, number, picture } from "./parts.js";

const REACH = 12; // pixels between the pointer and a point that it means
const COLOURS = ["#0d9488", "#e0662f", "#5b6ee1", "#c2417f", "#8a9a1f", "#0891c9", "#a1622d", "#7c4dbd", "#2f9e44", "#d4a017", "#d1495b", "#7b8794"];
const LOW = [202, 103, 2], MIDDLE = [148, 160, 158], HIGH = [13, 148, 136];
const $ = (id) => document.getElementById(id);

export class Landscape {
  #ask; #onOpen; #found = null; #asked = 0; #at = null; #hovered = null; #chosen = false;

  constructor({ ask, onOpen }) {
    this.#ask = ask;
    this.#onOpen = onOpen;
    $("colour").addEventListener("change", () => { this.#chosen = true; this.#draw(); });
    $("canvas").addEventListener("pointermove", (event) => this.#hover(event));
    $("canvas").addEventListener("pointerleave", () => this.#hover(null));
    $("canvas").addEventListener("click", (event) => { this.#hover(event); this.#open(); });
    new ResizeObserver(() => this.#draw()).observe($("canvas"));
  }

  // Returns the answer, or null where a later question has taken its place.
  async load(parameters) {
    const mine = ++this.#asked;
    const found = await this.#ask("map", parameters);
    if (mine !== this.#asked) return null;
    this.#found = found;
    for (const [name, there] of [["label", found.names], ["match", found.match], ["similarity", found.similarity.some((v) => v !== null)]]) {
      $("colour").querySelector(`[value="${name}"]`).hidden = !there;
    }
    if (!this.#chosen && found.match) $("colour").value = "match"; // something is looked for: show where it is
    const chosen = $("colour").selectedOptions[0];
    if (!chosen || chosen.hidden) $("colour").value = [...$("colour").options].find((option) => !option.hidden)?.value ?? "";
    this.#draw();
    return found;
  }

  #draw() {
    const found = this.#found, canvas = $("canvas");
    if (!found || !canvas.clientWidth) return;
    const ratio = devicePixelRatio || 1;
    canvas.width = canvas.clientWidth * ratio;
    canvas.height = canvas.clientHeight * ratio;
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    const across = scale(found.x, canvas.clientWidth), down = scale(found.y, canvas.clientHeight);
    this.#at = found.x.map((x, i) => [across(x), canvas.clientHeight - down(found.y[i])]);
    const colour = this.#colours();
    context.globalAlpha = found.x.length > 1500 ? 0.6 : 0.8;
    const radius = found.x.length > 1500 ? 2.6 : 4;
    this.#at.forEach(([x, y], i) => {
      context.fillStyle = colour(i);
      context.beginPath();
      context.arc(x, y, radius, 0, 7);
      context.fill();
    });
  }

  // Of each point, by what is chosen; the legend says which is which.
  #colours() {
    const found = this.#found, by = $("colour").value;
    const soft = getComputedStyle($("canvas")).getPropertyValue("--soft");
    if (by === "label" && found.names) {
      $("legend").replaceChildren(...found.names.map((name, i) => key(name, COLOURS[i % COLOURS.length])));
      return (i) => (found.labels[i] < 0 ? soft : COLOURS[found.labels[i] % COLOURS.length]);
    }
    const values = found[by];
    if (!values) {
      $("legend").replaceChildren();
      return () => COLOURS[0];
    }
    const known = values.filter((value) => value !== null).sort((a, b) => a - b);
    const lowest = known[Math.floor(known.length * 0.02)] ?? 0, highest = known[Math.ceil(known.length * 0.98) - 1] ?? 1;
    const paint = (value) => blend((value - lowest) / (highest - lowest || 1));
    $("legend").replaceChildren(...[lowest, (lowest + highest) / 2, highest].map((value) => key(value.toFixed(2), paint(value))));
    return (i) => (values[i] === null ? soft : paint(values[i]));
  }

  #hover(event) {
    const nearest = event && this.#at ? this.#nearest(event) : null;
    $("canvas").classList.toggle("on", nearest !== null);
    if (nearest === this.#hovered) return;
    this.#hovered = nearest;
    $("peek").hidden = nearest === null;
    if (nearest === null) return;
    const [x, y] = this.#at[nearest], found = this.#found;
    const words = [found.names && found.labels[nearest] >= 0 ? found.names[found.labels[nearest]] : null,
      ...["similarity", "match"].map((name) => (found[name]?.[nearest] == null ? null : `${name} ${found[name][nearest].toFixed(3)}`))];
    $("peek").replaceChildren(picture({ _place: found.places[nearest] }, 320), element("p", {}, words.filter(Boolean).join(" · ")));
    $("peek").style.left = `${Math.min(x + 14, $("canvas").clientWidth - 170)}px`;
    $("peek").style.top = `${Math.min(y + 14, $("canvas").clientHeight - 170)}px`;
  }

  #nearest(event) {
    const box = $("canvas").getBoundingClientRect();
    const x = event.clientX - box.left, y = event.clientY - box.top;
    let nearest = null, least = REACH ** 2;
    this.#at.forEach(([px, py], i) => {
      const far = (px - x) ** 2 + (py - y) ** 2;
      if (far < least) [nearest, least] = [i, far];
    });
    return nearest;
  }

  async #open() {
    if (this.#hovered === null) return;
    const { row } = await this.#ask(`row/${this.#found.places[this.#hovered]}`);
    this.#onOpen(row);
  }
}

// From the numbers to pixels; the outermost hundredth may lie on the edge, so that few outliers do not squeeze the rest.
function scale(numbers, pixels) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const low = sorted[Math.floor(sorted.length * 0.005)] ?? 0, high = sorted[Math.ceil(sorted.length * 0.995) - 1] ?? 1;
  return (value) => 10 + (pixels - 20) * Math.min(1, Math.max(0, (value - low) / (high - low || 1)));
}

function blend(share) {
  const at = Math.min(1, Math.max(0, share)) * 2;
  const [from, to] = at < 1 ? [LOW, MIDDLE] : [MIDDLE, HIGH];
  return `rgb(${from.map((value, i) => Math.round(value + (to[i] - value) * (at % 1 || (at === 2 ? 1 : 0)))).join(" ")})`;
}

function key(text, colour) {
  const swatch = element("i", {});
  swatch.style.background = colour;
  return element("li", {}, swatch, text);
}

export const sampled = (found) => (found.places.length < found.total
  ? `a sample of ${number(found.places.length)} of ${number(found.total)} rows`
  : `${number(found.total)} row${found.total === 1 ? "" : "s"}`);
