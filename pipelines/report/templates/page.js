const read = (id) => JSON.parse(document.getElementById(id).textContent);
const specs = read("specs");
const configs = read("configs");
const plots = [...document.querySelectorAll(".plot")];
const dark = matchMedia("(prefers-color-scheme: dark)");
const narrow = matchMedia("(max-width: 640px)");
const formatLocale = { decimal: ".", thousands: ",", grouping: [3], currency: ["", ""], percent: "\u00a0%", minus: "−" };
const views = new Map();
let round = 0;

function look() {
  const config = structuredClone(configs[dark.matches ? "dark" : "light"]);
  if (narrow.matches) {
    config.legend.columns = 2;
    config.axis.labelLimit = 128;
    config.axis.labelFontSize = 11;
    config.axis.tickCount = 5;
    config.style["value-text"].fontSize = 10;
  }
  return config;
}

async function drawAll() {
  const mine = ++round;
  const root = document.documentElement;
  root.dataset.charts = "drawing";
  let failed = 0;
  for (const plot of plots) {
    if (mine !== round) return;
    try {
      views.get(plot)?.finalize();
      views.set(plot, await window.vegaEmbed(plot, specs[plot.dataset.spec], {
        mode: "vega-lite", renderer: "svg", config: look(), formatLocale,
        actions: { export: true, source: false, compiled: false, editor: false },
      }));
    } catch (error) {
      failed += 1;
      plot.textContent = `This chart could not be drawn: ${error.message}`;
      console.error(error);
    }
    await new Promise((resume) => setTimeout(resume));
  }
  if (mine === round) root.dataset.charts = failed ? "failed" : "ready";
}

dark.addEventListener("change", drawAll);
narrow.addEventListener("change", drawAll);
drawAll();
