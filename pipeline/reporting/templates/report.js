// The thresholds' sliders; without a script the page only lacks these.
for (const slider of document.querySelectorAll(".slider")) {
  const points = JSON.parse(slider.dataset.points); // [threshold, rows at or above it]
  const { of, command, low, high, scored, start } = slider.dataset;
  const input = slider.querySelector("input");
  const lines = document.querySelectorAll(`.threshold[data-of="${CSS.escape(of)}"]`);
  const around = document.querySelector(`.around[data-of="${CSS.escape(of)}"]`);
  const along = [...around.querySelectorAll(".along figure")]; // ascending
  const show = (threshold) => {
    const first = along.findIndex((figure) => Number(figure.dataset.figure) >= threshold);
    const split = first < 0 ? along.length : first;
    around.querySelector(".below").replaceChildren(...along.slice(Math.max(0, split - 6), split));
    around.querySelector(".above").replaceChildren(...along.slice(split, split + 6));
    around.hidden = along.length === 0;
  };
  const move = () => {
    const [threshold, rows] = points[input.value];
    const at = (100 * (threshold - low)) / (high - low);
    for (const line of lines) {
      line.hidden = false;
      line.style.width = `${Math.min(100, Math.max(0, at))}%`;
    }
    const share = scored > 0 ? ((100 * rows) / scored).toFixed(1) : "0.0";
    const text = threshold.toFixed(3);
    slider.querySelector("output").textContent = `≥ ${text} keeps ${rows.toLocaleString("en")} rows, ${share}%`;
    slider.querySelector("code").textContent = command.replace("{}", text);
    show(threshold);
  };
  input.max = points.length - 1;
  const first = points.findIndex(([threshold]) => threshold >= start); // most thresholds that are chosen are near it
  input.value = first < 0 ? 0 : first;
  input.addEventListener("input", move);
  move();
  slider.hidden = false;
}
