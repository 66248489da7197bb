// The thresholds' sliders; without a script the page only lacks these.
for (const slider of document.querySelectorAll(".slider")) {
  const points = JSON.parse(slider.dataset.points); // [threshold, rows at or above it]
  const { of, command, low, high, scored } = slider.dataset;
  const input = slider.querySelector("input");
  const lines = document.querySelectorAll(`.threshold[data-of="${CSS.escape(of)}"]`);
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
  };
  input.max = points.length - 1;
  input.value = 0;
  input.addEventListener("input", move);
  move();
  slider.hidden = false;
}
