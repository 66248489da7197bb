// What is selected, and the links that download it, or all that is seen.
import { element, plural } from "./parts.js";

const MOST = 1000000; // rows of a download, see downloads.py
const $ = (id) => document.getElementById(id);
const FORMS = { keys: "Keys, a text file", uids: "Uids, a text file", parquet: "Rows, a Parquet file" };

export class Taking {
  #places = new Set(); #parameters = {}; #total = 0; #best = false; #forms = [];

  constructor() {
    $("clear").addEventListener("click", () => {
      this.#places.clear();
      for (const box of document.querySelectorAll(".tick input")) box.checked = false;
      this.#offer();
    });
    document.addEventListener("click", (event) => { if (!$("take").contains(event.target)) $("take").open = false; });
  }

  // forms: those that the dataset can give.
  begin(forms) { this.#forms = forms; }

  // What is seen now: the parameters of the search, and how many rows it gives. best: there are more, which match less.
  seen(parameters, total, best) {
    this.#parameters = parameters;
    this.#total = total;
    this.#best = best;
    this.#offer();
  }

  tick(row) {
    const box = element("input", { type: "checkbox", "aria-label": `Select ${row.key}` });
    box.checked = this.#places.has(row._place);
    box.addEventListener("change", () => {
      if (box.checked) this.#places.add(row._place); else this.#places.delete(row._place);
      this.#offer();
    });
    return element("label", { class: "tick", title: "Select" }, box);
  }

  #offer() {
    const selected = this.#places.size;
    const many = !selected && this.#total > MOST;
    $("take").hidden = !selected && !this.#total;
    $("take-what").textContent = selected ? plural(selected, "selected row") : this.#best ? `The best ${plural(this.#total, "match", "matches")}` : `All ${plural(this.#total, "row")} that match`;
    $("take-many").hidden = !many;
    $("clear").hidden = !selected;
    $("selected").textContent = selected ? `(${selected})` : "";
    const given = { ...this.#parameters, ...(selected ? { places: [...this.#places].join(",") } : {}) };
    const query = new URLSearchParams(Object.entries(given).filter(([, value]) => value !== "" && value != null));
    $("take-links").replaceChildren(...(many ? [] : this.#forms.map((form) => element("a", { href: `/api/download/${form}?${query}`, download: "" }, FORMS[form]))));
  }
}
