"use strict";
(() => {
  // ---- tables: a click on a heading, or Enter on it, sorts; what has no value stays last

  const valueOf = (row, place, isNumber) => {
    const value = row.cells[place].dataset.value;
    return value === undefined ? null : isNumber ? Number(value) : value;
  };

  const sort = (table, heading) => {
    const headings = [...heading.parentElement.children];
    const place = headings.indexOf(heading);
    const isNumber = heading.classList.contains("number");
    const first = heading.firstElementChild.dataset.first;
    const other = first === "ascending" ? "descending" : "ascending";
    const order = heading.getAttribute("aria-sort") === first ? other : first;
    const sign = order === "ascending" ? 1 : -1;
    const compare = (a, b) => {
      const [x, y] = [a, b].map((row) => valueOf(row, place, isNumber));
      if (x === null || y === null) return (x === null) - (y === null);
      return sign * (isNumber ? x - y : x.localeCompare(y, "en", { numeric: true }));
    };
    headings.forEach((each) => each.setAttribute("aria-sort", each === heading ? order : "none"));
    table.tBodies[0].append(...[...table.rows].slice(1).sort(compare));
  };

  for (const table of document.querySelectorAll("table")) {
    for (const heading of table.rows[0].cells) {
      heading.firstElementChild.addEventListener("click", () => sort(table, heading));
    }
  }

  // ---- links into the MLflow UI

  const box = document.getElementById("ui");
  const viewer = /^blob:(https?:\/\/[^/]+)/.exec(location.href); // MLflow's view of an artifact
  if (viewer !== null) {
    const note = document.getElementById("sandbox");
    note.textContent = " MLflow lets no link be opened from here: copy its address, or download this page.";
    note.hidden = false;
    box.value = viewer[1];
  }
  const link = () => {
    const address = box.value.trim().replace(/\/+$/, "");
    for (const anchor of document.querySelectorAll("a.run")) {
      if (/^https?:\/\/./.test(address)) {
        anchor.href = address + anchor.dataset.run;
        anchor.target = "_blank";
      } else {
        anchor.removeAttribute("href");
      }
    }
  };
  box.addEventListener("input", link);
  link();

  // ---- charts

  const charts = JSON.parse(document.getElementById("charts").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const phone = matchMedia("(max-width: 640px)");

  const themed = (theme) => {
    const named = (name) => theme.getPropertyValue(`--${name}`).trim();
    const colour = (name) => {
      const band = /^@band(\d)$/.exec(name);
      return band === null ? named(name.slice(1)) : `${named(`c${band[1]}`)}2e`;
    };
    const put = (value, key) => {
      if (Array.isArray(value)) return value.map((item) => put(item, ""));
      if (value !== null && typeof value === "object") {
        return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, put(item, name)]));
      }
      if (key === "colorscale") return [[0, named("low")], [0.5, named("middle")], [1, named("high")]];
      return key.endsWith("color") && typeof value === "string" && value.startsWith("@") ? colour(value) : value;
    };
    return put;
  };

  const layoutOf = (chart, theme) => {
    const named = (name) => theme.getPropertyValue(`--${name}`).trim();
    const axis = { gridcolor: named("grid"), zeroline: false, linecolor: named("border"), tickcolor: named("border") };
    const below = { x: 0, xanchor: "left", y: 0, yanchor: "bottom", yref: "container" };
    const beside = { x: 1.02, xanchor: "left", y: 1, yanchor: "top" };
    const given = chart.layout;
    const entries = chart.data.filter((trace) => trace.name && trace.showlegend !== false);
    const lines = entries.map((trace) => trace.name.split("<br>").length);
    const room = phone.matches ? lines.reduce((sum, number) => sum + 14 + 17 * number, 0) : 0; // for a legend below
    return {
      ...given,
      height: chart.height - (phone.matches && entries.length > 0 ? 80 : 0) + room,
      margin: { l: 56, r: 16, t: 30, ...given.margin, b: (given.margin?.b ?? 52) + room },
      font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: named("text") },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      xaxis: { ...axis, ...given.xaxis },
      yaxis: { ...axis, ...given.yaxis },
      legend: { ...(phone.matches ? below : beside), font: { size: 12 }, bgcolor: "rgba(0,0,0,0)" },
      hoverlabel: { bgcolor: named("card"), bordercolor: named("border"), font: { color: named("text") }, align: "left" },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: named("muted"), activecolor: named("text") },
      dragmode: phone.matches ? false : "zoom",
    };
  };

  const draw = () => {
    const theme = getComputedStyle(document.documentElement);
    const put = themed(theme);
    for (const [id, chart] of Object.entries(charts)) {
      const place = document.getElementById(id);
      const layout = layoutOf(put(chart, ""), theme);
      place.style.height = `${layout.height}px`;
      const buttons = [chart.layout.yaxis === undefined ? ["toImage"] : ["toImage", "resetScale2d"]];
      const bar = chart.layout.xaxis?.fixedrange || phone.matches ? false : "hover";
      const config = { responsive: true, displaylogo: false, displayModeBar: bar, modeBarButtons: buttons };
      Plotly.react(place, put(chart.data, ""), layout, config);
    }
  };
  if (Object.keys(charts).length > 0) {
    draw();
    dark.addEventListener("change", draw);
    phone.addEventListener("change", draw);
  }
})();
