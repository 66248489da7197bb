// Pieces of the page. Text from the dataset is set as text, never as HTML.

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export const number = (value) => Number(value).toLocaleString("en");
export const plural = (count, noun, nouns = `${noun}s`) => `${number(count)} ${count === 1 ? noun : nouns}`;

// The image of a row; where there is none, why.
export function picture(row, side, rank = null) {
  const frame = element("div", { class: "frame" });
  if (rank !== null) frame.append(element("span", { class: "rank" }, number(rank)));
  const source = `/api/image/${row._place}?side=${side}`;
  const image = element("img", { alt: row.caption ?? "", loading: "lazy", decoding: "async", src: source });
  image.addEventListener("error", async () => {
    image.remove();
    const why = await fetch(source).then((answer) => answer.json()).then((said) => said.error).catch(() => null);
    frame.append(element("p", {}, why ?? "no image"));
  }, { once: true });
  frame.append(image);
  return frame;
}
