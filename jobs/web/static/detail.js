// One row: its image, its caption, everything that is known of it.
import { element, picture } from "./parts.js";

const $ = (id) => document.getElementById(id);

export class Detail {
  #place = null;

  constructor({ onMore }) {
    $("close").addEventListener("click", () => $("detail").close());
    $("detail").addEventListener("click", (event) => { if (event.target === $("detail")) $("detail").close(); });
    $("more").addEventListener("click", () => { $("detail").close(); onMore(this.#place); scrollTo({ top: 0 }); });
  }

  open(row) {
    this.#place = row._place;
    $("detail-title").textContent = row.key;
    $("caption").textContent = row.caption ?? "";
    $("caption").hidden = !row.caption;
    $("more").disabled = Boolean(row.error);
    $("detail").querySelector(".picture").replaceChildren(picture(row, 1280));
    const facts = Object.entries(row).filter(([name, value]) => value !== null && !["_place", "caption", "key"].includes(name));
    $("detail").querySelector("table").replaceChildren(
      ...facts.map(([name, value]) => element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, shown(value)))),
    );
    $("detail").showModal();
  }
}

// Addresses of the web can be followed; anything else is text.
function shown(value) {
  if (typeof value === "number" && !Number.isInteger(value)) return value.toFixed(4);
  const text = String(value);
  if (!/^https?:\/\//i.test(text)) return text;
  return element("a", { href: text, target: "_blank", rel: "noopener noreferrer" }, text);
}
