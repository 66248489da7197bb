// The similarity slider: a histogram, what falls either side, and the command that keeps what is above.
import { element, number, picture } from "./parts.js";

const MATCHES = 0.95; // of all rows lie below the first threshold on matches
const PATIENCE = 120; // milliseconds without a move before the server is asked
const $ = (id) => document.getElementById(id);

export class Threshold {
  #ask; #onChange; #onOpen; #condition = {}; #bins = null; #timer = 0; #asked = 0; #wanted = null; #score = "similarity"; #without = "";
  at = null; // what the slider says; null where there is nothing to cut

  constructor({ ask, onChange, onOnly, onOpen }) {
    this.#ask = ask;
    this.#onChange = onChange;
    this.#onOpen = onOpen;
    $("slider").addEventListener("input", () => this.#moved(Number($("slider").value)));
    $("only").addEventListener("change", () => onOnly($("only").checked));
    $("copy").addEventListener("click", () => this.#copy());
  }

  set(at) { this.#wanted = Number.isFinite(at) ? at : null; }
  // What the slider is about, and what the command then does.
  name(score, searching) {
    this.#score = score;
    $("score-name").textContent = score === "match" ? "Match" : "Similarity";
    $("scores").hidden = !searching;
    $("command-name").textContent = searching ? "Find these rows" : "Keep these rows";
    this.#without = score === "match" ? "No row that is shown can be compared with the query." : "No row that is shown has a similarity: it takes an image and a caption.";
  }
  set only(value) { $("only").checked = value; }

  // The histogram of these rows. Where nothing was chosen yet, the threshold is at the median; of matches, which are few
  // among many rows, near the top.
  async load(condition) {
    this.#condition = condition;
    const mine = ++this.#asked;
    let found;
    try {
      found = await this.#ask("histogram", condition);
    } catch { // the search says what is wrong with the filter
      if (mine === this.#asked) $("with").hidden = $("without").hidden = true;
      return;
    }
    if (mine !== this.#asked) return;
    const there = found.counts.reduce((sum, count) => sum + count, 0);
    $("without").textContent = found.missing ? this.#without : "No row is left to cut.";
    $("with").hidden = there === 0;
    $("without").hidden = there > 0;
    this.#bins = there ? found : null;
    this.at = there ? this.#wanted ?? quantile(found, there, this.#score === "match" ? MATCHES : 0.5) : null;
    $("at").textContent = this.at === null ? "" : this.at.toFixed(3);
    if (this.at === null) return;
    const { lowest, highest } = found;
    const edge = (highest - lowest) / 50 || 0.01;
    $("slider").min = Math.min(lowest, this.at).toFixed(4);
    $("slider").max = Math.max(highest + edge / 50, this.at).toFixed(4);
    $("slider").value = this.at.toFixed(4);
    $("lowest").textContent = lowest.toFixed(3);
    $("highest").textContent = highest.toFixed(3);
    this.#draw();
    await this.#look();
  }

  #moved(at) {
    this.at = this.#wanted = at;
    $("at").textContent = at.toFixed(3);
    this.#draw();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => { this.#onChange(at.toFixed(4)); this.#look(); }, PATIENCE);
  }

  #draw() {
    const { counts, lowest, highest } = this.#bins;
    const most = Math.max(...counts, 1);
    const width = 600 / counts.length;
    const bars = counts.map((count, bin) => {
      const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
      const height = count ? Math.max(1.5, (118 * count) / most) : 0;
      const figures = { x: bin * width + 0.75, y: 120 - height, width: width - 1.5, height, rx: 1.5 };
      for (const [name, value] of Object.entries(figures)) bar.setAttribute(name, value);
      const middle = lowest + ((bin + 0.5) * (highest - lowest)) / counts.length;
      bar.classList.toggle("low", middle < this.at);
      return bar;
    });
    $("histogram").replaceChildren(...bars);
  }

  async #look() {
    const mine = ++this.#asked;
    let found;
    try {
      found = await this.#ask("threshold", { ...this.#condition, at: this.at.toFixed(4) });
    } catch {
      return;
    }
    if (mine !== this.#asked) return;
    const all = found.below + found.above;
    for (const side of ["below", "above"]) {
      const share = document.createElement("small");
      share.textContent = all ? `${((100 * found[side]) / all).toFixed(1)} %` : "";
      $(side).replaceChildren(number(found[side]), share);
      $(`just-${side}`).replaceChildren(...found[`just_${side}`].map(({ row }) => this.#sample(row)));
    }
    $("command").replaceChildren(...unbroken(found.command));
  }

  #sample(row) {
    const frame = picture(row, 320);
    const button = document.createElement("button");
    button.type = "button";
    button.className = frame.className;
    button.title = row.caption ?? row.key;
    button.append(...frame.childNodes);
    button.addEventListener("click", () => this.#onOpen(row));
    return button;
  }

  async #copy() {
    try {
      await navigator.clipboard.writeText($("command").textContent);
      $("copy").textContent = "Copied";
    } catch { // not on a page without TLS that is not this machine's own: select it instead
      getSelection().selectAllChildren($("command"));
      $("copy").textContent = "Selected";
    }
    setTimeout(() => { $("copy").textContent = "Copy"; }, 1500);
  }
}

// Its words, each on one line where it fits: lines break after hyphens, and `--` is no option.
const unbroken = (command) => command.split(/( +)/).map((word) => (word.trim() ? element("span", {}, word) : word));

function quantile({ counts, lowest, highest }, there, share) {
  let seen = 0;
  const bin = counts.findIndex((count) => (seen += count) >= there * share);
  return lowest + ((bin + 0.5) * (highest - lowest)) / counts.length;
}
