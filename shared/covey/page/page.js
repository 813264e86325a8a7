"use strict";
// What all views need: elements that hold texts, tables, charts. Texts of runs are texts here, never markup.

const page = (() => {
  const colours = ["#2f7fd0", "#e0751f", "#2f9a4d", "#9a5cc0", "#b5921f", "#7d8794"];
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function element(tag, text, attributes = {}, children = []) {
    const made = document.createElement(tag);
    if (text !== null && text !== undefined) made.textContent = String(text);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  function number(value, digits = 2) {
    if (value === null || value === undefined) return "-";
    if (!Number.isFinite(value)) return String(value);
    if (Number.isInteger(value)) return value.toLocaleString("en");
    return Math.abs(value) >= 0.01 || value === 0 ? value.toFixed(digits) : value.toPrecision(3);
  }

  function scored(value, stderr) {
    return value === null || value === undefined ? "-" : number(value) + (stderr ? " ± " + number(stderr) : "");
  }

  function seconds(value) {
    if (value === null || value === undefined) return "-";
    const h = Math.floor(value / 3600), m = Math.floor((value % 3600) / 60), s = Math.round(value % 60);
    return h ? `${h} h ${m} min` : m ? `${m} min ${s} s` : `${s} s`;
  }

  // rows: lists of cells; a cell is a text, or {text, number: true}.
  function table(heads, rows, rowClass = () => "") {
    const cell = (tag, it) => {
      const [text, isNumber] = typeof it === "object" && it !== null ? [it.text, it.number] : [it, false];
      return element(tag, text, isNumber ? { class: "number" } : {});
    };
    const head = element("thead", null, {}, [element("tr", null, {}, heads.map((h) => cell("th", h)))]);
    const body = element("tbody", null, {}, rows.map((row, i) =>
      element("tr", null, { class: rowClass(i) }, row.map((it) => cell("td", it)))));
    return element("table", null, {}, [head, body]);
  }

  function layout(extra = {}) {
    const axis = { gridcolor: style("--line"), zerolinecolor: style("--line"), linecolor: style("--line"), automargin: true };
    const { xaxis = {}, yaxis = {}, ...rest } = extra;
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: style("--fore"), size: 12 },
      margin: { l: 50, r: 15, t: 45, b: 40 }, hovermode: "closest", showlegend: false, height: 330,
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 1, xanchor: "right" }, xaxis: { ...axis, ...xaxis }, yaxis: { ...axis, ...yaxis }, ...rest,
    };
  }

  function draw(where, traces, extra) {
    const config = {
      responsive: true, displaylogo: false, displayModeBar: matchMedia("(min-width: 700px)").matches ? "hover" : false,
      modeBarButtons: [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]],
    };
    return Plotly.react(where, traces, layout(extra), config);
  }

  // Where a curve's axis counts the env steps of all members, those of each member.
  const steps = (run, xs) => xs.map((x) => x / run.axis_members);

  return { colours, style, element, number, scored, seconds, table, draw, steps };
})();
