"""What the page does when it is used: tabs and sorting. Without it all is there, unfolded."""

SCRIPT = """\
"use strict";
for (const group of document.querySelectorAll(".tabs")) {
  const list = group.querySelector("[role=tablist]");
  const tabs = [...list.children];
  const panels = tabs.map(tab => document.getElementById(tab.getAttribute("aria-controls")));
  const select = chosen => tabs.forEach((tab, place) => {
    tab.setAttribute("aria-selected", tab === chosen);
    tab.tabIndex = tab === chosen ? 0 : -1;
    panels[place].hidden = tab !== chosen;
  });
  tabs.forEach((tab, place) => {
    panels[place].setAttribute("role", "tabpanel");
    panels[place].setAttribute("aria-labelledby", tab.id);
    tab.addEventListener("click", () => select(tab));
  });
  list.addEventListener("keydown", event => {
    const here = tabs.indexOf(document.activeElement);
    const last = tabs.length - 1;
    const places = {
      ArrowRight: here === last ? 0 : here + 1,
      ArrowLeft: here === 0 ? last : here - 1,
      Home: 0,
      End: last,
    };
    if (!(event.key in places)) return;
    event.preventDefault();
    tabs[places[event.key]].focus();
    select(tabs[places[event.key]]);
  });
  list.hidden = false;
  group.classList.add("live");
  select(tabs[0]);
}

const compare = (one, other) => {
  const numbers = [Number(one), Number(other)];
  return numbers.some(Number.isNaN)
    ? one.localeCompare(other, "en", { numeric: true })
    : numbers[0] - numbers[1];
};
for (const table of document.querySelectorAll("table")) {
  const headings = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const order = heading.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
      headings.forEach(other => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", order);
      const key = row => row.cells[column].dataset.key;
      const rows = [...body.rows];
      const undefinedRows = rows.filter(row => key(row) === undefined);
      const sorted = rows.filter(row => key(row) !== undefined);
      sorted.sort((a, b) => compare(key(a), key(b)) * (order === "ascending" ? 1 : -1));
      body.append(...sorted, ...undefinedRows);
    });
  });
}

const reach = new ResizeObserver(entries => entries.forEach(({ target: box }) => {
  if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  else box.removeAttribute("tabindex");
}));
document.querySelectorAll(".scroll, pre").forEach(box => reach.observe(box));

const shut = [];
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details:not([open])")) {
    part.open = true;
    shut.push(part);
  }
});
addEventListener("afterprint", () => shut.splice(0).forEach(part => { part.open = false; }));
"""
