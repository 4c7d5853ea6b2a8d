// Which items one row gets right and another wrong. Data comes as a script, since a page opened as a file may read no other.
"use strict";
(() => {
  const form = document.getElementById("choose");
  const list = document.getElementById("list");
  const told = document.getElementById("told");
  const more = document.getElementById("more");
  const counts = document.getElementById("counts");
  const STEP = 60;
  const loaded = new Map();
  let media = new Map(), found = [], drawn = 0, data = null;

  // The data scripts call this: {ids, entries: [[words, page, "0a…", "00…"]]}: one digit an item, in tenths of the
  // seeds, and two digits to base 36, what it was taken for.
  globalThis.birdmmlItems = (name, value) => loaded.set(name, value);
  globalThis.birdmmlMedia = (value) => { media = new Map(value); };

  function load(name, then) {
    if (loaded.has(name)) return then();
    const script = document.createElement("script");
    script.src = `${name}.js`;
    script.onload = then;
    script.onerror = () => { told.textContent = `${name}.js cannot be read: it belongs beside this page.`; };
    document.head.append(script);
  }

  function element(name, text, ...children) {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    made.append(...children);
    return made;
  }

  function fill(select, wanted, fallback) {
    select.replaceChildren(...data.entries.map(([name], i) => new Option(name, String(i))));
    const at = data.entries.findIndex(([, page]) => page === wanted);
    select.value = String(at >= 0 ? at : Math.min(fallback, data.entries.length - 1));
  }

  function open(state) {
    const f = form.elements;
    const asked = state.get("task");
    if ([...f.task.options].some((o) => o.value === asked)) f.task.value = asked;
    if ([...f.show.options].some((o) => o.value === state.get("show"))) f.show.value = state.get("show");
    load(f.task.value, () => {
      data = loaded.get(f.task.value);
      fill(f.a, state.get("a"), 0);
      fill(f.b, state.get("b"), 1);
      compare();
    });
  }

  function compare() {
    const f = form.elements;
    const [a, b] = [f.a, f.b].map((s) => data.entries[Number(s.value)]);
    const right = (entry, i) => parseInt(entry[2][i], 16) >= 5;
    const groups = { both: [], a: [], b: [], neither: [] };
    for (let i = 0; i < data.ids.length; i += 1) {
      const [x, y] = [right(a, i), right(b, i)];
      groups[x ? (y ? "both" : "a") : y ? "b" : "neither"].push(i);
    }
    found = groups[f.show.value];
    const cells = counts.querySelectorAll("tbody td");
    ["both", "a", "b", "neither"].forEach((name, i) => { cells[i].textContent = String(groups[name].length); });
    counts.hidden = false;
    told.textContent = `${f.show.selectedOptions[0].textContent}: ${found.length} of ${data.ids.length} items.`;
    list.replaceChildren();
    drawn = 0;
    draw(a, b);
    const state = new URLSearchParams({ task: f.task.value, a: a[1], b: b[1], show: f.show.value });
    history.replaceState(null, "", `#${state}`);
  }

  function draw(a, b) {
    const part = found.slice(drawn, drawn + STEP);
    list.append(...part.map((i) => item(i, a, b)));
    drawn += part.length;
    more.hidden = drawn >= found.length;
  }

  function item(i, a, b) {
    const id = data.ids[i];
    const tenths = (entry) => parseInt(entry[2][i], 16);
    const made = element("li", undefined, element("code", id));
    if (data.targets) made.append(element("p", data.targets[i]));
    for (const [letter, entry] of [["A", a], ["B", b]]) {
      const score = element("p", `${letter} ${taken(entry, i)}right in ${10 * tenths(entry)} %`);
      score.className = "score";
      made.append(score);
    }
    const known = media.get(id);
    if (known) made.append(...shown(known));
    return made;
  }

  function taken(entry, i) {
    return entry[3] ? `says ${data.classes[parseInt(entry[3].slice(2 * i, 2 * i + 2), 36)]}, ` : "";
  }

  function shown({ name, image, audio, credits }) {
    const parts = [];
    const picture = (file, alt) => {
      const img = element("img");
      img.src = `media/${file}`;
      img.alt = alt;
      img.loading = "lazy";
      return img;
    };
    if (image) parts.push(picture(`${name}.jpg`, "photo"));
    if (audio) {
      const player = element("audio");
      player.controls = true;
      player.preload = "none";
      player.src = `media/${name}.flac`;
      parts.push(picture(`${name}.png`, "spectrogram"), player);
    }
    for (const [words, address] of credits) {
      const line = element("p", address ? `${words}, ` : words);
      line.className = "credit";
      if (address) {
        const link = element("a", "source");
        link.href = address; // http or https: the build took no other
        link.rel = "noopener noreferrer nofollow";
        line.append(link);
      }
      parts.push(line);
    }
    return parts;
  }

  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", (event) => {
    if (event.target.name !== "task") return compare();
    const state = new URLSearchParams(location.hash.slice(1));
    state.set("task", form.elements.task.value);
    return open(state);
  });
  document.getElementById("swap").addEventListener("click", () => {
    const f = form.elements;
    [f.a.value, f.b.value] = [f.b.value, f.a.value];
    compare();
  });
  more.addEventListener("click", () => {
    const f = form.elements;
    draw(data.entries[Number(f.a.value)], data.entries[Number(f.b.value)]);
  });
  addEventListener("hashchange", () => open(new URLSearchParams(location.hash.slice(1))));
  const start = () => open(new URLSearchParams(location.hash.slice(1)));
  if (form.dataset.media) load(form.dataset.media, start);
  else start();
})();
