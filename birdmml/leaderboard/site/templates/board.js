// Sorting and filtering of the tables. The state lies in the address after "#", so that a link restores it.
"use strict";
(() => {
  const form = document.getElementById("filters");
  const shown = document.getElementById("shown");
  const boards = [...document.querySelectorAll("section.board")];
  const FIELDS = ["find", "method", "protocol", "seeds", "verified", "demo", "paper"];
  let sorted = new Map(); // table id -> column and direction, for those that a reader has sorted

  // "#table-id" is a place, "#method=confu&at=table-id&sort=..." a state.
  function stated() {
    const hash = location.hash.slice(1);
    return new URLSearchParams(hash.includes("=") ? hash : "");
  }

  function remember() {
    const state = new URLSearchParams();
    for (const name of FIELDS) {
      const field = form.elements[name];
      const value = field.type === "checkbox" ? (field.checked ? field.value : "") : field.value;
      if (value) state.set(name, value);
    }
    for (const [id, { column, order }] of sorted) state.append("sort", `${id}:${column}:${order}`);
    history.replaceState(null, "", `#${state}`);
  }

  function restore() {
    const state = stated();
    for (const name of FIELDS) {
      const field = form.elements[name];
      const value = state.get(name) ?? "";
      if (field.type === "checkbox") field.checked = value === field.value;
      else field.value = !field.options || [...field.options].some((o) => o.value === value) ? value : "";
    }
    sorted = new Map();
    for (const said of state.getAll("sort")) {
      const [id, column, order] = said.split(":");
      const board = boards.find((b) => b.dataset.id === id);
      const head = board?.querySelectorAll("thead th")[Number(column)];
      if (head && (order === "ascending" || order === "descending")) sort(board, head, order);
    }
    filter();
    const at = state.get("at");
    if (at) document.getElementById(at)?.scrollIntoView();
  }

  function wanted(row) {
    const d = row.dataset, f = form.elements;
    if (f.find.value && !row.cells[0].textContent.toLowerCase().includes(f.find.value.toLowerCase())) return false;
    if (f.method.value && d.method !== f.method.value) return false;
    if (d.paper) return !f.paper.checked && !f.verified.checked && !f.seeds.value;
    if (f.seeds.value && Number(d.seeds) < Number(f.seeds.value)) return false;
    if (f.verified.checked && d.verified !== "1") return false;
    return !(f.demo.checked && d.demo === "1");
  }

  function filter() {
    const protocol = form.elements.protocol;
    let rows = 0, all = 0;
    for (const board of boards) {
      let here = 0;
      const apart = protocol.value && board.dataset.protocol !== protocol.value;
      for (const row of board.querySelectorAll("tbody tr")) {
        row.hidden = apart || !wanted(row);
        all += 1;
        if (!row.hidden) here += 1;
      }
      // A table of reported rows alone says nothing of what was asked for.
      board.hidden = here === 0 || ![...board.querySelectorAll("tbody tr")].some((r) => !r.hidden && !r.dataset.paper);
      if (!board.hidden) rows += here;
    }
    for (const link of document.querySelectorAll(".contents a")) {
      link.parentElement.hidden = boards.some((b) => b.hidden && `#${b.dataset.id}` === link.hash);
    }
    shown.textContent = rows === all ? `${all} rows` : `${rows} of ${all} rows`;
  }

  function sort(board, head, order) {
    const heads = [...head.parentElement.children];
    const column = heads.indexOf(head);
    const body = board.querySelector("tbody");
    const sign = order === "ascending" ? 1 : -1;
    const numbers = head.classList.contains("n");
    const rows = [...body.rows].map((row, place) => {
      const cell = row.cells[column];
      const said = cell.dataset.v;
      return { row, place, value: numbers ? (said === undefined ? NaN : Number(said)) : cell.textContent.trim() };
    });
    rows.sort((a, b) => {
      if (!numbers) return sign * a.value.localeCompare(b.value, "en") || a.place - b.place;
      const gone = Number.isNaN(a.value) - Number.isNaN(b.value); // what is not there comes last, either way
      return gone || sign * (a.value - b.value) || a.place - b.place;
    });
    body.append(...rows.map((r) => r.row));
    for (const other of heads) other.setAttribute("aria-sort", other === head ? order : "none");
    sorted.set(board.dataset.id, { column, order });
  }

  function pressed(event) {
    const head = event.currentTarget.parentElement;
    const best = head.classList.contains("n") && !head.dataset.less ? "descending" : "ascending";
    const other = best === "descending" ? "ascending" : "descending";
    sort(head.closest("section"), head, head.getAttribute("aria-sort") === best ? other : best);
    remember();
  }

  for (const button of document.querySelectorAll("thead button")) {
    button.disabled = false;
    button.addEventListener("click", pressed);
  }
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => { filter(); remember(); });
  form.addEventListener("reset", () => setTimeout(() => { filter(); remember(); }));
  addEventListener("hashchange", () => { if (location.hash.includes("=")) restore(); });
  restore();
})();
