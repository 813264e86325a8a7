// The views: each shows a part of what content.py gives of the chosen run, or of all of them.

(() => {
  const { colours, style, element, number, scored, seconds, table, draw, steps } = page;
  let all, runs, run;
  const section = (id) => document.getElementById(id);
  const inside = (id, what) => section(id).querySelector(what);

  function overview() {
    const s = run.summary;
    const progress = s.max_steps ? Math.min(100, (100 * (s.env_steps || 0)) / s.max_steps) : 0;
    const cards = [
      ["state", s.state], ["best", scored(s.best, s.best_stderr), s.best_confirmed ? "best, in fresh episodes" : "best so far"],
      ["env steps", `${number(Math.round(s.env_steps || 0))}`, `env steps of each member, ${progress.toFixed(0)} %`],
      ["members", number(s.members)], ["wall", seconds(s.wall_s), "of training"],
      ["algorithm", s.algorithm], ["environment", s.environment], ["seed", number(s.seed)],
    ];
    inside("overview", ".cards").replaceChildren(...cards.map(([key, value, label]) =>
      element("div", null, { class: "card", "data-card": key }, [element("b", value), element("span", label || key)])));
    const shown = [["fitness/best", "best of all members"], ["fitness/mean", "mean of all members"], ["train/return", "training episodes"]];
    const several = runs.length > 1;
    const traces = [];
    runs.forEach((each, i) => shown.slice(0, several ? 1 : 3).forEach(([name, label], k) => {
      const curve = each.curves[name];
      if (!curve) return;
      traces.push({
        x: steps(each, curve.x), y: curve.y, name: several ? each.name : label, mode: "lines", type: "scatter",
        line: { color: colours[(several ? i : k) % colours.length], width: 2 },
      });
    }));
    const confirmed = run.curves["fitness/confirmed"];
    if (confirmed && !several) traces.push({
      x: steps(run, confirmed.x), y: confirmed.y, name: "confirmed", mode: "markers", type: "scatter",
      marker: { color: colours[4], size: 9, symbol: "diamond" },
    });
    const lines = run.levels.map((level) => ({
      type: "line", xref: "paper", x0: 0, x1: 1, y0: level.score, y1: level.score,
      line: { color: style("--soft"), width: 1, dash: "dot" },
    }));
    const texts = run.levels.map((level) => ({
      xref: "paper", x: 1, xanchor: "right", y: level.score, yanchor: "bottom", text: level.name, showarrow: false,
      font: { size: 10, color: style("--soft") },
    }));
    draw(inside("overview", ".chart"), traces, {
      title: { text: "return of an episode", font: { size: 13 }, x: 0, xanchor: "left" }, showlegend: true, shapes: lines, annotations: texts,
      xaxis: { title: { text: "env steps of each member" } },
    });
    const more = [];
    if (run.picture) more.push(element("img", null, { class: "film", src: run.picture, alt: "An episode of the best policy" }));
    const perAgent = (run.result || {}).best_per_agent;
    if (perAgent) more.push(table(["agent", { text: "mean return", number: true }],
      Object.entries(perAgent).map(([agent, mean]) => [agent, { text: number(mean), number: true }])));
    const against = (run.result || {}).best_against;
    if (against && Object.keys(against).length) more.push(table(["opponent", { text: "fitness against it", number: true }],
      Object.entries(against).map(([who, mean]) => [who, { text: number(mean), number: true }])));
    more.push(...run.missing.map((sentence) => element("p", "could not be shown: " + sentence, { class: "missing" })));
    if (several) more.unshift(table(["run", "state", { text: "best", number: true }, ...all.differing],
      runs.map((each) => [each.name, each.summary.state, { text: scored(each.summary.best, each.summary.best_stderr), number: true },
        ...all.differing.map((key) => JSON.stringify(each.config[key]))])));
    inside("overview", ".more").replaceChildren(...more);
  }

  const chosenCurves = new Set(["train/return", "fitness/best", "fitness/mean", "learn/critic_loss", "learn/value_loss", "learn/entropy"]);

  function curves() {
    const names = [...new Set(runs.flatMap((each) => Object.keys(each.curves)))].filter((n) => !n.startsWith("hp/") && !n.startsWith("size/"));
    const tags = names.map((name) => {
      const box = element("input", null, { type: "checkbox", value: name });
      box.checked = chosenCurves.has(name);
      box.addEventListener("change", () => { box.checked ? chosenCurves.add(name) : chosenCurves.delete(name); drawCurves(names); });
      return element("label", null, {}, [box, " " + name]);
    });
    const opened = inside("curves", "details");
    inside("curves", ".controls").replaceChildren(element("details", null, opened && opened.open ? { open: "" } : {}, [
      element("summary", `choose among ${names.length} curves`), element("div", null, { class: "tags" }, tags)]));
    drawCurves(names);
  }

  function drawCurves(names) {
    const charts = inside("curves", ".charts");
    const there = new Map([...charts.children].map((chart) => [chart.dataset.curve, chart]));
    const wanted = names.filter((n) => chosenCurves.has(n));
    for (const [name, chart] of there) if (!wanted.includes(name)) chart.remove();
    const drawn = wanted.map((name) => there.get(name) || element("div", null, { class: "chart", "data-curve": name }));
    charts.append(...drawn); // all of them before the first is drawn: how wide it is depends on how many there are
    for (const chart of drawn) {
      const name = chart.dataset.curve;
      const traces = runs.filter((each) => each.curves[name]).map((each) => ({
        x: steps(each, each.curves[name].x), y: each.curves[name].y, name: each.name, mode: "lines", type: "scatter",
        line: { color: colours[runs.indexOf(each) % colours.length], width: 1.6 },
      }));
      draw(chart, traces, { title: { text: name, font: { size: 13 }, x: 0, xanchor: "left" }, showlegend: runs.length > 1, height: 300 });
    }
  }

  // Lanes: a child takes the lane of a member that has died by then, so that a population of n needs n of them.
  function lanes(lineage) {
    const free = [], lane = new Map();
    let most = 0;
    for (const m of [...lineage].sort((a, b) => a.generation - b.generation || a.member_id - b.member_id)) {
      for (const [id, its] of lane) {
        const other = its.member;
        if (!its.left && other.died_generation !== null && other.died_generation !== undefined && other.died_generation <= m.generation) {
          its.left = true;
          free.push(its.lane);
        }
      }
      free.sort((a, b) => a - b);
      lane.set(m.member_id, { lane: free.length ? free.shift() : most++, member: m, left: false });
    }
    return new Map([...lane].map(([id, its]) => [id, its.lane]));
  }

  function ancestors(lineage, id) {
    const by = new Map(lineage.map((m) => [m.member_id, m])), found = new Set();
    while (id !== null && id !== undefined && by.has(id)) { found.add(id); id = by.get(id).parent_id; }
    return found;
  }

  const mutationColours = { none: "#8a94a3", elite: "#8a94a3", architecture: "#9a5cc0", parameters: "#e0751f", activation: "#b5921f", rl_hp: "#2f7fd0" };

  function lineage() {
    const members = run.lineage, at = lanes(members);
    const last = Math.max(0, ...members.map((m) => Math.max(m.generation, m.died_generation || 0))) + 1;
    const best = run.result && run.result.best_member;
    const winners = ancestors(members, best);
    const finite = members.map((m) => m.fitness).filter((f) => f !== null && f !== undefined);
    const low = Math.min(...finite), high = Math.max(...finite);
    const edges = {};
    for (const m of members) {
      if (!at.has(m.parent_id)) continue;
      const kind = (edges[m.mutation] ||= { thin: [[], []], thick: [[], []] });
      const of = winners.has(m.member_id) && winners.has(m.parent_id) ? kind.thick : kind.thin;
      of[0].push(m.generation - 0.45, m.generation, null);
      of[1].push(at.get(m.parent_id), at.get(m.member_id), null);
    }
    const traces = Object.entries(edges).flatMap(([kind, lines]) => ["thin", "thick"].filter((w) => lines[w][0].length).map((w) => ({
      x: lines[w][0], y: lines[w][1], mode: "lines", type: "scatter", hoverinfo: "skip", name: kind, legendgroup: kind,
      showlegend: w === "thin" || !lines.thin[0].length, line: { color: mutationColours[kind] || style("--soft"), width: w === "thick" ? 4 : 1.2 },
    })));
    for (const thick of [false, true]) {
      const lives = members.filter((m) => winners.has(m.member_id) === thick);
      traces.push({
        x: lives.flatMap((m) => [m.generation, (m.died_generation ?? last) - 0.45, null]),
        y: lives.flatMap((m) => [at.get(m.member_id), at.get(m.member_id), null]),
        mode: "lines", type: "scatter", hoverinfo: "skip", showlegend: false, line: { color: style("--soft"), width: thick ? 4 : 1 },
      });
    }
    traces.push({
      x: members.map((m) => m.generation), y: members.map((m) => at.get(m.member_id)), customdata: members.map((m) => m.member_id),
      text: members.map((m) => `member ${m.member_id}: ${scored(m.fitness, m.fitness_stderr)}<br>${m.mutation}`),
      mode: "markers", type: "scatter", hoverinfo: "text", showlegend: false,
      marker: {
        size: members.map((m) => (m.member_id === best ? 15 : 10)), color: members.map((m) => m.fitness ?? null),
        symbol: members.map((m) => (m.member_id === best ? "star" : "circle")),
        colorscale: "Viridis", cmin: low, cmax: high, showscale: true, line: { color: style("--back"), width: 1 },
        colorbar: { title: { text: "fitness", side: "right" }, thickness: 10, outlinewidth: 0 },
      },
    });
    const chart = inside("lineage", ".chart");
    draw(chart, traces, {
      height: Math.max(300, 60 + 26 * (Math.max(0, ...at.values()) + 1)), showlegend: true,
      xaxis: { title: { text: "generation" }, dtick: last > 20 ? undefined : 1 }, yaxis: { visible: false, autorange: "reversed" },
    });
    chart.removeAllListeners("plotly_click");
    chart.on("plotly_click", (event) => { const id = event.points[0].customdata; if (id !== undefined) show(id); });
    const select = inside("lineage", "select.members");
    select.replaceChildren(...members.map((m) => element("option", `${m.member_id} (${m.mutation}, ${number(m.fitness)})`, { value: m.member_id })));
    select.onchange = () => show(Number(select.value));
    const was = Number(inside("lineage", ".member").dataset.member ?? NaN);
    if (members.length) show(members.some((m) => m.member_id === was) ? was : best ?? members[members.length - 1].member_id);
  }

  function show(id) {
    const m = run.lineage.find((each) => each.member_id === id);
    if (!m) return;
    inside("lineage", "select.members").value = String(id);
    const rows = [
      ["parent", m.parent_id === null || m.parent_id === undefined ? "-" : `member ${m.parent_id}`],
      ["how", [m.mutation, m.change].filter(Boolean).join(": ")],
      ["generations", `${m.generation} to ${m.died_generation ?? "now"}`],
      ["fitness", scored(m.fitness, m.fitness_stderr)], ["env steps", number(m.env_steps)], ["updates", number(m.updates)],
      ...Object.entries(m.hyperparameters || {}).map(([name, value]) => [name, number(value, 6)]),
      ...Object.entries(m.architecture || {}).map(([name, value]) => [name, JSON.stringify(value)]),
    ];
    const box = inside("lineage", ".member");
    box.dataset.member = String(id);
    box.replaceChildren(element("h3", `member ${id}`), table(["", ""], rows));
  }

  function settings() {
    const by = {};
    for (const name of Object.keys(run.curves)) {
      const [kind, which, place] = name.split("/");
      if (kind === "hp" || kind === "size") (by[kind === "hp" ? which : `parameters of ${which}`] ||= []).push([place, run.curves[name]]);
    }
    const names = Object.keys(by), chart = inside("settings", ".chart"), controls = inside("settings", ".controls");
    if (!names.length) {
      controls.replaceChildren(element("p", "No setting of a member changes in this run.", { class: "hint" }));
      Plotly.purge(chart);
      return;
    }
    const was = controls.querySelector("select");
    const select = element("select", null, { "aria-label": "setting" }, names.map((name) => element("option", name)));
    if (was && names.includes(was.value)) select.value = was.value;
    const end = Math.max(...Object.values(run.curves).map((c) => c.x[c.x.length - 1] || 0)) / run.axis_members;
    const update = () => draw(chart, by[select.value].map(([place, curve], i) => ({
      x: [...steps(run, curve.x), end], y: [...curve.y, curve.y[curve.y.length - 1]], name: place.replace("_", " "), mode: "lines", type: "scatter",
      line: { shape: "hv", width: 1.4, color: colours[i % colours.length] },
    })), { showlegend: by[select.value].length <= 8, xaxis: { title: { text: "env steps of each member" } }, title: { text: select.value, font: { size: 13 }, x: 0, xanchor: "left" } });
    select.addEventListener("change", update);
    controls.replaceChildren(select);
    update();
  }

  function population() {
    const best = run.result && run.result.best_member;
    const hyper = [...new Set(run.members.flatMap((m) => Object.keys(m.hyperparameters || {})))]
      .filter((name) => new Set(run.members.map((m) => JSON.stringify((m.hyperparameters || {})[name]))).size > 1);
    const right = (text) => ({ text, number: true });
    inside("population", ".scroll").replaceChildren(table(
      [right("member"), right("parent"), right("fitness"), right("env steps"), right("updates"), ...hyper.map(right), "how"],
      run.members.map((m) => [right(m.member_id === best ? `★ ${m.member_id}` : m.member_id), right(number(m.parent_id)),
        right(scored(m.fitness, m.fitness_stderr)), right(number(m.env_steps)), right(number(m.updates)),
        ...hyper.map((name) => right(number(m.hyperparameters[name], 6))), [m.mutation, m.change].filter(Boolean).join(": ")]),
      (i) => (run.members[i].member_id === best ? "chosen" : "")));
  }

  function actors() {
    const right = (text) => ({ text, number: true });
    const rows = run.actors.map((a) => [a.actor_id, a.hostname, a.state, right(number(a.env_steps)), right(number(Math.round(a.env_steps_per_s || 0))),
      right(number(a.wait_s)), right(number(Math.round((a.rss_bytes || 0) / 1e6)))]);
    inside("actors", ".scroll").replaceChildren(table(
      ["actor", "machine", "state", right("env steps"), right("env steps/s"), right("waited, s"), right("memory, MB")], rows));
  }

  function configuration() {
    const keys = [...new Set(runs.flatMap((each) => Object.keys(each.config)))];
    const text = (value) => (value === undefined ? "" : typeof value === "string" ? value : JSON.stringify(value));
    inside("configuration", ".scroll").replaceChildren(table(
      ["key", ...runs.map((each) => (runs.length > 1 ? each.name : "value"))],
      keys.map((key) => [key, ...runs.map((each) => text(each.config[key]))]),
      (i) => (runs.length > 1 && all.differing.includes(keys[i]) ? "differs" : "")));
  }

  function render() {
    document.title = `covey: ${runs.map((each) => each.name).join(", ")}`;
    document.getElementById("title").textContent = run.name;
    document.getElementById("subtitle").textContent = run.path;
    for (const view of [overview, curves, lineage, settings, population, actors, configuration]) view();
  }

  function take(content) {
    const before = run && run.name;
    all = content;
    runs = all.runs;
    run = runs.find((each) => each.name === before) || runs[0];
    const select = document.getElementById("run");
    document.getElementById("choose").hidden = runs.length < 2;
    select.replaceChildren(...runs.map((each, i) => element("option", each.name, { value: i })));
    select.value = String(runs.indexOf(run));
    select.onchange = () => { run = runs[Number(select.value)]; render(); };
    render();
  }

  // A report has its data in it. A page that is served asks for it, and again whenever it is told of a change.
  async function follow() {
    let busy = false, again = false;
    const load = async () => {
      if (busy) { again = true; return; }
      busy = true;
      do {
        again = false;
        const answer = await fetch("content.json");
        if (answer.ok) take(await answer.json());
      } while (again);
      busy = false;
    };
    await load();
    const events = new EventSource("events");
    events.onmessage = () => { if (!document.hidden) load(); };
    document.addEventListener("visibilitychange", () => { if (!document.hidden) load(); });
    const live = document.getElementById("live");
    events.onopen = () => { live.textContent = "live"; };
    events.onerror = () => { live.textContent = "not connected"; };
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (run) render(); });
  const data = document.getElementById("data");
  if (data) take(JSON.parse(data.textContent)); else follow();
})();
