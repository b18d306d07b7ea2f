"use strict";
// Draws the figures in the page's colours, and again when these change or the page is printed.
(() => {
  const { colors, figures } = JSON.parse(document.getElementById("figures").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const paper = matchMedia("print");
  const paperWidth = 660; // CSS pixels between the margins of an A4 page
  let isPrinting = paper.matches;

  const recolored = (value) => {
    if (typeof value === "string") return colors[value] ?? value;
    if (Array.isArray(value)) return value.map(recolored);
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, recolored(inner)]));
  };

  const draw = () => {
    document.documentElement.classList.add("drawn");
    for (const [id, figure] of Object.entries(figures)) {
      const shown = structuredClone(figure);
      const { data, layout } = dark.matches && !isPrinting ? recolored(shown) : shown;
      if (isPrinting) Object.assign(layout, { width: paperWidth, autosize: false });
      Plotly.react(id, data, layout, { displayModeBar: false, responsive: true });
    }
  };

  const setPrinting = (value) => {
    if (value === isPrinting) return;
    isPrinting = value;
    draw();
  };

  draw();
  document.getElementById("js-plotly-tester")?.setAttribute("aria-hidden", "true"); // plotly measures texts in it
  for (const details of document.querySelectorAll("details.twin")) details.open = false; // open without scripts
  dark.addEventListener("change", draw);
  paper.addEventListener("change", (event) => setPrinting(event.matches));
  addEventListener("beforeprint", () => setPrinting(true));
  addEventListener("afterprint", () => setPrinting(false));
})();
