"use strict";
// A loss is shown if it has every word in its name, or in one row of its table. Without this script all are shown.
const search = document.querySelector("#search");
search.hidden = false;
const input = search.querySelector("input");
const status = search.querySelector("[role=status]");
const lines = new Map([...document.querySelectorAll(".matrix tbody tr")].map((line) => [line.cells[0].textContent, line]));
const parts = [...document.querySelectorAll("section.loss")].map((section) => {
  const name = section.querySelector("h3").textContent;
  const rows = [...section.querySelectorAll("tbody tr")];
  return [section, lines.get(name), rows.map((row) => [row, `${name} ${row.textContent}`.toLowerCase()])];
});
const show = () => {
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  let losses = 0, count = 0;
  for (const [section, line, rows] of parts) {
    let any = false;
    for (const [row, text] of rows) {
      row.hidden = !words.every((word) => text.includes(word));
      any ||= !row.hidden;
      count += !row.hidden;
    }
    section.hidden = line.hidden = !any;
    losses += any;
  }
  status.textContent = words.length ? `${losses} ${losses === 1 ? "loss" : "losses"}, ${count} ${count === 1 ? "row" : "rows"}` : "";
};
input.addEventListener("input", show);
show();
