/* Starts the book's anywidget figures on a page that has no kernel.

   The notebook's saved state is in the page as JSON: for each model its values, its ES module (_esm) and its style
   (_css). Each figure gets a plain model with anywidget's interface (get, set, on, off, save_changes) and is drawn by
   its own render(). Nothing is sent anywhere: what Python would compute, the figure's JavaScript computes itself.

   A classic deferred script, because type=module does not load over file://; import() of a Blob does. */
(() => {
  const STATE = 'script[type="application/vnd.jupyter.widget-state+json"]';
  const VIEW = 'script[type="application/vnd.jupyter.widget-view+json"]';
  const REFERENCE = "IPY_MODEL_";

  function makeModel(values, models) {
    const listeners = new Map(); // event name -> array of callbacks
    const emit = (event, ...args) => {
      for (const callback of [...(listeners.get(event) ?? [])]) callback(...args);
    };
    const model = {
      get: (name) => (Object.hasOwn(values, name) ? values[name] : undefined),
      set(name, value) {
        const changes = typeof name === "object" ? name : { [name]: value };
        let changed = false;
        for (const [key, next] of Object.entries(changes)) {
          if (Object.is(values[key], next)) continue;
          values[key] = next;
          changed = true;
          emit(`change:${key}`, model, next, {});
        }
        if (changed) emit("change", model, {});
      },
      on(events, callback) {
        for (const event of events.split(/\s+/))
          listeners.set(event, [...(listeners.get(event) ?? []), callback]);
      },
      off(events, callback) {
        for (const event of events?.split(/\s+/) ?? [...listeners.keys()]) {
          listeners.set(
            event,
            (listeners.get(event) ?? []).filter((other) => callback && other !== callback),
          );
        }
      },
      save_changes() {},
      send() {},
      widget_manager: {
        async get_model(reference) {
          const found = models.get(String(reference).replace(REFERENCE, ""));
          if (!found) throw new Error(`there is no model ${reference} on this page`);
          return found.model;
        },
      },
    };
    return model;
  }

  /* Into a saved value by its own keys only: a path through __proto__ would lead to every object of the page. */
  function step(node, key) {
    if (!Object.hasOwn(node, key))
      throw new Error(`its saved state has a buffer at ${key}, where there is nothing`);
    return node[key];
  }

  /* Binary values (arrays) are saved beside the state, as base64 with the path where they belong. */
  function placeBuffers(values, buffers = []) {
    for (const { path, data, encoding } of buffers) {
      const bytes =
        encoding === "hex"
          ? Uint8Array.from(data.match(/../g) ?? [], (pair) => parseInt(pair, 16))
          : Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
      const last = path.at(-1);
      const holder = path.slice(0, -1).reduce(step, values);
      Object.defineProperty(holder, last, {
        value: new DataView(bytes.buffer),
        writable: true,
        enumerable: true,
        configurable: true,
      });
    }
  }

  function readModels() {
    const models = new Map(); // model id -> { model, values, started }
    for (const script of document.querySelectorAll(STATE)) {
      for (const [id, { state, buffers }] of Object.entries(JSON.parse(script.textContent).state)) {
        placeBuffers(state, buffers);
        models.set(id, { model: makeModel(state, models), values: state, started: null });
      }
    }
    return models;
  }

  const modules = new Map(); // source -> promise of its widget definition
  function load(source) {
    if (!modules.has(source)) {
      const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
      const loading = import(url)
        .then(async (module) => {
          if (module.render) return { render: module.render };
          const widget =
            typeof module.default === "function" ? await module.default() : module.default;
          if (!widget) throw new Error("its module has no default export");
          return widget;
        })
        .finally(() => URL.revokeObjectURL(url));
      modules.set(source, loading);
    }
    return modules.get(source);
  }

  const styles = new Set();
  function addStyle(css) {
    if (!css || styles.has(css)) return;
    styles.add(css);
    document.head.append(Object.assign(document.createElement("style"), { textContent: css }));
  }

  async function start(entry, leaving) {
    const widget = await load(entry.values._esm);
    addStyle(entry.values._css);
    const cleanup = await widget.initialize?.({
      model: entry.model,
      signal: leaving,
      experimental: {},
    });
    if (typeof cleanup === "function") leaving.addEventListener("abort", cleanup);
    return widget;
  }

  async function mount(box, models, leaving) {
    const id = JSON.parse(box.querySelector(VIEW).textContent).model_id;
    const entry = models.get(id);
    if (!entry) throw new Error("its saved state is not in the page");
    entry.started ??= start(entry, leaving);
    const widget = await entry.started;
    const el = document.createElement("div");
    el.className = "live-figure-canvas";
    box.append(el); // before render, so that a figure can measure itself
    try {
      const cleanup = await widget.render?.({
        model: entry.model,
        el,
        signal: leaving,
        experimental: {},
      });
      if (typeof cleanup === "function") leaving.addEventListener("abort", cleanup);
    } catch (error) {
      el.remove();
      throw error;
    }
    box.classList.add("is-live");
  }

  function sayWhy(box, error) {
    console.error("live figure:", error);
    const note = document.createElement("p");
    note.className = "live-figure-error";
    note.setAttribute("role", "alert");
    note.textContent = `This figure could not start: ${error?.message ?? error}.`;
    box.append(note);
    box.classList.add("is-broken");
  }

  const boxes = document.querySelectorAll(".live-figure");
  if (!boxes.length) return;
  const leave = new AbortController();
  // A page kept for the back button stays alive, and so do its figures.
  addEventListener("pagehide", (event) => event.persisted || leave.abort());
  let models;
  try {
    models = readModels();
  } catch (error) {
    for (const box of boxes) sayWhy(box, error);
    return;
  }
  const drawn = [...boxes].map((box) =>
    mount(box, models, leave.signal).catch((error) => sayWhy(box, error)),
  );

  // Formulas wait for the figures, which take a fraction of their time: this script comes before MathJax's.
  window.MathJax ??= {};
  const settings = window.MathJax;
  settings.startup = {
    ...settings.startup,
    pageReady: () => Promise.all(drawn).then(() => window.MathJax.startup.defaultPageReady()),
  };
})();
