"use strict";
// Sorting, filtering and choosing losses. Without this script the page shows everything, in the report's own order.
for (const table of document.querySelectorAll("table.sheet")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  const key = (row, column) => {
    const cell = row.cells[column];
    const number = parseFloat(cell.dataset.v ?? cell.textContent.replace("−", "-"));
    return heads[column].classList.contains("n") ? number : cell.textContent;
  };
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const numeric = head.classList.contains("n");
      const before = head.getAttribute("aria-sort");
      const first = numeric ? "descending" : "ascending";
      const order = before === null ? first : before === "ascending" ? "descending" : "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const compare = (a, b) => {
        const x = key(a, column), y = key(b, column);
        if (!numeric) return sign * x.localeCompare(y, "en", { numeric: true });
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y); // dashes last, either way
        return sign * (x - y);
      };
      body.append(...[...body.rows].sort(compare));
    });
  });
}
function searchField(text, placeholder) {
  const label = document.createElement("label");
  label.className = "filter";
  label.textContent = text;
  const input = document.createElement("input");
  input.type = "search";
  input.placeholder = placeholder;
  label.append(input);
  return [label, input];
}
for (const table of document.querySelectorAll("table.runs")) {
  const [label, input] = searchField("Show runs with", "e.g. diverged, or lr 0.3");
  table.parentElement.before(label);
  const rows = [...table.tBodies[0].rows].map((row) => [row, row.textContent.toLowerCase()]);
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const [row, text] of rows) row.hidden = !words.every((word) => text.includes(word));
  });
}
const boxes = [...document.querySelectorAll("input[data-k]")];
for (const box of boxes) {
  const show = () => {
    for (const item of document.querySelectorAll(`main .k${box.dataset.k}`)) item.toggleAttribute("hidden", !box.checked);
  };
  box.addEventListener("change", show);
  show(); // a browser may remember the box of an earlier visit
}
const legend = document.querySelector(".legend");
if (boxes.length > 1) {
  const [label, input] = searchField("Choose losses with", "e.g. clop nt_xent: any of these words");
  legend.append(label);
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/[\s,]+/).filter(Boolean);
    for (const box of boxes) {
      const name = box.parentElement.textContent.toLowerCase();
      box.checked = !words.length || words.some((word) => name.includes(word));
      box.dispatchEvent(new Event("change"));
    }
  });
}
for (const figure of document.querySelectorAll(".figures:not(.small) figure")) {
  const image = figure.querySelector("svg");
  image.tabIndex = 0;
  image.style.cursor = "zoom-in";
  const zoom = () => {
    image.style.cursor = figure.classList.toggle("big") ? "zoom-out" : "zoom-in";
  };
  image.addEventListener("click", zoom);
  image.addEventListener("keydown", (event) => {
    if (event.key === "Enter") zoom();
  });
}
const live = document.querySelector(".live input");
if (live) {
  live.parentElement.hidden = false;
  setInterval(() => { if (live.checked) location.reload(); }, 1000 * Number(live.dataset.seconds));
  const used = (event) => { if (!event.target.closest("a, .live")) live.checked = false; }; // what was chosen would be lost
  for (const kind of ["click", "input"]) document.addEventListener(kind, used);
}
// A link to a run opens the table that it is in.
const openTarget = () => {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const folder = target && target.closest("details:not([open])");
  if (folder) { folder.open = true; target.scrollIntoView(); }
};
addEventListener("hashchange", openTarget);
openTarget();
// On paper nothing can be opened: what is folded is printed too, but for the table of all runs.
const folded = () => [...document.querySelectorAll("details:not([open])")].filter((part) => !part.closest("#runs"));
let opened = [];
addEventListener("beforeprint", () => { for (const part of (opened = folded())) part.open = true; });
addEventListener("afterprint", () => { for (const part of opened) part.open = false; });
