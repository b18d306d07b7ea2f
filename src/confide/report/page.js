"use strict";
// Draws the figures in the page's colours, and again when these change or the page is printed; those behind a closed
// disclosure when it is opened.
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
      const box = document.getElementById(id);
      if (box.closest("details.fold:not([open])")) continue; // it has no size to fill
      const shown = structuredClone(figure);
      const { data, layout } = dark.matches && !isPrinting ? recolored(shown) : shown;
      if (isPrinting) Object.assign(layout, { width: paperWidth, autosize: false });
      Plotly.react(box, data, layout, { displayModeBar: false, responsive: true });
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
  const folds = document.querySelectorAll("details.fold");
  for (const fold of folds) {
    fold.addEventListener("toggle", () => {
      if (!fold.open || !fold.querySelector(".plot")) return;
      draw();
      if (!isPrinting) for (const box of fold.querySelectorAll(".plot")) Plotly.Plots.resize(box);
    });
  }
  const openAll = document.getElementById("open-all");
  openAll.hidden = [...folds].every((fold) => fold.open);
  openAll.addEventListener("click", () => {
    for (const fold of folds) fold.open = true;
  });
  dark.addEventListener("change", draw);
  paper.addEventListener("change", (event) => setPrinting(event.matches));
  addEventListener("beforeprint", () => setPrinting(true));
  addEventListener("afterprint", () => setPrinting(false));
})();
