"use strict";
const holders = [...document.querySelectorAll(".plot")];
function draw() {
  const style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue("--ink").trim();
  const grid = style.getPropertyValue("--grid").trim();
  for (const holder of holders) {
    const text = document.getElementById(holder.dataset.plot).textContent;
    const figure = JSON.parse(text.replaceAll('"@ink"', `"${ink}"`).replaceAll('"@grid"', `"${grid}"`));
    Plotly.react(holder, figure.data, figure.layout, {responsive: true, displayModeBar: false});
  }
}
draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
addEventListener("beforeprint", () => { document.documentElement.dataset.print = ""; draw(); });
addEventListener("afterprint", () => { delete document.documentElement.dataset.print; draw(); });
