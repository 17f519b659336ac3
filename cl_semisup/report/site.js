const search = document.querySelector("#search");
search.hidden = false;
const input = search.querySelector("input");
const status = search.querySelector("[role=status]");
const parts = [...document.querySelectorAll("section.loss")].map((section) => {
  const name = section.querySelector("h3").textContent.toLowerCase();
  return [section, [...section.querySelectorAll("tbody tr")].map((row) => [row, `${name} ${row.textContent.toLowerCase()}`])];
});
const show = () => {
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const [section, rows] of parts) {
    let any = false;
    for (const [row, text] of rows) {
      row.hidden = !words.every((word) => text.includes(word));
      any ||= !row.hidden;
      count += !row.hidden;
    }
    section.hidden = !any;
  }
  status.textContent = words.length ? `${count} rows` : "";
};
input.addEventListener("input", show);
show();
