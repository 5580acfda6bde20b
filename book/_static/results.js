/* Filters, sorting and a dialog for the table of all runs (book/_ext/adakd_book/results.py). The table stands in the
   page and is whole without this script: its rows say in data attributes what a filter reads, and the JSON beside it
   holds what the dialog of a run shows. The filters are kept in the address, so that a view can be linked to. */
(() => {
  const FILTERS = [
    ["method", "Method"],
    ["pair", "Networks"],
    ["data", "Data"],
    ["protocol", "Protocol"],
    ["weights", "Weights"],
    ["source", "Experiment"],
    ["seeds", "Seeds"],
  ];

  function make(tag, properties = {}, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  }

  // A row that belongs to several choices has them between bars.
  const values = (row, name) => row.dataset[name].split("|");

  function start(box) {
    const table = box.querySelector("table");
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const groups = JSON.parse(box.querySelector("script").textContent);
    const count = make("p", { className: "results-count" });
    count.setAttribute("role", "status");
    const selects = new Map();

    // ---- filters ----

    const fits = (row, name, wanted) =>
      !wanted ||
      (name === "seeds"
        ? Number(row.dataset.seeds) >= Number(wanted)
        : values(row, name).includes(wanted));

    function choices(name) {
      if (name === "seeds") return ["2", "3", "5"].map((n) => [n, `${n} or more`]);
      const found = [...new Set(rows.flatMap((row) => values(row, name)))].sort();
      return found.map((value) => [value, value]);
    }

    function filter() {
      let groupsLeft = 0;
      let runsLeft = 0;
      for (const row of rows) {
        row.hidden = ![...selects].every(([name, select]) => fits(row, name, select.value));
        groupsLeft += !row.hidden;
        runsLeft += row.hidden ? 0 : Number(row.dataset.seeds);
      }
      count.textContent = `${groupsLeft} of ${rows.length} groups, ${runsLeft} runs`;
      const set = [...selects].filter(([, select]) => select.value);
      reset.hidden = !set.length;
      const query = new URLSearchParams(set.map(([name, select]) => [name, select.value]));
      const address = set.length ? `#?${query}` : location.pathname + location.search;
      if (location.hash.startsWith("#?") || set.length) history.replaceState(null, "", address);
    }

    function readAddress() {
      if (!location.hash.startsWith("#?")) return;
      const query = new URLSearchParams(location.hash.slice(2));
      for (const [name, select] of selects) select.value = query.get(name) ?? "";
      for (const select of selects.values()) if (select.selectedIndex < 0) select.value = "";
    }

    const bar = make("form", { className: "results-filters" });
    bar.setAttribute("aria-label", "Which runs are shown");
    for (const [name, title] of FILTERS) {
      const found = choices(name);
      if (found.length < 2) continue;
      const options = [["", "all"], ...found].map(([value, text]) => new Option(text, value));
      const select = make("select", { name }, ...options);
      select.addEventListener("change", filter);
      selects.set(name, select);
      bar.append(make("label", {}, make("span", { textContent: title }), select));
    }
    const reset = make("button", { type: "reset", textContent: "Show all", hidden: true });
    bar.append(reset);
    bar.addEventListener("reset", () => setTimeout(filter)); // after the selects are
    bar.addEventListener("submit", (event) => event.preventDefault());

    // ---- sorting ----

    const numeric = new Set(["accuracy", "seeds"]);
    const heads = [...table.tHead.querySelectorAll("th[data-sort]")];

    function sort(head) {
      const name = head.dataset.sort;
      const before = head.getAttribute("aria-sort");
      const first = numeric.has(name) ? "descending" : "ascending";
      const second = numeric.has(name) ? "ascending" : "descending";
      const order = before === first ? second : first;
      const sign = order === "ascending" ? 1 : -1;
      const compare = numeric.has(name)
        ? (a, b) => a.dataset[name] - b.dataset[name]
        : (a, b) => a.dataset[name].localeCompare(b.dataset[name]);
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      rows.sort((a, b) => sign * compare(a, b) || a.dataset.group - b.dataset.group);
      body.append(...rows);
    }

    for (const head of heads) {
      const button = make("button", { type: "button", textContent: head.textContent });
      button.addEventListener("click", () => sort(head));
      head.replaceChildren(button);
    }

    // ---- one run ----

    const title = make("h2", { id: "results-run" });
    const facts = make("dl");
    const command = make("pre");
    const copy = make("button", { type: "button", textContent: "Copy" });
    const config = make("pre");
    const file = make("a", { textContent: "The whole record" });
    const close = make("button", { type: "button", textContent: "Close", className: "close" });
    const dialog = make(
      "dialog",
      { className: "results-run" },
      close,
      title,
      facts,
      make("h3", { textContent: "The command that repeats it" }, copy),
      command,
      make("h3", { textContent: "Configuration" }),
      config,
      make("p", {}, file, ", with its versions, hardware and the history of every epoch (JSON)."),
    );
    dialog.setAttribute("aria-labelledby", title.id);
    command.setAttribute("aria-label", "Command");
    config.setAttribute("aria-label", "Configuration");
    close.addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());

    copy.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(command.textContent);
        copy.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(command); // for the reader's own Ctrl-C
        copy.textContent = "Selected";
      }
    });

    function show(link) {
      const row = link.closest("tr");
      const group = groups[row.dataset.group];
      const run = group.runs.find((each) => each.file === link.getAttribute("href"));
      const { config: settings } = group;
      title.textContent = `${settings.method}, seed ${run.seed}: ${run.last.toFixed(2)} %`;
      const lines = [
        ["Experiment", values(row, "source").join(", ")],
        ["Weights", values(row, "weights").join(", ")],
        ["Best epoch", `${run.best.toFixed(2)} % after epoch ${run.best_epoch}`],
        ["Trained", `${Math.round(run.seconds)} s on ${run.hardware}, ${run.finished}`],
        ["Commit", run.commit],
      ];
      facts.replaceChildren(
        ...lines.flatMap(([name, text]) => [
          make("dt", { textContent: name }),
          make("dd", { textContent: text }),
        ]),
      );
      command.textContent = group.command.replace(/--seed \d+$/, `--seed ${run.seed}`);
      copy.textContent = "Copy";
      config.textContent = JSON.stringify({ ...settings, seed: run.seed }, null, 1);
      file.href = run.file;
      dialog.showModal();
      // The theme takes what does not scroll out of the tab order, and a hidden text does not.
      for (const text of [command, config]) text.tabIndex = 0;
      dialog.scrollTop = 0;
    }

    body.addEventListener("click", (event) => {
      const link = event.target.closest(".runs a");
      if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return; // into a tab of its own
      event.preventDefault();
      show(link);
    });

    box.prepend(bar, count);
    box.append(dialog);
    box.classList.add("is-live");
    readAddress();
    filter();
    addEventListener("hashchange", () => {
      readAddress();
      filter();
    });
  }

  for (const box of document.querySelectorAll(".results")) start(box);
})();
