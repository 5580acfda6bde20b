/* Shows what a term means and what an equation says beside the link that names it: to a pointer that rests on it, to the
   keyboard's focus, and to a touch. One box a page; Escape closes it. Formulas are set by the page's own MathJax. */
(() => {
  const links = document.querySelectorAll("a.term[title], a.equation[data-tex]");
  if (!links.length) return;

  const box = document.createElement("div");
  box.className = "explanation";
  box.id = "explanation";
  box.role = "tooltip";
  box.hidden = true;
  document.body.append(box);

  let shown = null;
  let timer = 0;
  const contents = new Map();

  function content(link) {
    if (!contents.has(link)) {
      const node = document.createElement("div");
      if (link.dataset.tex) {
        for (const tex of link.dataset.tex.split("\n")) {
          const line = document.createElement("div");
          line.textContent = `\\[${tex}\\]`;
          line.className = "tex2jax_process mathjax_process";
          node.append(line);
        }
      } else {
        node.textContent = link.dataset.sentence;
      }
      contents.set(link, node);
    }
    return contents.get(link);
  }

  function place(link) {
    const at = link.getBoundingClientRect();
    const wide = document.documentElement.clientWidth;
    const left = Math.max(8, Math.min(at.left, wide - box.offsetWidth - 8));
    const below = at.bottom + 6 + box.offsetHeight < window.innerHeight;
    const top = below ? at.bottom + 6 : at.top - 6 - box.offsetHeight;
    box.style.left = `${left + window.scrollX}px`;
    box.style.top = `${top + window.scrollY}px`;
  }

  async function show(link) {
    clearTimeout(timer);
    const node = content(link);
    box.replaceChildren(node);
    box.hidden = false;
    shown = link;
    link.setAttribute("aria-describedby", box.id);
    place(link);
    if (
      link.dataset.tex &&
      window.MathJax?.typesetPromise &&
      !node.querySelector("mjx-container")
    ) {
      await MathJax.typesetPromise([node]);
      if (shown === link) place(link);
    }
  }

  function hide() {
    clearTimeout(timer);
    shown?.removeAttribute("aria-describedby");
    shown = null;
    box.hidden = true;
  }

  const hideSoon = () => {
    clearTimeout(timer);
    timer = setTimeout(hide, 150); // time enough to move the pointer into the box
  };

  for (const link of links) {
    if (link.title) {
      link.dataset.sentence = link.title;
      link.removeAttribute("title"); // else the browser shows it a second time
    }
    link.addEventListener("pointerenter", () => {
      clearTimeout(timer);
      timer = setTimeout(() => show(link), 120);
    });
    link.addEventListener("pointerleave", hideSoon);
    link.addEventListener("focus", () => show(link));
    link.addEventListener("blur", hideSoon);
  }
  box.addEventListener("pointerenter", () => clearTimeout(timer));
  box.addEventListener("pointerleave", hideSoon);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && shown) hide();
  });
})();
