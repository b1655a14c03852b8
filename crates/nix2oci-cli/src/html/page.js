"use strict";
// The page is complete without this. Names are never made to HTML here, only
// to text.
(() => {
  const $ = (id) => document.getElementById(id);
  const map = $("map"), tip = $("tip"), back = $("back"), where = $("where"), find = $("find");
  const overview = where.textContent;
  const layers = [...map.children];
  const cellsOf = (layer) => [...layer.lastElementChild.children];
  const rowsOf = (id) => $(id) ? [...$(id).tBodies[0].rows] : [];
  const [layerRows, pathRows, packageRows] = ["layers", "paths", "packages"].map(rowsOf);
  const rowOf = (item) => (item.id[0] === "l" ? layerRows : pathRows)[item.id.slice(1)];

  // What a row says, by the name of the column.
  const columns = new Map([...document.querySelectorAll("table")].map((table) =>
    [table, [...table.tHead.rows[0].cells].map((cell) => cell.textContent.toLowerCase())]));
  const said = (row) => Object.fromEntries(columns.get(row.closest("table"))
    .map((name, at) => [name, row.cells[at].textContent.trim()]));
  const sizeAt = columns.get($("paths")).indexOf("size");
  const sizeOf = (row) => Number(row.cells[sizeAt].dataset.n);
  const count = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
  // As measure.rs.
  const bytes = (n) => {
    if (n < 1000) return `${n} B`;
    const units = ["kB", "MB", "GB", "TB", "PB", "EB"];
    let at = 0;
    for (n /= 1000; n >= 999.95 && at < units.length - 1; at++) n /= 1000;
    return `${n.toFixed(1)} ${units[at]}`;
  };
  const describe = (item) => {
    const row = rowOf(item), is = said(row);
    const size = is.size === "–" ? "size not known" : is.size;
    if (item.id[0] === "l") {
      const words = [size, count(Number(is.paths), "store path"), is.state];
      return [`layer ${is.layer}`, words.filter(Boolean).join(", "), Object.values(is).at(-1)];
    }
    const whole = [is.name, is.version].filter(Boolean).join("-");
    const words = [size, `layer ${is.layer}`, is.state];
    return [[is.name, is.version].filter(Boolean).join(" "), words.filter(Boolean).join(", "), is.hash && `${is.hash}-${whole}`];
  };

  // A tree with one stop for the tab key.
  let current = null;
  const opened = () => map.querySelector(".open");
  const select = (item, focus) => {
    if (current) current.tabIndex = -1;
    current = item;
    item.tabIndex = 0;
    if (focus) item.focus({ preventScroll: true });
  };
  map.removeAttribute("aria-hidden");
  map.setAttribute("role", "tree");
  map.setAttribute("aria-labelledby", "map-title");
  for (const layer of layers) {
    layer.lastElementChild.setAttribute("role", "group");
    layer.setAttribute("aria-expanded", "false");
    for (const item of [layer, ...cellsOf(layer)]) {
      item.setAttribute("role", "treeitem");
      item.setAttribute("aria-label", describe(item).slice(0, 2).join(", "));
      item.tabIndex = -1;
    }
  }
  if (layers.length) select(layers[0]);

  const show = (layer) => {
    const before = opened();
    if (before === layer) return;
    if (before) {
      before.classList.remove("open");
      before.setAttribute("aria-expanded", "false");
    }
    map.classList.toggle("zoomed", Boolean(layer));
    back.hidden = !layer;
    tip.hidden = true;
    const hadFocus = map.contains(document.activeElement) || document.activeElement === back;
    if (layer) {
      layer.classList.add("open");
      layer.setAttribute("aria-expanded", "true");
      where.textContent = describe(layer).slice(0, 2).join(": ");
      // The largest is the one at the top left.
      const cells = cellsOf(layer).sort((a, b) => a.id.slice(1) - b.id.slice(1));
      select(cells[0] ?? layer, hadFocus);
    } else {
      where.textContent = overview;
      if (before) select(before, hadFocus);
    }
  };
  // The layer is in the address, so that it can be linked and gone back from: not
  // as its id alone, to which the browser would scroll.
  const fromAddress = () => {
    const [, at] = /^#(?:at=)?l(\d+)$/.exec(location.hash) ?? [];
    const layer = layers[at] ?? null;
    show(layer);
    if (layer) $("map-title").scrollIntoView();
    const [, words] = /^#find=(.*)$/.exec(location.hash) ?? [];
    if (words !== undefined) {
      try {
        find.value = decodeURIComponent(words);
      } catch {
        find.value = words;
      }
      search();
    }
  };
  const go = (layer) => {
    if (layer !== opened()) history.pushState(null, "", layer ? `#at=${layer.id}` : "#");
    show(layer);
  };
  const reveal = (cell) => {
    const row = rowOf(cell);
    for (const other of document.querySelectorAll("tr.shown")) other.classList.remove("shown");
    row.hidden = false;
    row.classList.add("shown");
    row.scrollIntoView({ block: "center" });
    row.tabIndex = -1;
    row.focus({ preventScroll: true });
  };
  const use = (item) => {
    const layer = item.closest(".layer");
    if (opened() === layer) {
      if (item !== layer) reveal(item);
    } else if (cellsOf(layer).length) {
      go(layer);
    }
  };
  map.addEventListener("click", (event) => {
    const item = event.target.closest(".cell, .layer");
    if (!item) return;
    select(opened() ? item : item.closest(".layer"), true);
    use(item);
  });
  back.addEventListener("click", () => go(null));
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#l"]');
    if (!link) return;
    event.preventDefault();
    go($(link.hash.slice(1)));
    $("map-title").scrollIntoView();
    current?.focus({ preventScroll: true });
  });
  addEventListener("popstate", fromAddress);

  // The nearest one in a direction; what is not straight ahead counts as farther.
  const towards = (items, from, dx, dy) => {
    const middle = (item) => {
      const box = item.getBoundingClientRect();
      return [box.left + box.width / 2, box.top + box.height / 2];
    };
    const [x, y] = middle(from);
    let best = null, least = Infinity;
    for (const item of items) {
      const [a, b] = middle(item);
      const ahead = (a - x) * dx + (b - y) * dy, aside = Math.abs((a - x) * dy) + Math.abs((b - y) * dx);
      if (item === from || ahead < 1) continue;
      if (ahead + 2 * aside < least) [best, least] = [item, ahead + 2 * aside];
    }
    return best;
  };
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  map.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || !current) return;
    const layer = opened();
    const items = layer ? cellsOf(layer) : layers;
    let next = null;
    if (arrows[event.key]) next = towards(items, current, ...arrows[event.key]) ?? current;
    else if (event.key === "Home") next = items[0];
    else if (event.key === "End") next = items.at(-1);
    else if (event.key === "Enter" || event.key === " ") use(current);
    else if (event.key === "Escape" && layer) go(null);
    else return;
    event.preventDefault();
    if (next) select(next, true);
  });

  // What the pointer or the focus is on.
  const tell = (item, x, y) => {
    const [name, words, rest] = describe(item);
    const line = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
    tip.replaceChildren(line("strong", name), line("span", words), line("small", rest ?? ""));
    tip.hidden = false;
    const { width, height } = tip.getBoundingClientRect();
    const left = Math.max(8, Math.min(x + 14, innerWidth - width - 8));
    const top = y + 18 + height > innerHeight ? Math.max(8, y - height - 12) : y + 18;
    tip.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
  };
  map.addEventListener("pointermove", (event) => {
    const item = event.target.closest(".cell, .layer");
    if (item && event.pointerType !== "touch") tell(item, event.clientX, event.clientY);
    else tip.hidden = true;
  });
  map.addEventListener("pointerleave", () => { tip.hidden = true; });
  map.addEventListener("focusin", (event) => {
    if (!event.target.matches(":focus-visible")) return;
    const box = event.target.getBoundingClientRect();
    tell(event.target, box.left, Math.min(box.bottom, innerHeight - 40) - 14);
  });
  map.addEventListener("focusout", () => { tip.hidden = true; });
  addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });

  // Words that are all in a row; matches are marked where the browser can.
  const texts = new Map([...pathRows, ...packageRows].map((row) => {
    const is = said(row);
    const whole = [is.name, is.version].filter(Boolean).join("-");
    return [row, [is.hash && `${is.hash}-${whole}`, ...Object.values(is)].join(" ").toLowerCase()];
  }));
  const total = pathRows.reduce((sum, row) => sum + Math.max(0, sizeOf(row)), 0);
  const mark = (rows, words) => {
    if (!CSS.highlights) return;
    const ranges = [];
    for (const row of words.length ? rows : []) {
      const walker = document.createTreeWalker(row, NodeFilter.SHOW_TEXT);
      while (walker.nextNode()) {
        const text = walker.currentNode.data.toLowerCase();
        for (const word of words) {
          for (let at = text.indexOf(word); at >= 0; at = text.indexOf(word, at + word.length)) {
            if (at + word.length > walker.currentNode.length) break;
            const range = new Range();
            range.setStart(walker.currentNode, at);
            range.setEnd(walker.currentNode, at + word.length);
            ranges.push(range);
          }
        }
      }
    }
    CSS.highlights.set("found", new Highlight(...ranges));
  };
  function search() {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = (row) => words.every((word) => texts.get(row).includes(word));
    const hits = [], layersHit = new Set();
    pathRows.forEach((row, at) => {
      const hit = words.length > 0 && found(row);
      row.hidden = words.length > 0 && !hit;
      $(`p${at}`).classList.toggle("hit", hit);
      if (hit) {
        hits.push(row);
        layersHit.add(Number(row.dataset.layer));
      }
    });
    layers.forEach((layer, at) => {
      layer.classList.toggle("hit", layersHit.has(at));
      layerRows[at].classList.toggle("hit", layersHit.has(at));
    });
    const changes = packageRows.filter((row) => {
      row.hidden = words.length > 0 && !found(row);
      return !row.hidden;
    });
    map.classList.toggle("finding", words.length > 0);
    mark([...hits, ...changes], words);
    const sizes = hits.map(sizeOf), sum = sizes.reduce((a, b) => a + Math.max(0, b), 0);
    const share = total > 0 && sum > 0 ? ` (${(sum / total * 100).toFixed(1)} %)` : "";
    const size = sizes.some((size) => size < 0) ? "" : `, ${bytes(sum)}${share}`;
    $("found").textContent = words.length === 0 ? "" : hits.length === 0 ? "no store path"
      : `${count(hits.length, "store path")}${size}, in ${count(layersHit.size, "layer")}`;
  }
  find.addEventListener("input", search);
  find.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || find.value === "") return;
    find.value = "";
    search();
    event.preventDefault();
  });
  $("tools").addEventListener("submit", (event) => event.preventDefault());

  // Columns sort by number where there is one.
  const byText = new Intl.Collator("en", { numeric: true }).compare;
  for (const table of document.querySelectorAll("table")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, at) => {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: head.textContent });
      head.replaceChildren(button);
      const value = (row) => row.cells[at].dataset.n;
      button.addEventListener("click", () => {
        const was = head.getAttribute("aria-sort");
        // Of amounts the largest is most often wanted first.
        const first = ["size", "growth", "paths"].includes(columns.get(table)[at]) ? "descending" : "ascending";
        const now = was ? (was === "ascending" ? "descending" : "ascending") : first;
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", now);
        const sign = now === "ascending" ? 1 : -1;
        const rows = [...table.tBodies[0].rows].sort((a, b) => sign * (value(a) === undefined
          ? byText(a.cells[at].textContent, b.cells[at].textContent)
          : value(a) - value(b)));
        table.tBodies[0].append(...rows);
      });
    });
  }

  $("tools").hidden = $("keys").hidden = false;
  fromAddress();
})();
