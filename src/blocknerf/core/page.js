// Sorts a table by the column whose heading is clicked; a second click turns the order round.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const compare = (a, b) => key(a).localeCompare(key(b), "en", { numeric: true });
      const byNumber = (a, b) => Number(key(a)) - Number(key(b));
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => sign * (heading.classList.contains("text") ? compare : byNumber)(a, b));
      table.tBodies[0].append(...rows);
    });
  });
}
