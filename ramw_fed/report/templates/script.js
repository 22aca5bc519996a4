"use strict";
(() => {
  const save = (name, type, text) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };

  const button = (label, action) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = label;
    made.addEventListener("click", action);
    return made;
  };

  // Exact values where a cell holds numbers, in the order in which they are shown.
  const exact = (cell) => {
    const copy = cell.cloneNode(true);
    copy.querySelectorAll("data").forEach((number) => number.replaceWith(number.value));
    return copy.textContent.trim();
  };

  const csv = (table) =>
    [...table.rows]
      .map((row) => [...row.cells].map((cell) => '"' + exact(cell).replaceAll('"', '""') + '"').join(","))
      .join("\r\n") + "\r\n";

  const key = (row, column) => {
    const cell = row.cells[column];
    const number = cell.querySelector("data");
    const text = cell.textContent.trim();
    return number ? Number(number.value) : text !== "" && !Number.isNaN(Number(text)) ? Number(text) : text;
  };

  // Numbers come before words, so that what is not estimable stays at the end.
  const compare = (first, second, sign) =>
    typeof first === "number" && typeof second === "number"
      ? sign * (first - second)
      : typeof first === "number"
        ? -1
        : typeof second === "number"
          ? 1
          : sign * first.localeCompare(second);

  const sort = (table, column) => {
    const heads = [...table.tHead.rows[0].cells];
    const sign = heads[column].ariaSort === "ascending" ? -1 : 1;
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    heads[column].setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const body = table.tBodies[0];
    [...body.rows]
      .sort((first, second) => compare(key(first, column), key(second, column), sign))
      .forEach((row) => body.append(row));
  };

  document.querySelectorAll("table").forEach((table) => {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const own = button("", () => sort(table, column));
      own.append(...head.childNodes);
      head.append(own);
      const cells = [...table.tBodies[0].rows].map((row) => row.cells[column]);
      if (column && cells.some((cell) => cell.querySelector("data")) && table.id.indexOf("card-") !== 0) {
        [head, ...cells].forEach((cell) => cell.classList.add("number"));
      }
    });
    const own = button("Save as CSV", () => save(table.id + ".csv", "text/csv", csv(table)));
    own.className = "save";
    own.setAttribute("aria-label", "Save as CSV: " + table.caption.textContent);
    const next = table.parentElement.nextElementSibling;
    (next?.className === "notes" ? next : table.parentElement).after(own);
  });

  document.querySelectorAll("figure svg").forEach((drawing) => {
    const figure = drawing.closest("figure");
    const text = () => new XMLSerializer().serializeToString(drawing);
    const own = button("Save as SVG", () => save(figure.id + ".svg", "image/svg+xml", text()));
    own.className = "save";
    own.setAttribute("aria-label", "Save as SVG: " + drawing.querySelector("title").textContent);
    figure.append(own);
  });

  const folded = () => document.querySelectorAll("details");
  addEventListener("beforeprint", () => folded().forEach((one) => (one.open = true)));
})();
